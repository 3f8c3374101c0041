"""When an access token may be used, when it has to be renewed, and what a refusal means. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
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
from app.bff.sessions.session import LOGIN, Session, Target, TokenSet

# Fraction of the margin in which callers do not wait for the refresh; later it could expire in transit.
_USABLE_SHARE = 3 / 4


# How long a refused refresh token may be the old one of a session that another process is about to save.
_SAVED_WITHIN_SECONDS = 3


# If an API refuses a renewed token of this age, it refuses the next one too.
_TOO_NEW_SECONDS = 10


class Refusal(Enum):
    """What follows when the provider has refused a session's refresh token."""

    RETRY = auto()  # with the refresh token that the record holds now
    WAIT = auto()  # another process may be about to save newer tokens: read the record again
    END = auto()  # the session is over


def judge_refusal(current: Session, refused: Session, *, waited_seconds: float) -> Refusal:
    """Judge by the record as it is now, and the session whose refresh token was refused, as it was leased.

    A process that could not save in time has lost its lease and still holds the successor of the refused
    token. So with a lease that was taken over, the record is given time to change.
    """
    if current.tokens.refresh_token != refused.tokens.refresh_token:
        return Refusal.RETRY
    if refused.lease_taken_over and waited_seconds < _SAVED_WITHIN_SECONDS:
        return Refusal.WAIT
    return Refusal.END


def can_refresh(session: Session, target: Target) -> bool:
    """Whether the session can get another token for `target` from its provider, now or later."""
    return target.exchanged or session.tokens.refresh_token is not None


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


def is_too_new_to_renew(renewed_at: float | None, expires_at: float | None, *, now: float) -> bool:
    """Whether a token that an API has answered with 401 was renewed so recently that another is refused too.

    APIs also answer 401 for "forbidden": each such call would cause a refresh. A first token (`renewed_at` is
    None) is not too new, nor is one that is over, nor one from the future of a clock that was set back.
    """
    is_over = expires_at is not None and now >= expires_at
    return renewed_at is not None and not is_over and 0 <= now - renewed_at < _TOO_NEW_SECONDS


def unrenewed(error: ProviderUnavailable, target: Target) -> Unauthorized:
    """Return what a caller gets whose access token cannot be renewed because of `error`, once it is over.

    A login brings new tokens, whatever the provider has against the refresh, and asks for the scopes and
    resources of all clients, which the earlier one may not have done. It changes nothing about an exchange,
    unless the user is what the provider wants.
    """
    of_client = isinstance(error, ClientRejected) and not target.exchanged
    if of_client or isinstance(error, InteractionRequired):
        return ReauthenticationRequired("The sign-in service wants you to sign in again.")
    return TokenUnavailable(error.title, retry_after_seconds=error.retry_after_seconds)


def alive_or_raise(tokens: TokenSet, *, now: float) -> TokenSet:
    """Return new tokens, unless the access token has expired while they were sent and saved."""
    if tokens.is_alive(now=now):
        return tokens
    raise TokenUnavailable("The access token expired before it could be used.", retry_after_seconds=1)
