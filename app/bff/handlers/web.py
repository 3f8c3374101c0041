"""WebHandler, the base of every handler, with or without a session: headers, errors, pages."""

from __future__ import annotations

import json
import logging
import re
import secrets
from asyncio import Future
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from types import TracebackType
from typing import Any, overload
from urllib.parse import urlencode

from tornado.httputil import HTTPServerRequest
from tornado.web import Application, Finish, RequestHandler

from app.bff.authorization import Rule, RuleSource
from app.bff.clients.registry import as_app_error
from app.bff.errors import (
    AppError,
    BadRequest,
    BadReturnUrl,
    CsrfRejected,
    Forbidden,
    InsufficientAuthentication,
    NoSession,
    Unauthorized,
)
from app.bff.handlers.flash import FlashMessages
from app.bff.handlers.request_log import LOGGED_CHARACTERS, log_failure
from app.bff.oidc.step_up import AuthenticationRequirements
from app.bff.paths import LOGIN_PATH
from app.bff.services import Services
from app.bff.sessions.session import Session
from app.bff.telemetry import logs
from app.bff.web.cookies import read_cookies, unquoted
from app.bff.web.cors import cors_headers
from app.bff.web.cross_origin import is_navigation
from app.bff.web.forwarded import anonymous_key, is_trusted
from app.bff.web.headers import security_headers
from app.bff.web.hosts import opened_elsewhere
from app.bff.web.json_body import unreadable_body
from app.bff.web.problems import CONTENT_TYPE, error_headers, problem
from app.bff.web.query import in_own_case, single_values
from app.bff.web.return_paths import local_path, return_url

log = logging.getLogger(__name__)

ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
READING = ("GET", "HEAD")
RETURN_URL = "returnUrl"
MOVED = "moved"  # a parameter of the login: the browser was sent to the host of BFF_BASE_URL
NO_REQUIREMENTS = AuthenticationRequirements()
_BEYOND_ASCII = re.compile(r"[\x80-\xff]")  # bytes that browsers escape


