"""The tree of errors: every exception that is raised on purpose, named for what its receiver can do.

    AppError
    ├── SettingsError                the process must not start
    ├── LifespanFailed               the application's lifespan raised: the process stops
    ├── BadRequest               400 the request is wrong: repeating it does not help
    │   ├── BadReturnUrl         400 the return path would leave this site
    │   ├── LoginFailed          400 this login attempt is over; the user may start another
    │   ├── WrongSid             400 a logout request without the session's `sid`
    │   ├── NotFound             404 there is no such thing, or not for this user
    │   ├── MethodNotAllowed     405 the settings do not forward this method
    │   ├── TooSlow              408 the rest of the request did not arrive in time
    │   ├── TooLarge             413 the request exceeds a size limit
    │   ├── UnsupportedMediaType 415 the body is not of a media type that the handler reads
    │   └── InvalidBody          422 the body is JSON, and not what the handler's model accepts
    ├── Unauthorized             401 no session, or no valid access token
    │   ├── NoSession            401 log in
    │   ├── SessionEnded         401 the provider ended the session: log in
    │   ├── ReauthenticationRequired  401 the session cannot get another token: log in
    │   ├── InsufficientAuthentication  401 log in again, in another way or more recently
    │   └── TokenUnavailable     401 the provider does not answer, the session stays: try later
    ├── Forbidden                403 not allowed; logging in does not help
    │   ├── NotAllowed           403 the claims of the user do not meet a rule: another account may do it
    │   └── CsrfRejected         403 not sent by a page of this origin
    ├── TooManyRequests          429 this browser has its share of a resource in use: try again later
    ├── ApiRefused           4xx/5xx the API refused the WebSocket handshake
    ├── ApiUnreachable           502 the API did not answer
    ├── ApiError                 502 the API answered, but not with what the handler needs
    ├── ApiTimeout               504 the API took too long
    ├── Overloaded               503 this process has as much open as it can: try again later
    ├── SignInUnavailable        503 the application's `on_sign_in` took too long: try again later
    ├── StoreUnavailable         503 the session store did not answer; the session may exist
    ├── ProviderUnavailable      503 the provider did not answer, or not with a valid response: try later
    │   ├── ClientRejected       503 the provider refuses the client: the operator must act
    │   └── InteractionRequired  503 the provider refuses the user: signing in again may help
    ├── GrantRefused                 `invalid_grant`: the code or refresh token is not valid any more
    ├── UntrustedToken               a token whose signature or claims are not valid
    │   └── UnusableToken            nothing in it speaks of another user or client, but it cannot be used
    │       └── MistimedToken        only its times are wrong: the clocks differ, or it has expired
    └── UsageError               500 a mistake in this application's code
        ├── UnknownClient        500 the settings have no HTTP client of that name
        └── ForeignOrigin        500 a client was given a URL of another origin than its own

`code` is for programs and never changes, `title` and `detail` are for people. None of them may
contain a token, code, cookie or session id: responses and log lines show them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class AppError(Exception):
    """The base class of all errors; a handler that raises one is answered with its `status`.

    The response shows `code`, `title` and `detail` (by default the title), in an error page or a problem
    document (RFC 9457); for status 500 only the log has the detail. `retry_after_seconds` is sent as
    `Retry-After` (RFC 9110 §10.2.3). Subclass it, or one of its subclasses, for errors of your own.

    Example::

        class OutOfStock(AppError):
            status, code, title = 409, "out_of_stock", "There are none left"

        class Buy(ApiHandler):
            def post(self) -> None:
                raise OutOfStock("The next delivery is on Monday.", retry_after_seconds=3600)
    """

    status = 500
    code = "internal_error"
    title = "Something went wrong on our side"

    def __init__(self, detail: str = "", *, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


class SettingsError(AppError):
    """Settings are wrong: the process does not start (exit code 2), and stderr has a line for each mistake.

    Raise it in your `lifespan` for what only a connection can tell. A `mistake` must not show a secret.

    Example::

        from collections.abc import AsyncIterator
        from contextlib import asynccontextmanager

        @asynccontextmanager
        async def lifespan(services: Services) -> AsyncIterator[None]:
            if not services.settings.https and not services.settings.debug:
                raise SettingsError("BFF_BASE_URL: must be https")
            yield
    """

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(["The settings are wrong:", *(f"  {mistake}" for mistake in mistakes)]))


class LifespanFailed(AppError):
    """The application's `lifespan` raised `error`: the process ends with exit code 1."""

    def __init__(self, error: BaseException | str) -> None:
        first_line = str(error).partition("\n")[0]
        kind = f"{type(error).__name__}: " if isinstance(error, BaseException) else ""
        super().__init__(f"The application's lifespan failed: {kind}{first_line}")


