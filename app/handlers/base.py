"""BaseHandler, which your pages extend, and ApiHandler, which answers your pages' JavaScript."""

from __future__ import annotations

import functools
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import Any, cast, overload
from urllib.parse import urlencode

from tornado.web import HTTPError, RequestHandler

from app import observability
from app.clients.registry import ApiClient, Typed, in_our_words
from app.errors import AppError, BadReturnUrl, CsrfRejected, NoSession, Unauthorized
from app.services import Services
from app.sessions.session import Session, session_ref
from app.web.cross_origin import arrives_without_strict_cookies, csrf_refusal, is_navigation
from app.web.headers import security_headers
from app.web.problems import CONTENT_TYPE, problem
from app.web.query import single_values
from app.web.return_paths import local_path

log = logging.getLogger(__name__)

LOGIN_PATH, LOGOUT_PATH = "/bff/login", "/bff/logout"
_TOUCH_AFTER_SECONDS = 60  # the idle time is written at most once a minute, not on every request


class PlainHandler(RequestHandler):
    """Services, security headers and errors, for everything that has no session."""

    answers_with_pages = True

    @property
    def services(self) -> Services:
        return cast(Services, self.settings["services"])

    @cached_property
    def request_id(self) -> str:
        return secrets.token_hex(8)

    @cached_property
    def csp_nonce(self) -> str:
        return secrets.token_urlsafe(16)

    @cached_property
    def params(self) -> dict[str, str]:
        """The query parameters as they were sent. Raises BadRequest if one is there twice."""
        return single_values(self.request.query_arguments)

    def set_default_headers(self) -> None:
        for name, value in security_headers(nonce=self.csp_nonce, https=self.services.settings.https).items():
            self.set_header(name, value)
        self.set_header("X-Request-Id", self.request_id)
        self.clear_header("Server")

    def prepare(self) -> Awaitable[None] | None:
        observability.request_id.set(self.request_id)
        return None

    def compute_etag(self) -> None:
        """No ETag: nothing that a handler answers may be kept."""

    def check_trusted_origin(self, origin: str) -> bool:
        """Tornado asks this for a request that writes and seems to come from another origin."""
        raise CsrfRejected("it was sent by another origin")

    # One place turns errors into answers.

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        error = _error_in(kwargs)
        super().send_error(error.status if isinstance(error, AppError) else status_code, **kwargs)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = _error_in(kwargs)
        document = problem(status_code, error, request_id=self.request_id, login_url=self.login_url)
        if isinstance(error, AppError) and error.retry_after_seconds is not None:
            self.set_header("Retry-After", str(error.retry_after_seconds))
        if not (self.answers_with_pages and is_navigation(self.request.headers)):
            self.set_header("Content-Type", CONTENT_TYPE)
            self.finish(json.dumps(document))
        elif isinstance(error, NoSession) and self.request.method == "GET":
            self.redirect(self.login_url)
        else:
            self.render_page("error.html", **document, try_again_url=self.try_again_url(status_code, error))

    def try_again_url(self, status_code: int, error: BaseException | None) -> str | None:
        """Where the button of an error page leads, if trying again can help."""
        if isinstance(error, Unauthorized) and error.login_helps:
            return self.login_url
        return self.here if status_code >= 500 or isinstance(error, Unauthorized) else None

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Tornado's own would write the whole URL to the log, with the code in it."""
        error = in_our_words(value)
        if isinstance(error, AppError) and error.status != 500:
            log.info(
                "request refused", extra={"path": self.request.path, "reason": str(error), "code": error.code}
            )
        elif isinstance(error, HTTPError):
            log.info("request refused", extra={"path": self.request.path, "status": error.status_code})
        else:
            log.error("request failed", extra={"path": self.request.path}, exc_info=value)

    # Pages.

    @property
    def login_url(self) -> str:
        """Where a person signs in and then comes back to this page."""
        return f"{LOGIN_PATH}?{urlencode({'returnUrl': self.here})}"

    @property
    def here(self) -> str:
        try:
            return local_path(self.request.uri)
        except BadReturnUrl:
            return "/"

    def page_context(self) -> dict[str, Any]:
        """What every template may use."""
        return {
            "app_name": self.services.settings.app_name,
            "user": None,
            "login_url": self.login_url,
            "logout_url": None,
            "csp_nonce": self.csp_nonce,
            "request_id": self.request_id,
            "static_url": self.static_url,
            "current_path": self.request.path,
        }

    def render_page(self, template: str, **context: Any) -> None:
        """Answer with a Jinja2 template."""
        page = self.services.pages.get_template(template)
        self.finish(page.render({**self.page_context(), **context}))