class WebHandler(FlashMessages):
    """Services, security headers, error responses and pages, for handlers without a session."""

    renders_html = True
    max_body_bytes = 65_536  # of a request; beyond it the response is 413, without a call of the handler
    framed_by_same_site = False  # whether a page of this site may show the response in a frame
    cors_methods: Collection[str] = ()  # those that pages of BFF_ALLOWED_ORIGINS may use
    serves_allowed_origins = False  # whether these pages may be the `returnUrl`, and show what is framed
    own_params: Collection[str] = ()  # of the query: read in any case, as ASP.NET reads them
    keeps_opener = False  # whether a popup that shows the response stays connected to its opener
    referrer_policy = "same-origin"
    login_requirements = NO_REQUIREMENTS  # added to this handler's login URL (RFC 9470)
    return_path: str | None = None  # where that login returns to; None: to the URL of this request

    def __init__(self, application: Application, request: HTTPServerRequest, **kwargs: Any) -> None:
        self.services: Services = application.settings["services"]
        if self.own_params:
            request.query_arguments = in_own_case(request.query_arguments, self.own_params)
        super().__init__(application, request, **kwargs)  # calls set_default_headers
        self.services.in_flight_requests.begin(self)
        logs.request_id.set(self.request_id)

    @cached_property
    def request_id(self) -> str:
        return secrets.token_hex(8)

    @cached_property
    def csp_nonce(self) -> str:
        return secrets.token_urlsafe(16)

    @cached_property
    def params(self) -> dict[str, str]:
        """The query parameters, verbatim: names to values. Raises BadRequest (400) for a repeated one.

        A `returnUrl` that is repeated, or no text, is left out.
        """
        return single_values(self.request.query_arguments, optional=(RETURN_URL,))

    @cached_property
    def requested_return_path(self) -> str:
        """The `returnUrl` of this request, if it may be returned to, else "/"; a refusal is logged."""
        if RETURN_URL in self.request.query_arguments and RETURN_URL not in self.params:
            return self.refuse_return_path("it is there more than once, or no text")
        origins = self.services.settings.allowed_origins if self.serves_allowed_origins else ()
        return self.local_path_or_home(lambda: return_url(self.params.get(RETURN_URL), origins))

    def local_path_or_home(self, checked: Callable[[], str]) -> str:
        """Return what `checked` returns, or "/" with a log line if it raises BadReturnUrl."""
        try:
            return checked()
        except BadReturnUrl as error:
            return self.refuse_return_path(str(error))

    def refuse_return_path(self, reason: str) -> str:
        # The value is not logged: a link by a third party can contain any text.
        path = self.request.path[:LOGGED_CHARACTERS]
        log.info("return path refused", extra={"path": path, "reason": reason})
        return "/"

    @cached_property
    def request_cookies(self) -> Mapping[str, str]:
        """The cookies of the request, verbatim: those of the engine are read here."""
        return read_cookies(self.request.headers)

    @overload
    def get_cookie(self, name: str, default: str) -> str: ...
    @overload
    def get_cookie(self, name: str, default: None = None) -> str | None: ...
    def get_cookie(self, name: str, default: str | None = None) -> str | None:
        """Return a cookie of yours, as Tornado's method does, or `default`.

        A name that the browser sends twice counts as absent, and names are compared byte by byte: a sibling
        host cannot replace the cookie of a `__Host-` name.
        """
        value = self.request_cookies.get(name)
        return default if value is None else unquoted(value)

    def set_default_headers(self) -> None:
        headers = security_headers(
            nonce=self.csp_nonce,
            https=self.services.settings.https,
            login_page=self.services.provider.login_page,
            framed_by_same_site=self.framed_by_same_site,
            framed_by=self.services.settings.allowed_origins if self.serves_allowed_origins else (),
            keeps_opener=self.keeps_opener,
            added=self.services.settings.csp,
        )
        if self.request.method in self.cors_methods:
            origins = self.services.settings.allowed_origins
            headers |= cors_headers(self.request.headers, origins)
        self.clear_header("X-Frame-Options")  # of an earlier call
        for name, value in headers.items():
            self.set_header(name, value)
        self.set_header("Referrer-Policy", self.referrer_policy)
        self.set_header("X-Request-Id", self.request_id)
        self.clear_header("Server")

    def compute_etag(self) -> None:
        """No ETag: no response of a handler may be cached."""

    def check_trusted_origin(self, origin: str) -> bool:
        """Called by Tornado for a state-changing request that seems to come from another origin."""
        if self.request.method in self.cors_methods and origin in self.services.settings.allowed_origins:
            return True
        raise CsrfRejected("the request was sent by another origin")

    async def head(self, *args: Any, **kwargs: Any) -> None:
        """Answer as `get` does, without the body (RFC 9110 §9.3.2); 405 if there is no `get`.

        Where `get` changes something, write a `head` that does not.
        """
        answered = self.get(*args, **kwargs)
        if answered is not None:
            await answered

    def flush(self, include_footers: bool = False) -> Future[None]:
        """Send what has been written. A HEAD ends with the headers: a stream has no end to wait for."""
        flushed = super().flush(include_footers)
        if self.request.method == "HEAD" and not include_footers:  # of `finish`
            raise Finish
        return flushed

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Future[None]:
        if self.before_finish:
            return self.finish_later(chunk)
        if self.services.stopping.is_set():
            self.set_header("Connection", "close")  # the next request reaches another process
        try:
            return super().finish(chunk)
        finally:
            self.services.in_flight_requests.end(self)

    def on_connection_close(self) -> None:
        super().on_connection_close()
        if self._stream_request_body:  # Tornado then leaves the handler without finishing it
            self.services.in_flight_requests.end(self)

    # The only place that turns errors into responses.

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        error = self._unreadable_body(kwargs.get("exc_info")) or exception_from(kwargs)
        super().send_error(error.status if isinstance(error, AppError) else status_code, **kwargs)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = self._unreadable_body(kwargs.get("exc_info")) or exception_from(kwargs)
        document = problem(status_code, error, request_id=self.request_id, login_url=self.login_url)
        for name, value in error_headers(error):
            self.set_header(name, value)
        if status_code == 405:
            self.set_header("Allow", ", ".join(self.allowed_methods()))
        if not (self.renders_html and is_navigation(self.request.headers)):
            self.set_header("Content-Type", CONTENT_TYPE)
            self.finish(json.dumps(document))
        elif isinstance(error, NoSession | InsufficientAuthentication) and self.request.method in READING:
            self.redirect(self.at_base_url(self.login_url))
        else:
            self.render_page(
                "bff/error.html",
                **document,
                try_again_url=self.try_again_url(status_code, error),
                account=self.account_name if is_denied(error) else None,
                switch_account_url=self.switch_account_url,
            )

    def allowed_methods(self) -> list[str]:
        """The value of `Allow`, which a 405 must have (RFC 9110 §15.5.6)."""
        return methods_of(type(self))

    def try_again_url(self, status_code: int, error: BaseException | None) -> str | None:
        """The link of an error page's retry button; None if a retry cannot help."""
        if isinstance(error, Unauthorized) and error.login_helps:
            return self.login_url
        return self.current_path if status_code >= 500 or isinstance(error, Unauthorized) else None

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Tornado's method would log the whole URL, with an authorization code in it."""
        error = self._unreadable_body((typ, value, tb)) or as_app_error(value)
        log_failure(self.request.path, error, self.services, self.refused_session)

    @property
    def refused_session(self) -> Session | None:
        """The session of a request that is refused, for the audit log."""
        return self.session

    def _unreadable_body(self, exc_info: ExcInfo | None) -> BadRequest | None:
        error = exc_info[1] if exc_info else None
        return unreadable_body(error, self.request.body, self.request.headers.get("Content-Type"))

    # Pages.

    def at_base_url(self, path: str) -> str:
        """Return `path`, which starts a login, on the host of BFF_BASE_URL if the browser has opened another.

        The login's own parameter `moved` ends that: a proxy may have replaced the host, for every request.
        """
        settings, request = self.services.settings, self.request
        is_from_proxy = is_trusted(request.remote_ip or "", settings.trusted_proxies)
        if not opened_elsewhere(request.headers, settings.base_url, is_from_proxy=is_from_proxy):
            return path
        return f"{settings.base_url}{path}{'&' if '?' in path else '?'}{MOVED}=true"

    @property
    def login_url(self) -> str:
        """The path that starts a login, which then returns to this page."""
        return login_url(self.return_path or self.current_path, self.login_requirements)

    @property
    def switch_account_url(self) -> str:
        """The path of a login at which the user chooses an account, which then returns to this page."""
        page = self.return_path or (self.current_path if self.request.method in READING else "/")
        return f"{LOGIN_PATH}?{urlencode({'prompt': 'select_account', 'returnUrl': page})}"

    @property
    def logout_url(self) -> str | None:
        return None

    @property
    def account_name(self) -> str | None:
        """What an error page calls the user."""
        return None if self.current_user is None else self.current_user["name"]

    def may(self, rule: RuleSource) -> bool:
        """Whether there is a session, and its claims meet `rule`; in templates it is `may(…)`.

        A rule names claims, and for each a value that it must have, or a list of which any will do: see
        docs/bff/authorization.md. It can also be a function of the claims that returns True or False. Raises
        ValueError (500) for a rule that is none. `@authenticated(require=…)` guards a whole method.

        Example::

            class Order(ApiHandler):
                @authenticated
                async def get(self) -> None:
                    self.finish_json({"can_refund": self.may({"groups": ["admins", "accounting"]})})
        """
        return self.session is not None and Rule.of(rule).allows(self.session.claims)

    @cached_property
    def current_path(self) -> str:
        """Path and query of this request, or "/", with a log line, if a login may not return to it."""
        target = _BEYOND_ASCII.sub(lambda byte: f"%{ord(byte[0]):02X}", self.request.uri or "")
        return self.local_path_or_home(lambda: local_path(target))

    def page_context(self) -> dict[str, Any]:
        """Return what every template may use; override it to add what your layout shows.

        Example::

            from typing import Any, overload

            class ShopPage(BaseHandler):
                def page_context(self) -> dict[str, Any]:
                    return {**super().page_context(), "cart_size": 3}

            class Cart(ShopPage):
                def get(self) -> None:
                    self.render_page("cart.html")
        """
        return {
            "app_name": self.services.settings.app_name,
            "layout": self.services.settings.page_layout,
            "user": self.current_user,
            "logout_url": self.logout_url,
            "login_url": self.login_url,
            "csp_nonce": self.csp_nonce,
            "request_id": self.request_id,
            "static_url": self.static_url,
            "current_path": self.request.path,
            "may": self.may,
            "flashes": self.flashes,
        }

    def render_page(self, template: str, **context: Any) -> None:
        """Finish the response with a Jinja2 template of `templates/`; values are escaped in it.

        It may use `context` and `page_context()`. Raises jinja2.TemplateNotFound (500).
        """
        page = self.services.pages.get_template(template)
        self.finish(page.render({**self.page_context(), **context}))


