"""BaseHandler for pages, ApiHandler for their JavaScript."""

from __future__ import annotations

import json
from typing import Any, overload
from urllib.parse import unquote, urlencode

from tornado.web import HTTPError

from app.bff.authorization import Rule
from app.bff.clients.registry import ApiClient, Typed
from app.bff.errors import (
    CsrfRejected,
    InsufficientAuthentication,
    NoSession,
    NotAllowed,
    ReauthenticationRequired,
)
from app.bff.handlers.web import WebHandler, anonymous_key_of, login_url
from app.bff.oidc.claims import unmet_requirement
from app.bff.oidc.step_up import AuthenticationRequirements
from app.bff.paths import LOGOUT_PATH
from app.bff.sessions.data import SessionData
from app.bff.sessions.session import Session, Target
from app.bff.web.cookies import MAX_LOGIN_ATTEMPTS
from app.bff.web.cross_origin import OF_PREFETCHES, arrives_without_strict_cookies, csrf_refusal
from app.bff.web.json_body import Model, parse_json_body


class BaseHandler(WebHandler):
    """A Tornado `RequestHandler` with the session of the browser: the base class of your pages.

    `session` is the browser's `Session`, or None; it follows each refresh of its tokens. `services` are
    the engine's `Services`, `state` is what your `lifespan` has yielded. An `AppError` that is raised is
    answered with its status: for a navigation as an error page (NoSession redirects to the login), for
    `fetch()` as a problem document (RFC 9457). Every response has the engine's security headers. A
    state-changing request from another origin is refused with 403 (Origin, Sec-Fetch-Site).

    Class attributes to override: `max_body_bytes` (65,536: a larger body is answered with 413, and the
    handler is not called; works in any `RequestHandler`), `keeps_session_alive` (False: a request does not
    extend the idle time), `framed_by_same_site` (True: pages of this site may show it in a frame). An
    override of `prepare` must await this one's.

    Example::

        class Profile(BaseHandler):
            @authenticated
            async def get(self) -> None:
                self.render_page("profile.html", claims=self.require_session().claims)
    """

    keeps_session_alive = True
    retry_for_strict_cookies = True
    keeps_attempts = False  # whether cookies of too many login attempts stay: one may be used here
    retry_in_frames = False  # of those that this site may show

    @property
    def session_data(self) -> SessionData:
        """JSON values of yours in the session; raises NoSession (401) without one."""
        return self.services.session_data(self.require_session().ref)

    @property
    def state(self) -> Any:
        """What the application's `lifespan` has yielded: the same object in every handler of a process."""
        return self.settings["state"]

    async def prepare(self) -> None:
        if len(self.request_cookies) > MAX_LOGIN_ATTEMPTS and not self.keeps_attempts:
            self._delete_excess_attempts()
        session_id = self.request_cookies.get(self.services.cookies.session_name)
        if session_id:
            # A prefetch is no use of the session.
            sent = self.request.headers
            is_use = self.keeps_session_alive and not any(name in sent for name in OF_PREFETCHES)
            self.session = await self.services.load_session(session_id, keep_alive=is_use)
        elif self._may_lack_its_cookie():
            self.navigate_same_site(self.current_path)

    def _delete_excess_attempts(self) -> None:
        """Of tabs that have all started a login at once, and so did not see each other's cookies."""
        cookies = self.services.cookies
        for name in cookies.excess_attempts(self.request_cookies):
            self.clear_cookie(name, **cookies.login_cookie_attributes)

    def _may_lack_its_cookie(self) -> bool:
        return (
            self.retry_for_strict_cookies
            and self.services.settings.cookie_samesite == "strict"
            and arrives_without_strict_cookies(
                self.request.method or "",
                self.request.headers,
                in_a_frame_too=self.retry_in_frames and self.framed_by_same_site,
            )
        )

    def navigate_same_site(self, path: str) -> None:
        """Answer with a page that navigates to `path` by itself.

        A navigation that a page of this site starts is same-site, so `SameSite=Strict` cookies are sent
        with it; with a redirect they would not be, and a user who followed a link would look signed out.

        It never navigates to a logout or a remote API, which want a page of this site: another site could
        have either by a login that returns there.
        """
        starts_logout = unquote(path).lower().startswith(LOGOUT_PATH)
        segments = path.partition("#")[0].partition("?")[0] + "/"
        calls_api = any(segments.startswith(f"{api.path}/") for api in self.services.settings.remote_apis)
        self.render_page("bff/moving_on.html", target="/" if starts_logout or calls_api else path)

    def check_csrf(self) -> None:
        """Raise CsrfRejected (403) unless a script of ours, or of an allowed origin, has sent `X-CSRF: 1`."""
        is_shared = self.request.method in self.cors_methods
        origins = self.services.settings.allowed_origins if is_shared else ()
        refusal = csrf_refusal(self.request.headers, origins)
        if refusal:
            raise CsrfRejected(refusal)

    def clear_session_cookie(self) -> None:
        """Delete the session cookie in the browser."""
        self.clear_cookie(self.services.cookies.session_name, **self.services.cookies.session_attributes)

    def get_current_user(self) -> dict[str, Any] | None:
        """Return what `self.current_user` is: `sub` and `name` of the signed-in user, or None."""
        if self.session is None:
            return None
        return {"sub": self.session.subject, "name": name_of(self.session)}

    def json_body(self, model: type[Model]) -> Model:
        """Return the request's JSON body, validated, as an instance of a pydantic model.

        Raises, and so answers with a problem document: UnsupportedMediaType (415) unless the content
        type is `application/json` or ends in `+json`; BadRequest (400) if the body is not UTF-8, not JSON
        (RFC 8259), or has a name twice in an object; InvalidBody (422) if the model does not accept it. The
        document of a 422 has `errors`, a list of at most 20 `{"pointer": …, "detail": …}`: a JSON Pointer
        (RFC 6901) and a message without the value. (A validator of yours writes its own message.)

        A body beyond the handler's `max_body_bytes` is answered with 413 before the handler is called.

        Example::

            from pydantic import BaseModel, Field

            class NewOrder(BaseModel):
                article: str
                quantity: int = Field(gt=0)

            class Orders(ApiHandler):
                @authenticated
                async def post(self) -> None:
                    order = self.json_body(NewOrder)
                    self.finish_json({"ordered": order.quantity})
        """
        content_type = self.request.headers.get("Content-Type")
        return parse_json_body(content_type, self.request.body, model)

    @property
    def logout_url(self) -> str | None:
        """The path of a link that signs this browser out, or None without a session."""
        if self.session is None:
            return None
        return f"{LOGOUT_PATH}?{urlencode({'sid': self.session.sid})}"

    # Tokens and APIs.

    async def get_user_access_token(
        self, *, force_renewal: bool = False, scope: str | None = None, resource: str | None = None
    ) -> str:
        """Return the user's access token, valid now; one that is about to expire is refreshed first.

        With `scope` or `resource` (RFC 8707) it is a token for that alone. `force_renewal` returns
        another token than the session has, even if that is valid. Concurrent calls cause one refresh.

        Raises a kind of Unauthorized, answered with 401: NoSession, there is no session; SessionEnded, the
        provider has refused the refresh token and the session is over; ReauthenticationRequired, the
        session cannot get another token; TokenUnavailable, the provider does not answer: the session
        stays, try later. Raises ValueError for a `resource` that is not an absolute URI.

        Example::

            class Report(ApiHandler):
                async def get(self) -> None:
                    token = await self.get_user_access_token(resource="https://orders.example.com")
                    self.finish_json({"length": len(token)})  # never send a token to a browser
        """
        session, target = self.require_session(), Target(scope, resource)
        known = session.tokens_for(target) if force_renewal else None
        rejected = known.access_token if known else None
        tokens = await self.services.tokens.tokens(session, target=target, rejected=rejected, holder=self)
        return tokens.access_token

    async def renew_claims(self, max_age_seconds: int) -> None:
        """Refresh the session, unless its claims were renewed in the last `max_age_seconds`.

        Raises as `get_user_access_token`; ReauthenticationRequired also if a refresh renews no claims, which
        is not tried again in that time. `@authenticated(fresh_claims=60)` does this for a whole method.

        Example::

            class Grant(ApiHandler):
                @authenticated
                async def post(self) -> None:
                    await self.renew_claims(10)
                    self.finish_json({"granted": self.may({"groups": "admins"})})
        """
        if self._have_old_claims(session := self.require_session(), max_age_seconds):
            received_at, now = session.tokens.received_at, self.services.clock()
            was_in_vain = session.claims_renewed_at < received_at and now - received_at <= max_age_seconds
            if not was_in_vain:
                await self.get_user_access_token(force_renewal=True)
            if self._have_old_claims(self.require_session(), max_age_seconds):
                raise ReauthenticationRequired("For this you have to sign in again.")

    def _have_old_claims(self, session: Session, max_age_seconds: int) -> bool:
        return self.services.clock() - session.claims_renewed_at > max_age_seconds

    async def get_client_access_token(self, name: str) -> str:
        """Return this application's own access token (RFC 6749 §4.4) for the named client.

        All users share it; it is renewed when it is about to expire. Raises UnknownClient, or
        TokenUnavailable (401) if the provider does not answer or refuses.

        Example::

            class Stock(ApiHandler):
                async def get(self) -> None:
                    token = await self.get_client_access_token("apiClient")
                    self.finish_json({"length": len(token)})
        """
        return await self.services.clients.application_token(name)

    async def revoke_user_refresh_token(self) -> None:
        """Revoke the user's refresh token (RFC 7009): now, or later if the provider does not answer.

        The session stays until its access token expires; then ReauthenticationRequired is raised.
        Raises NoSession, or StoreUnavailable (503).

        Example::

            class Unlink(ApiHandler):
                async def delete(self) -> None:
                    await self.revoke_user_refresh_token()
                    self.set_status(204)
        """
        await self.services.tokens.revoke(self.require_session())

    @overload
    def create_client(self, client: str) -> ApiClient: ...
    @overload
    def create_client(self, client: type[Typed]) -> Typed: ...
    def create_client(self, client: str | type[Typed]) -> ApiClient | Typed:
        """Return the named HTTP client, or a `TypedClient`, for the session of this request.

        Its requests carry the token that the settings of the client name; a refresh that one client
        causes serves all of this handler. Raises UnknownClient (500), which lists the names in the
        settings. What its requests raise is in `ApiClient`.

        Example::

            class Todos(ApiHandler):
                async def get(self) -> None:
                    async with self.create_client("apiClient").get("todos") as response:
                        self.finish_json(await response.json())
        """
        key = None if self.session else anonymous_key_of(self.services, self.request)
        return self.services.clients.create(client, self, anonymous_key=key)

    def require_authentication(
        self, requirements: AuthenticationRequirements, rule: Rule | None = None
    ) -> None:
        """Raise NoSession, NotAllowed, or InsufficientAuthentication (RFC 9470), unless they are met."""
        self.login_requirements = requirements
        claims = self.require_session().claims
        if rule is not None and not rule.allows(claims):
            raise NotAllowed(rule=str(rule))
        unmet = unmet_requirement(requirements, claims, now=self.services.clock())
        if unmet:
            raise InsufficientAuthentication(_UNMET[unmet], login_parameters=requirements.params)

    def require_session(self) -> Session:
        """Return the session of the browser, or raise NoSession (401)."""
        if self.session is None:
            raise NoSession("there is no session")
        return self.session

    async def own_sessions(self) -> list[Session]:
        """Return all sessions of the signed-in user, in this browser and in others, the oldest first.

        Raises NoSession (401), or StoreUnavailable (503).
        """
        session = self.require_session()
        return await self.services.sessions.of_user(session.issuer, session.subject)


