"""When an access token may be used, and when it has to be renewed. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from app.bff.errors import AppError
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