class BaseHandler(PlainHandler):
    """A handler that knows the session: extend it for pages.

    `self.session` is the session of the browser, or None. A handler that overrides `prepare` must
    await this one's.
    """

    session: Session | None = None
    keeps_session_alive = True
    repeats_cross_site_navigations = True

    async def prepare(self) -> None:
        super().prepare()
        session_id = self.get_cookie(self.services.cookies.session_name)
        if session_id:
            self.session = await self._load(session_ref(session_id))
        elif self._may_lack_its_cookie():
            self.move_on_to(self.here)

    async def _load(self, ref: str) -> Session | None:
        session = await self.services.sessions.get(ref)
        now = self.services.clock()
        if session is None or not self.keeps_session_alive or now < session.renewed_at + _TOUCH_AFTER_SECONDS:
            return session
        ends = self.services.lifetime.end(created_at=session.created_at, now=now)
        await self.services.sessions.touch(ref, renewed_at=now, expires_at=ends)
        return replace(session, renewed_at=now, expires_at=ends)

    def _may_lack_its_cookie(self) -> bool:
        return (
            self.repeats_cross_site_navigations
            and self.services.settings.cookie_samesite == "strict"
            and arrives_without_strict_cookies(self.request.method or "", self.request.headers)
        )

    def move_on_to(self, path: str) -> None:
        """Answer with a tiny page of our own that goes to `path`.

        What a page of this site starts is same-site, so `SameSite=Strict` cookies come along; with a
        redirect they would not, and a person who followed a link would look signed out.
        """
        self.render_page("moving_on.html", target=path)

    def get_current_user(self) -> dict[str, Any] | None:
        if self.session is None:
            return None
        claims = self.session.claims
        return {
            "sub": self.session.subject,
            "name": claims.get("name") or claims.get("email") or self.session.subject,
        }

    @property
    def logout_url(self) -> str | None:
        if self.session is None:
            return None
        return f"{LOGOUT_PATH}?{urlencode({'sid': self.session.sid})}"

    def page_context(self) -> dict[str, Any]:
        return {**super().page_context(), "user": self.current_user, "logout_url": self.logout_url}

    # Tokens and APIs.

    async def get_user_access_token(self, *, force_renewal: bool = False) -> str:
        """Return the user's access token, good right now; it is refreshed when it is about to expire.

        Raises Unauthorized, which is answered with 401 and a code, when none can be had.
        `force_renewal` gets another one even so.
        """
        session = self._signed_in()
        instead_of = session.tokens.access_token if force_renewal else None
        return await self.services.user_tokens.get(session, instead_of=instead_of)

    async def get_client_access_token(self, name: str) -> str:
        """Return this application's own token (client credentials) for the named client.

        Raises UnknownClient, or TokenUnavailable when the provider does not answer.
        """
        return await self.services.clients.application_token(name)

    async def revoke_user_refresh_token(self) -> None:
        """Revoke the user's refresh token; raises ProviderUnavailable if that could not be done."""
        await self.services.user_tokens.revoke(self._signed_in())

    @overload
    def create_client(self, client: str) -> ApiClient: ...
    @overload
    def create_client(self, client: type[Typed]) -> Typed: ...
    def create_client(self, client: str | type[Typed]) -> ApiClient | Typed:
        """Return an HTTP client by name, or a TypedClient by class, that carries the right token.

        Raises UnknownClient, which names those that there are.
        """
        return self.services.clients.create(client, self.session)

    def _signed_in(self) -> Session:
        if self.session is None:
            raise NoSession("nobody is signed in")
        return self.session


class ApiHandler(BaseHandler):
    """A handler for your pages' JavaScript: wants `X-CSRF: 1`, and never answers with a page."""

    answers_with_pages = False
    repeats_cross_site_navigations = False
    login_url = LOGIN_PATH  # the page knows where it wants to come back to, the API it calls does not

    async def prepare(self) -> None:
        refusal = csrf_refusal(self.request.headers)
        if refusal:
            raise CsrfRejected(refusal)
        await super().prepare()


class NotFound(PlainHandler):
    """Whatever has no route, so that a 404 has our headers and looks too."""

    def prepare(self) -> None:
        raise HTTPError(404)

    def check_trusted_origin(self, origin: str) -> bool:
        return True  # nothing happens here that another site could want


Method = Callable[..., Awaitable[None] | None]


def authenticated(method: Method) -> Callable[..., Awaitable[None]]:
    """Let only signed-in users in: 401 for a `fetch()`, the way to the login page for a person."""

    @functools.wraps(method)
    async def wrapper(self: BaseHandler, *args: Any, **kwargs: Any) -> None:
        if self.session is None:
            raise NoSession("nobody is signed in")
        result = method(self, *args, **kwargs)
        if result is not None:
            await result

    return wrapper


def _error_in(kwargs: dict[str, Any]) -> BaseException | None:
    return in_our_words(kwargs.get("exc_info", (None, None, None))[1])
