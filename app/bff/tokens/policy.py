"""When an access token may be used, and when it has to be renewed. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from app.bff.errors import (
    AppError,
    ClientRejected,
    InteractionRequired,
    ProviderUnavailable,
    ReauthenticationRequired,
    TokenUnavailable,
    Unauthorized,
)
from app.bff.sessions.session import LOGIN, Target, TokenSet

# Fraction of the margin in which callers do not wait for the refresh; later it could expire in transit.
_USABLE_SHARE = 3 / 4


class TokenHolder(Protocol):
    """A session, or the application with its own tokens."""

    def tokens_for(self, target: Target) -> TokenSet | None: ...


@dataclass
class TokenRequest:
    """A request for an access token for `target`, other than `rejected`, which an API has refused."""

    margin_seconds: float
    clock: Callable[[], float]
    target: Target = LOGIN
    rejected: str | None = field(default=None, repr=False)

    def fresh(self, holder: TokenHolder) -> TokenSet | None:
        """Return the token if it is outside the margin: it need not be renewed."""
        return self._outside(self.margin_seconds, holder)

    def usable_while_renewing(self, holder: TokenHolder) -> TokenSet | None:
        """Return a token that may be used while a background refresh runs: early in the margin."""
        return self._outside(self.margin_seconds, holder, share=1 - _USABLE_SHARE)

    def unexpired(self, holder: TokenHolder) -> TokenSet | None:
        """Return the token if it has not expired: the fallback when it cannot be renewed."""
        return self._outside(0, holder)

    def unexpired_or_raise(self, holder: TokenHolder, otherwise: AppError) -> TokenSet:
        """Return the token if it has not expired, or raise `otherwise`."""
        tokens = self.unexpired(holder)
        if tokens is None:
            raise otherwise
        return tokens

    def _outside(self, margin_seconds: float, holder: TokenHolder, *, share: float = 1) -> TokenSet | None:
        tokens = holder.tokens_for(self.target)
        if tokens is None or tokens.access_token == self.rejected:
            return None
        margin = tokens.margin(margin_seconds) * share
        return tokens if tokens.is_alive(now=self.clock() + margin) else None


def unrenewed(error: ProviderUnavailable, target: Target) -> Unauthorized:
    """Return what a caller gets whose access token cannot be renewed because of `error`, once it is over.

    A login brings another token for LOGIN, whatever the provider has against the refresh; for other
    targets it helps only if the user is what it wants: otherwise pages would sign in again and again.
    """
    of_client = isinstance(error, ClientRejected) and target == LOGIN
    if of_client or isinstance(error, InteractionRequired):
        return ReauthenticationRequired("The sign-in service wants you to sign in again.")
    return TokenUnavailable(error.title, retry_after_seconds=error.retry_after_seconds)


def alive_or_raise(tokens: TokenSet, *, now: float) -> TokenSet:
    """Return new tokens, unless the access token has expired while they were sent and saved."""
    if tokens.is_alive(now=now):
        return tokens
    raise TokenUnavailable("The access token expired before it could be used.", retry_after_seconds=1)