def name_of(session: Session) -> Any:
    """Return what pages call the user."""
    return session.claims.get("name") or session.claims.get("email") or session.subject


_UNMET = {
    "acr": "This needs another way of signing in than the one that you have used.",
    "auth_time": "For this you must have signed in a short time ago.",
}


class ApiHandler(BaseHandler):
    """A `BaseHandler` for your pages' JavaScript: requires `X-CSRF: 1`, and answers errors as JSON.

    The header cannot be sent from another origin without CORS, which is off but for BFF_ALLOWED_ORIGINS: a
    request without it is refused with 403 `csrf_rejected`. An error is a problem document (RFC 9457) with
    `code`, `title`, `detail` and, where signing in helps, `login_url`; there are no redirects and no error
    pages.

    Example::

        class Me(ApiHandler):
            @authenticated
            async def get(self) -> None:
                self.finish_json({"subject": self.require_session().subject})
    """

    renders_html = False
    retry_for_strict_cookies = False
    cors_methods = WebHandler.SUPPORTED_METHODS

    @property
    def login_url(self) -> str:
        """Without a return path: the page adds its own."""
        return login_url(None, self.login_requirements)

    async def prepare(self) -> None:
        self.check_csrf()
        await super().prepare()

    def finish_json(self, value: Any) -> None:
        """Finish the response with any JSON value; Tornado's own `finish` takes objects only."""
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(value))


class NoRoute(BaseHandler):
    """Answers 404 where no route matches, with the headers and the look of any other page."""

    keeps_session_alive = False
    retry_for_strict_cookies = False

    async def prepare(self) -> None:
        await super().prepare()
        raise HTTPError(404)

    def check_trusted_origin(self, origin: str) -> bool:
        return True  # a 404 changes no state
