"""How a login attempt has failed, as one of few words, for metrics and alerts. Pure."""

from __future__ import annotations

from tornado.web import HTTPError

from app.bff.errors import (
    AppError,
    BadRequest,
    GrantRefused,
    InteractionRequired,
    LoginFailed,
    ProviderUnavailable,
    StoreUnavailable,
    UntrustedToken,
)
from app.bff.oidc.error_codes import CLIENT_ERRORS, USER_ERRORS

# The causes of a LoginFailed, by who has to look at it.
_CAUSES = {
    GrantRefused: "code_refused",  # used twice, or too late
    InteractionRequired: "denied",
    UntrustedToken: "untrusted_token",  # the operator: keys, clocks, or an attack
}
# Others are the codes of errors.
LOGIN_OUTCOMES = (
    *("success", "no_attempt", "rejected", LoginFailed.code, *_CAUSES.values()),
    *(ProviderUnavailable.code, StoreUnavailable.code, AppError.code),
)


def login_outcome(error: BaseException | None, *, begun_here: bool) -> str:
    """Return the outcome of an attempt that `error` has ended; `begun_here`: this browser has begun it.

    `no_attempt` is a callback without one: anyone can send that, and bookmarks do. `denied` is what the user
    or the provider's rules have decided, `rejected` what the operator must mend: the provider refuses this
    client. Else it is the error's code.
    """
    if isinstance(error, HTTPError):  # 405
        return BadRequest.code
    if not isinstance(error, AppError):
        return AppError.code
    if not isinstance(error, LoginFailed):
        return error.code
    if not begun_here:
        return "no_attempt"
    if error.reason in CLIENT_ERRORS:
        return "rejected"
    if error.reason in USER_ERRORS:
        return "denied"
    return next((name for kind, name in _CAUSES.items() if isinstance(error.__cause__, kind)), error.code)
