"""Refresh tokens that are still to be revoked, and what every outbox for them promises."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Protocol

from app.bff.sessions.reencrypt import ReencryptResult

_ID_BYTES = 16


@dataclass(frozen=True)
class Pending:
    """A refresh token that waits to be revoked (RFC 7009).

    `id` is random and tells nothing, so logs may show it. `issuer` is whose token it is: it must
    never be sent to another provider. After `expires_at`, seconds since the epoch, nobody tries any
    more. `tries` counts how often somebody has claimed it.
    """

    id: str
    issuer: str
    refresh_token: str = field(repr=False)
    expires_at: float
    tries: int = 0


def new_pending(issuer: str, refresh_token: str, *, expires_at: float) -> Pending:
    return Pending(secrets.token_hex(_ID_BYTES), issuer, refresh_token, expires_at)


class Outbox(Protocol):
    """Keeps refresh tokens until they are revoked, or over.

    Every method may raise StoreUnavailable: then what it was asked to do may have happened or not,
    and it can be asked again, since a token may be revoked twice. What is over is not there, whether
    or not it has been cleared away yet.
    """

    async def open(self) -> None:
        """Prepare what the outbox needs. Harmless when called again."""

    async def put(self, issuer: str, refresh_token: str, *, due_at: float, expires_at: float) -> Pending:
        """Keep a refresh token, to be claimed from `due_at` on. Once this returns, no crash loses it."""

    async def claim(self, *, until: float) -> Pending | None:
        """Take the one that has been due for longest, or return None if nothing is due.

        Among all processes nobody else gets it before `until`, a time ahead (seconds since the
        epoch). It is due again then, unless it was removed or postponed: a process that dies with
        it is succeeded.
        """

    async def postpone(self, pending_id: str, *, due_at: float) -> None:
        """Let it be claimed again from `due_at` on, which ends a claim. Harmless if it is gone."""

    async def remove(self, pending_id: str) -> None:
        """Forget it, for every process at once. Harmless if it is gone."""

    async def reencrypt(self) -> ReencryptResult:
        """Seal anew with the first key of the ring what an older one has sealed; look at each record once.

        Nobody has to stop working for it, and nothing that anybody writes meanwhile is lost.
        """
