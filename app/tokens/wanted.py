"""Which access token a caller can use. Pure: what there is, and what time it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from app.errors import AppError
from app.sessions.session import LOGIN, Target, TokenSet

_NOBODY_WAITS = 3 / 4  # of the margin; in what is left of it, the token might die on its way to the API


class Holder(Protocol):
    """A session, or this application itself."""

    def tokens_for(self, target: Target) -> TokenSet | None: ...


@dataclass
class Wanted:
    """An access token for `target`, other than `instead_of`, which an API has just refused."""

    margin_seconds: float
    clock: Callable[[], float]
    target: Target = LOGIN
    instead_of: str | None = field(default=None, repr=False)

    def fresh_in(self, holder: Holder) -> TokenSet | None:
        """Return the token if there is no need to renew it."""
        return self._outside(self.margin_seconds, holder)

    def unhurried_in(self, holder: Holder) -> TokenSet | None:
        """Return the token if it will do while it is being renewed: inside the margin, but early."""
        return self._outside(self.margin_seconds, holder, share=1 - _NOBODY_WAITS)

    def alive_in(self, holder: Holder) -> TokenSet | None:
        """Return the token if it has not expired: good enough when there is nothing better."""
        return self._outside(0, holder)

    def best_of(self, holder: Holder, otherwise: AppError) -> TokenSet:
        """Return the token if it has not expired, or raise `otherwise`."""
        tokens = self.alive_in(holder)
        if tokens is None:
            raise otherwise
        return tokens

    def _outside(self, margin_seconds: float, holder: Holder, *, share: float = 1) -> TokenSet | None:
        tokens = holder.tokens_for(self.target)
        if tokens is None or tokens.access_token == self.instead_of:
            return None
        margin = tokens.margin(margin_seconds) * share
        return tokens if tokens.is_alive(now=self.clock() + margin) else None