def methods_of(handler: type[RequestHandler]) -> list[str]:
    """Return the methods that a handler implements; HEAD wherever it implements GET, if it is one of ours."""
    unimplemented = RequestHandler.get  # Tornado's class has one function for all methods
    implemented = [
        name for name in handler.SUPPORTED_METHODS if getattr(handler, name.lower()) is not unimplemented
    ]
    if "GET" not in implemented and handler.head is WebHandler.head:
        implemented.remove("HEAD")
    return implemented


def anonymous_key_of(services: Services, request: HTTPServerRequest) -> str:
    """Return what tells browsers without a session apart; see `web.forwarded.anonymous_key`."""
    return anonymous_key(request.remote_ip or "", request.headers, services.settings.trusted_proxies)


def login_url(return_path: str | None, requirements: AuthenticationRequirements = NO_REQUIREMENTS) -> str:
    """Return the path that starts a login, which then leads to `return_path` (None: to "/").

    `requirements` are those of a handler, `self.login_requirements` (RFC 9470 §4).

    >>> login_url("/orders?page=2")
    '/bff/login?returnUrl=%2Forders%3Fpage%3D2'
    """
    return_params = {RETURN_URL: return_path} if return_path else {}
    query = urlencode({**return_params, **requirements.params})
    return f"{LOGIN_PATH}?{query}" if query else LOGIN_PATH


def is_denied(error: BaseException | None) -> bool:
    """Whether another account may be allowed what this one is not."""
    return isinstance(error, Forbidden) and not isinstance(error, CsrfRejected)


def exception_from(kwargs: dict[str, Any]) -> BaseException | None:
    return as_app_error(kwargs.get("exc_info", (None, None, None))[1])
