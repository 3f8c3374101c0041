"""Which access token a caller can use. Pure: what there is, and what time it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from app.bff.errors import AppError
from app.bff.sessions.session import LOGIN, Target, TokenSet

_USABLE_SHARE = 3 / 4  # of the margin; in what is left of it, the token might die on its way to the API


class TokenHolder(Protocol):
    """A session, or this application itself."""

    def tokens_for(self, target: Target) -> TokenSet | None: ...


@dataclass
class TokenRequest:
    """An access token for `target`, other than `rejected`, which an API has just refused."""

    margin_seconds: float
    clock: Callable[[], float]
    target: Target = LOGIN
    rejected: str | None = field(default=None, repr=False)

    def fresh(self, holder: TokenHolder) -> TokenSet | None:
        """Return the token if there is no need to renew it."""
        return self._outside(self.margin_seconds, holder)

    def usable_while_renewing(self, holder: TokenHolder) -> TokenSet | None:
        """Return the token if it will do while it is being renewed: inside the margin, but early."""
        return self._outside(self.margin_seconds, holder, share=1 - _USABLE_SHARE)

    def unexpired(self, holder: TokenHolder) -> TokenSet | None:
        """Return the token if it has not expired: good enough when there is nothing better."""
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