class BadRequest(AppError):
    """400: the request is wrong, and repeating it does not help. `detail` says why.

    Example::

        class Search(ApiHandler):
            def get(self) -> None:
                if "q" not in self.params:
                    raise BadRequest("q is missing")
    """

    status, code, title = 400, "bad_request", "That request makes no sense to us"


class BadReturnUrl(BadRequest):
    """400: a return path that is not a path of this site (open redirect, CWE-601)."""

    code, title = "bad_return_url", "The address to return to is not on this site"


class LoginFailed(BadRequest):
    """400: the login attempt has failed; `reason` is the provider's code (RFC 6749 §4.1.2.1).

    `refusal` is what the provider has said, for the log alone: `error` and `description`.
    """

    code, title = "login_failed", "Signing in did not work"

    def __init__(
        self, detail: str = "", *, reason: str = "login_failed", refusal: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.refusal = dict(refusal or {})


class WrongSid(BadRequest):
    """400: a logout request without the `sid` of the session (CSRF), which therefore stays."""

    code, title = "wrong_sid", "You are still signed in"


class NotFound(BadRequest):
    """404: there is no such thing, or not for this user.

    Example::

        ORDERS = {"17": "tulips"}

        class Order(ApiHandler):
            def get(self, order_id: str) -> None:
                if order_id not in ORDERS:
                    raise NotFound(f"There is no order {order_id}.")
                self.finish_json(ORDERS[order_id])
    """

    status, code, title = 404, "not_found", "There is nothing at this address"


class MethodNotAllowed(BadRequest):
    """405: `allowed` are the methods that the resource has, for the `Allow` header (RFC 9110 §15.5.6)."""

    status, code, title = 405, "method_not_allowed", "What is at this address cannot be used in this way"

    def __init__(self, detail: str = "", *, allowed: Iterable[str] = ()) -> None:
        super().__init__(detail)
        self.allowed = sorted(allowed)


class TooSlow(BadRequest):
    """408: the request's body stalled for too long (RFC 9110 §15.5.9)."""

    status, code, title = 408, "too_slow", "Your request did not arrive in time"


class TooLarge(BadRequest):
    """413: the request's body exceeds the limit (RFC 9110 §15.5.14)."""

    status, code, title = 413, "too_large", "That is more than we take"


class UnsupportedMediaType(BadRequest):
    """415: the body is not of a media type that the handler reads (RFC 9110 §15.5.16)."""

    status, code, title = 415, "unsupported_media_type", "That is not in a format that we read"


class InvalidBody(BadRequest):
    """422: the body is JSON and not valid. `errors` have `pointer` (RFC 6901) and `detail`, but no value."""

    status, code, title = 422, "invalid_body", "What was sent is not valid"

    def __init__(self, detail: str = "", *, errors: Iterable[Mapping[str, str]] = ()) -> None:
        super().__init__(detail)
        self.errors = [dict(each) for each in errors]


class Unauthorized(AppError):
    """401: there is no session, or no valid access token. Catch it for all reasons alike.

    Its subclasses tell them apart. Where `login_helps` the problem document has a `login_url`.

    Example::

        class Suggestions(ApiHandler):
            async def get(self) -> None:
                try:
                    async with self.create_client("apiClient").get("todos") as response:
                        self.finish_json(await response.json())
                except Unauthorized:
                    self.finish_json([])
    """

    status, code, title = 401, "no_session", "Please sign in"
    login_helps = True


class NoSession(Unauthorized):
    """401: there is no session, or it is over. The user has to sign in."""


class SessionEnded(Unauthorized):
    """401: the provider has refused the refresh token (RFC 6749 §5.2); the session is over."""

    code, title = "session_ended", "Your session has ended"


class ReauthenticationRequired(Unauthorized):
    """401: the session stays, and cannot get another access token. The user has to sign in again."""

    code, title = "reauthentication_required", "Please sign in again"


class InsufficientAuthentication(Unauthorized):
    """401: the login of this session was not of the kind, or not as recent, as required (RFC 9470 §3).

    `login_parameters` are those of a login that is: `acr_values`, `max_age` in seconds.
    """

    code, title = "insufficient_user_authentication", "Please sign in again to go on"

    def __init__(self, detail: str = "", *, login_parameters: Mapping[str, str | int] | None = None) -> None:
        super().__init__(detail)
        self.login_parameters = dict(login_parameters or {})


class TokenUnavailable(Unauthorized):
    """401: the provider does not answer, so no token is valid now; the session stays. Try again later."""

    code, title = "provider_unavailable", "The sign-in service is not answering"
    login_helps = False


class Forbidden(AppError):
    """403: the user may not do this, and signing in does not change that.

    Example::

        class Admin(ApiHandler):
            @authenticated
            async def get(self) -> None:
                if "admin" not in self.require_session().claims.get("roles", []):
                    raise Forbidden("This is for administrators.")
    """

    status, code, title = 403, "forbidden", "You may not do that"


class NotAllowed(Forbidden):
    """403: the claims do not meet a rule. `rule` has it in words, for the log alone."""

    def __init__(self, detail: str = "", *, rule: str = "") -> None:
        super().__init__(detail or "Your account does not have what this needs.")
        self.rule = rule


class CsrfRejected(Forbidden):
    """403: the request was not sent by a page of this origin (RFC 10017 §6.1.3.3)."""

    code, title = "csrf_rejected", "That request did not come from this site"


class TooManyRequests(AppError):
    """429: this session has as much of a shared resource in use as one may have (RFC 6585 §4)."""

    status, code, title = 429, "too_many_requests", "That is too much at once"

    def __init__(self, detail: str = "", *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)


class ApiRefused(AppError):
    """The API has refused the WebSocket handshake with `status`."""

    status, code, title = 502, "api_refused", "A service behind this site said no"

    def __init__(self, detail: str = "", *, status: int = 502) -> None:
        super().__init__(detail)
        self.status = status


class ApiUnreachable(AppError):
    """502: an API could not be reached, or broke the connection off. One of `API_ERRORS` becomes this."""

    status, code, title = 502, "api_unreachable", "A service behind this site is not answering"


class ApiError(AppError):
    """502: an API answered with an error's status, or with what cannot be read.

    `call` is for the log alone: `client`, `method`, `api_path` and `status`, as far as they are known.
    """

    status, code, title = 502, "api_error", "A service behind this site answered with an error"

    def __init__(self, detail: str = "", *, call: Mapping[str, str | int] | None = None) -> None:
        super().__init__(detail)
        self.call = dict(call or {})


class ApiTimeout(AppError):
    """504: an API took longer than `timeout_seconds`. A TimeoutError that a handler raises becomes this."""

    status, code, title = 504, "api_timeout", "A service behind this site took too long"


class Overloaded(AppError):
    """503: this process has as many connections of a kind open as it may have, of all sessions together."""

    status, code, title = 503, "overloaded", "There is too much to do right now"


class SignInUnavailable(AppError):
    """503: the application's `on_sign_in` took too long. Nobody is signed in; try again later."""

    status, code, title = 503, "sign_in_unavailable", "Signing in does not work right now"

    def __init__(self, detail: str = "", *, retry_after_seconds: int = 5) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)


