"""BaseHandler, which your pages extend, and ApiHandler, which answers your pages' JavaScript."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, overload
from urllib.parse import urlencode

from tornado.web import HTTPError

from app.bff.clients.registry import ApiClient, Typed
from app.bff.errors import CsrfRejected, InsufficientAuthentication, NoSession
from app.bff.handlers.web import WebHandler, login_url
from app.bff.oidc.claims import unmet_requirement
from app.bff.oidc.step_up import AuthenticationRequirements
from app.bff.paths import LOGOUT_PATH
from app.bff.sessions.session import Session, Target
from app.bff.web.cross_origin import arrives_without_strict_cookies, csrf_refusal
from app.bff.web.json_body import Model, parse_json_body


class BaseHandler(WebHandler):
    """A handler that knows the session: extend it for pages.

    `self.session` is the session of the browser, or None. A handler that overrides `prepare` must
    await this one's.
    """

    session: Session | None = None
    keeps_session_alive = True
    retry_for_strict_cookies = True

    @property
    def state(self) -> Any:
        """What the application's `lifespan` has yielded: the same object in every handler."""
        return self.settings["state"]

    async def prepare(self) -> None:
        session_id = self.get_cookie(self.services.cookies.session_name)
        if session_id:
            self.session = await self.services.load_session(session_id, keep_alive=self.keeps_session_alive)
        elif self._may_lack_its_cookie():
            self.navigate_same_site(self.current_path)

    def _may_lack_its_cookie(self) -> bool:
        return (
            self.retry_for_strict_cookies
            and self.services.settings.cookie_samesite == "strict"
            and arrives_without_strict_cookies(self.request.method or "", self.request.headers)
        )

    def navigate_same_site(self, path: str) -> None:
        """Answer with a tiny page of our own that goes to `path`.

        What a page of this site starts is same-site, so `SameSite=Strict` cookies come along; with a
        redirect they would not, and a person who followed a link would look signed out.
        """
        self.render_page("bff/moving_on.html", target=path)

    def check_csrf(self) -> None:
        """Raise CsrfRejected unless one of our own pages has sent this request by JavaScript."""
        refusal = csrf_refusal(self.request.headers)
        if refusal:
            raise CsrfRejected(refusal)

    def clear_session_cookie(self) -> None:
        """Let the browser forget its session, which is over."""
        self.clear_cookie(self.services.cookies.session_name, **self.services.cookies.session_attributes())

    def get_current_user(self) -> dict[str, Any] | None:
        if self.session is None:
            return None
        claims = self.session.claims
        return {
            "sub": self.session.subject,
            "name": claims.get("name") or claims.get("email") or self.session.subject,
        }

    def json_body(self, model: type[Model]) -> Model:
        """Return the request's JSON body, validated, as an instance of a pydantic model.

        Raises, and so answers with a problem document: UnsupportedMediaType (415) unless the content
        type is `application/json` or ends in `+json`; BadRequest (400) if the body is not UTF-8, not
        JSON (RFC 8259), or has a name twice in an object; InvalidBody (422) if the model does not accept
        it. The document of a 422 has `errors`, a list of at most 20 `{"pointer": …, "detail": …}`: a JSON
        Pointer (RFC 6901) and a message without the value. (A validator of yours writes its own message.)
        """
        return parse_json_body(self.request.headers.get("Content-Type"), self.request.body, model)

    @property
    def logout_url(self) -> str | None:
        if self.session is None:
            return None
        return f"{LOGOUT_PATH}?{urlencode({'sid': self.session.sid})}"

    def page_context(self) -> dict[str, Any]:
        return {**super().page_context(), "user": self.current_user, "logout_url": self.logout_url}

    # Tokens and APIs.

    async def get_user_access_token(
        self, *, force_renewal: bool = False, scope: str | None = None, resource: str | None = None
    ) -> str:
        """Return the user's access token, good right now; it is refreshed when it is about to expire.

        With `scope` or `resource` (RFC 8707), it is one for just that. Raises Unauthorized, which is
        answered with 401 and a code, when none can be had. `force_renewal` gets another one even so.
        """
        session, target = self.require_session(), Target(scope, resource)
        known = session.tokens_for(target) if force_renewal else None
        rejected = known.access_token if known else None
        tokens = await self.services.tokens.tokens(session, target=target, rejected=rejected, holder=self)
        return tokens.access_token

    async def get_client_access_token(self, name: str) -> str:
        """Return this application's own token (client credentials) for the named client.

        Raises UnknownClient, or TokenUnavailable when the provider does not answer.
        """
        return await self.services.clients.application_token(name)

    async def revoke_user_refresh_token(self) -> None:
        """Revoke the user's refresh token: now, or as soon as the provider answers."""
        await self.services.tokens.revoke(self.require_session())

    @overload
    def create_client(self, client: str) -> ApiClient: ...
    @overload
    def create_client(self, client: type[Typed]) -> Typed: ...
    def create_client(self, client: str | type[Typed]) -> ApiClient | Typed:
        """Return an HTTP client by name, or a TypedClient by class, that carries the right token.

        Raises UnknownClient, which names those that there are.
        """
        return self.services.clients.create(client, self)

    def require_authentication(self, demands: AuthenticationRequirements) -> None:
        """Raise NoSession, or InsufficientAuthentication (RFC 9470), unless somebody has signed in so."""
        self.login_requirements = demands
        short = unmet_requirement(demands, self.require_session().claims, now=self.services.clock())
        if short:
            raise InsufficientAuthentication(_SHORT[short], demands=demands.params)

    def require_session(self) -> Session:
        """Return the session of the browser, or raise NoSession."""
        if self.session is None:
            raise NoSession("nobody is signed in")
        return self.session

    async def own_sessions(self) -> list[Session]:
        """Return all sessions of the signed-in user, in this browser and in others, the oldest first."""
        session = self.require_session()
        return await self.services.sessions.of_user(session.issuer, session.subject)


