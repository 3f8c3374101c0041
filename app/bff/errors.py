"""Every error this application raises on purpose, named for what the caller can do.

    AppError
    ├── SettingsError                the process must not start
    ├── LifespanFailed               the application's lifespan raised: the process stops
    ├── BadRequest               400 ask differently
    │   ├── BadReturnUrl         400 the return path would leave this site
    │   ├── LoginFailed          400 this login attempt is over; the user may start another
    │   ├── WrongSid             400 a logout without the session's sid ends nothing
    │   ├── NotFound             404 there is no such thing, or not for this user
    │   ├── MethodNotAllowed     405 the settings do not forward this method
    │   ├── TooSlow              408 the rest of the request did not arrive
    │   ├── TooLarge             413 the request is larger than we take
    │   ├── UnsupportedMediaType 415 the body is not of a media type that the handler reads
    │   └── InvalidBody          422 the body is JSON, and not what the handler's model accepts
    ├── Unauthorized             401 no token that is good right now
    │   ├── NoSession            401 log in
    │   ├── SessionEnded         401 there was a session, the provider ended it: log in
    │   ├── ReauthenticationRequired  401 the session cannot get another token: log in
    │   ├── InsufficientAuthentication  401 log in again, in another way or just now
    │   └── TokenUnavailable     401 the session is fine, the provider is not: try later
    ├── Forbidden                403 not allowed, logging in does not help
    │   └── CsrfRejected         403 not sent by our own pages
    ├── ApiRefused           4xx/5xx the API did not take the WebSocket
    ├── ApiUnreachable           502 the API did not answer
    ├── ApiTimeout               504 the API took too long
    ├── StoreUnavailable         503 the session store did not answer; the session may be fine
    ├── ProviderUnavailable      503 the provider did not answer, or not sensibly: try later
    │   └── ClientRejected       503 the provider refuses *us*: the operator must act
    ├── GrantRefused                 `invalid_grant`: this code or refresh token is dead
    ├── UntrustedToken               a signed token we do not believe
    └── UsageError               500 a mistake in this application's code
        ├── UnknownClient        500 no HTTP client has that name
        └── ForeignOrigin        500 a client was asked to call another origin than its own

`code` is for programs and never changes, `title` and `detail` are for people. None of them may
contain a token, code, cookie or session id: they end up in answers and in logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class AppError(Exception):
    """The parent of all; `status`, `code` and `title` are what a browser gets to see."""

    status = 500
    code = "internal_error"
    title = "Something went wrong on our side"

    def __init__(self, detail: str = "", *, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


class SettingsError(AppError):
    """One or more settings are wrong; the message has a line for each."""

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(["The settings are wrong:", *(f"  {mistake}" for mistake in mistakes)]))


class LifespanFailed(AppError):
    """The application's `lifespan` raised `error`: the process ends with exit code 1."""

    def __init__(self, error: BaseException | str) -> None:
        first_line = str(error).partition("\n")[0]
        kind = f"{type(error).__name__}: " if isinstance(error, BaseException) else ""
        super().__init__(f"The application's lifespan failed: {kind}{first_line}")


class BadRequest(AppError):
    status, code, title = 400, "bad_request", "That request makes no sense to us"


class BadReturnUrl(BadRequest):
    code, title = "bad_return_url", "The address to return to is not on this site"


class LoginFailed(BadRequest):
    """`reason` is the provider's own error code, if it has sent one (RFC 6749 §4.1.2.1)."""

    code, title = "login_failed", "Signing in did not work"

    def __init__(self, detail: str = "", *, reason: str = "login_failed") -> None:
        super().__init__(detail)
        self.reason = reason


class WrongSid(BadRequest):
    code, title = "wrong_sid", "You are still signed in"


class NotFound(BadRequest):
    status, code, title = 404, "not_found", "There is nothing at this address"


class MethodNotAllowed(BadRequest):
    """`allowed` are the methods that there are (RFC 9110 §15.5.6)."""

    status, code, title = 405, "method_not_allowed", "What is at this address cannot be used in this way"

    def __init__(self, detail: str = "", *, allowed: Iterable[str] = ()) -> None:
        super().__init__(detail)
        self.allowed = sorted(allowed)


class TooSlow(BadRequest):
    status, code, title = 408, "too_slow", "Your request did not arrive in time"


class TooLarge(BadRequest):
    status, code, title = 413, "too_large", "That is more than we take"


class UnsupportedMediaType(BadRequest):
    status, code, title = 415, "unsupported_media_type", "That is not in a format that we read"


class InvalidBody(BadRequest):
    """`errors` tell where (a JSON Pointer, RFC 6901) and why, and never what was sent."""

    status, code, title = 422, "invalid_body", "What was sent is not valid"

    def __init__(self, detail: str = "", *, errors: Iterable[Mapping[str, str]] = ()) -> None:
        super().__init__(detail)
        self.errors = [dict(each) for each in errors]


class Unauthorized(AppError):
    """No valid token can be had. `login_helps` says whether signing in would change that."""

    status, code, title = 401, "no_session", "Please sign in"
    login_helps = True


class NoSession(Unauthorized):
    pass


class SessionEnded(Unauthorized):
    code, title = "session_ended", "Your session has ended"


class ReauthenticationRequired(Unauthorized):
    code, title = "reauthentication_required", "Please sign in again"


class InsufficientAuthentication(Unauthorized):
    """`demands` are the parameters of a login that would be enough (RFC 9470 §3)."""

    code, title = "insufficient_user_authentication", "Please sign in again to go on"

    def __init__(self, detail: str = "", *, demands: Mapping[str, str | int] | None = None) -> None:
        super().__init__(detail)
        self.demands = dict(demands or {})


class TokenUnavailable(Unauthorized):
    code, title = "provider_unavailable", "The sign-in service is not answering"
    login_helps = False


class Forbidden(AppError):
    status, code, title = 403, "forbidden", "You may not do that"


class CsrfRejected(Forbidden):
    code, title = "csrf_rejected", "That request did not come from this site"


class ApiRefused(AppError):
    status, code, title = 502, "api_refused", "A service behind this site said no"

    def __init__(self, detail: str = "", *, status: int = 502) -> None:
        super().__init__(detail)
        self.status = status


class ApiUnreachable(AppError):
    status, code, title = 502, "api_unreachable", "A service behind this site is not answering"


class ApiTimeout(AppError):
    status, code, title = 504, "api_timeout", "A service behind this site took too long"


class StoreUnavailable(AppError):
    status, code, title = 503, "store_unavailable", "We cannot look up your session right now"

    def __init__(self, detail: str = "", *, retry_after_seconds: int = 5) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)


class ProviderUnavailable(AppError):
    """`requested_pause_seconds` is set if the provider itself has said when to try again."""

    status, code, title = 503, "provider_unavailable", "The sign-in service is not answering"

    def __init__(self, detail: str = "", *, retry_after_seconds: int | None = None) -> None:
        super().__init__(
            detail, retry_after_seconds=5 if retry_after_seconds is None else retry_after_seconds
        )
        self.requested_pause_seconds = retry_after_seconds


class ClientRejected(ProviderUnavailable):
    """`invalid_client` and its like: our client id, secret or registration is wrong."""


class GrantRefused(AppError):
    """`invalid_grant` (RFC 6749 §5.2): trying again with the same code or token cannot help."""


class UntrustedToken(AppError):
    """A signature or a claim is not what it must be."""


class UsageError(AppError):
    pass


class UnknownClient(UsageError):
    pass


class ForeignOrigin(UsageError):
    pass