class StoreUnavailable(AppError):
    """503: the session store does not answer; whether the session exists is unknown. Try again later."""

    status, code, title = 503, "store_unavailable", "We cannot look up your session right now"

    def __init__(self, detail: str = "", *, retry_after_seconds: int = 5) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)


class ProviderUnavailable(AppError):
    """503: no valid response. `requested_pause_seconds` is the provider's `Retry-After`, if it sent one.

    `is_outage`: 5xx, a time-out or a failed connection, which open circuit breakers. `is_unsent`: no
    connection could be opened, so that nothing has received the request.
    """

    status, code, title = 503, "provider_unavailable", "The sign-in service is not answering"

    def __init__(
        self,
        detail: str = "",
        *,
        retry_after_seconds: int | None = None,
        is_outage: bool = True,
        is_unsent: bool = False,
    ) -> None:
        super().__init__(
            detail, retry_after_seconds=5 if retry_after_seconds is None else retry_after_seconds
        )
        self.requested_pause_seconds = retry_after_seconds
        self.is_outage = is_outage
        self.is_unsent = is_unsent


class ClientRejected(ProviderUnavailable):
    """503: `invalid_client` and the like (RFC 6749 §5.2): client id, secret or registration is wrong."""


class InteractionRequired(ProviderUnavailable):
    """503: `interaction_required` and the like (OIDC Core §3.1.2.6), or an error that no specification has.

    The provider works, and has nothing against the client: it wants the user to sign in again.
    """

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, is_outage=False)


class GrantRefused(AppError):
    """`invalid_grant` (RFC 6749 §5.2): a retry with the same code or refresh token is refused again."""


class UntrustedToken(AppError):
    """A token's signature or claims are not valid."""


class UnusableToken(UntrustedToken):
    """A token that is not valid, in what says nothing of who it is for: unreadable, its nonce, its times."""


class MistimedToken(UnusableToken):
    """A token whose times alone are wrong. By its `iat` our clock is `seconds_ahead`; negative: behind."""

    def __init__(self, detail: str = "", *, seconds_ahead: int = 0) -> None:
        super().__init__(detail)
        self.seconds_ahead = seconds_ahead


class UsageError(AppError):
    """500: a mistake in the application's code."""


class UnknownClient(UsageError):
    """500: the settings have no HTTP client of that name; the message, in the log, lists those they have."""


class ForeignOrigin(UsageError):
    """500: a client was given a URL of another origin than its `base_url`; nothing was sent."""