_SHORT = {
    "acr": "This needs another way of signing in than the one that you have used.",
    "auth_time": "For this you must have signed in a short time ago.",
}


class ApiHandler(BaseHandler):
    """A handler for your pages' JavaScript: wants `X-CSRF: 1`, and never answers with a page."""

    renders_html = False
    retry_for_strict_cookies = False

    @property
    def login_url(self) -> str:
        """The page knows where it wants to come back to, the API it calls does not."""
        return login_url(None, self.login_requirements)

    async def prepare(self) -> None:
        self.check_csrf()
        await super().prepare()

    def finish_json(self, value: Any) -> None:
        """Answer with any JSON value; Tornado's own `finish` takes objects only."""
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
        return True  # nothing happens here that another site could want


Method = Callable[..., Awaitable[None] | None]
Guarded = Callable[..., Awaitable[None]]


@overload
def authenticated(method: Method, /) -> Guarded: ...
@overload
def authenticated(
    *, acr: str | Sequence[str] = (), max_age: int | None = None
) -> Callable[[Method], Guarded]: ...
def authenticated(
    method: Method | None = None, /, *, acr: str | Sequence[str] = (), max_age: int | None = None
) -> Guarded | Callable[[Method], Guarded]:
    """Let only signed-in users in: 401 for a `fetch()`, the way to the login page for a person.

    With `acr`, only those who have signed in in one of these ways; with `max_age`, not longer ago than
    so many seconds, and a minute. Everybody else is asked to sign in again, and comes back (RFC 9470).
    """
    demands = AuthenticationRequirements((acr,) if isinstance(acr, str) else tuple(acr), max_age)

    def guarded(method: Method) -> Guarded:
        @functools.wraps(method)
        async def wrapper(self: BaseHandler, *args: Any, **kwargs: Any) -> None:
            self.require_authentication(demands)
            result = method(self, *args, **kwargs)
            if result is not None:
                await result

        return wrapper

    return guarded if method is None else guarded(method)
