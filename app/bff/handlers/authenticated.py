"""`authenticated`: what a handler's method requires of the session."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, overload

from app.bff.authorization import Rule, RuleSource
from app.bff.handlers.base import BaseHandler
from app.bff.oidc.step_up import AuthenticationRequirements

Method = Callable[..., Awaitable[None] | None]
Guarded = Callable[..., Awaitable[None]]


@overload
def authenticated(method: Method, /) -> Guarded: ...
@overload
def authenticated(
    *,
    require: RuleSource | None = None,
    fresh_claims: int | None = None,
    acr: str | Sequence[str] = (),
    max_age: int | None = None,
) -> Callable[[Method], Guarded]: ...
def authenticated(
    method: Method | None = None,
    /,
    *,
    require: RuleSource | None = None,
    fresh_claims: int | None = None,
    acr: str | Sequence[str] = (),
    max_age: int | None = None,
) -> Guarded | Callable[[Method], Guarded]:
    """Decorate a handler's method so that it requires a session, else raises NoSession.

    With `require` the claims of the session must meet a rule (see `BaseHandler.may`), else the answer is 403
    `forbidden`: a problem document, or a page that offers to sign in with another account.

    With `fresh_claims` the session is refreshed first if its claims are older than so many seconds, so that
    a role that was taken away at the provider counts within that time. If they cannot be renewed, because
    there is no refresh token, or a refresh brings neither an ID token nor userinfo
    (BFF_USERINFO_ON_REFRESH), the answer is 401 `reauthentication_required`; while the provider does not
    answer, `provider_unavailable`.

    With `acr` the session must have been opened by a login of one of these authentication contexts, with
    `max_age` at most so many seconds ago (and 60 s of clock skew), else InsufficientAuthentication
    (RFC 9470) is raised. Both are 401 for `fetch()`; a navigation goes to the login, with these
    parameters, and comes back. Raises ValueError, at import, for a rule that is none, and for an `acr`,
    `max_age` or `fresh_claims` that cannot be requested.

    Example::

        class Payments(ApiHandler):
            @authenticated(acr="mfa", max_age=300)
            async def post(self) -> None:
                self.set_status(204)

        class Refunds(ApiHandler):
            @authenticated(require={"groups": ["accounting", "auditors"], "email_verified": True})
            async def get(self) -> None:
                self.finish_json([])
    """
    requirements = AuthenticationRequirements((acr,) if isinstance(acr, str) else tuple(acr), max_age)
    rule = None if require is None else Rule.of(require)
    if fresh_claims is not None and fresh_claims < 1:
        raise ValueError("fresh_claims must be a whole number of seconds, 1 or more")

    def guarded(method: Method) -> Guarded:
        @functools.wraps(method)
        async def wrapper(self: BaseHandler, *args: Any, **kwargs: Any) -> None:
            if fresh_claims is not None:
                await self.renew_claims(fresh_claims)
            self.require_authentication(requirements, rule)
            result = method(self, *args, **kwargs)
            if result is not None:
                await result

        return wrapper

    return guarded if method is None else guarded(method)
