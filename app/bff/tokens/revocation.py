"""Revokes refresh tokens (RFC 7009) once their session is over; the outbox holds those to be retried."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from app.bff.backoff import REVOCATION_DRAIN_SECONDS, revocation_seconds
from app.bff.errors import GrantRefused, ProviderUnavailable, StoreUnavailable
from app.bff.oidc.client import OidcClient
from app.bff.sessions.interfaces import Outbox, Pending
from app.bff.sessions.session import Session

log = logging.getLogger(__name__)

_ATTEMPT_SECONDS = 30  # longer than one attempt takes; after that another process may claim it
_GIVE_UP_SECONDS = 24 * 3600


class Revocation:
    """Revokes refresh tokens; while the provider is down they wait, sealed, in the outbox.

    A token is put there before its session is deleted, so a crash loses none: any live process
    retries, with growing pauses, for a day at most.
    """

    def __init__(
        self,
        client: OidcClient,
        outbox: Outbox,
        *,
        on_end: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._outbox = outbox
        self._on_end = on_end
        self._clock = clock

    async def enqueue(self, session: Session) -> list[Pending]:
        """Put the refresh token into the outbox, for `attempt`; raises StoreUnavailable."""
        if session.tokens.refresh_token is None:
            return []
        now = self._clock()
        pending = await self._outbox.put(
            session.issuer,
            session.tokens.refresh_token,
            due_at=now + _ATTEMPT_SECONDS,
            expires_at=now + _GIVE_UP_SECONDS,
        )
        return [pending]

    async def enqueue_on_end(self, session: Session) -> list[Pending]:
        """Enqueue the refresh token if revoke_refresh_token_on_logout is set."""
        return await self.enqueue(session) if self._on_end else []

    async def revoke_all(self, session: Session) -> None:
        """Enqueue what a session that is over leaves behind, and try once to revoke it."""
        for pending in await self.enqueue_on_end(session):
            await self.attempt(pending)

    async def attempt(self, pending: Pending) -> bool:
        """Try once to revoke; return False if it has to be retried, and schedule that."""
        if pending.issuer != self._client.issuer:
            log.error("refresh token of another provider not revoked", extra={"issuer": pending.issuer})
        else:
            try:
                await self._revoke(pending.refresh_token)
            except ProviderUnavailable as error:
                await self._retry_later(pending, error)
                return False
        with contextlib.suppress(StoreUnavailable):  # then it is revoked once more, which is harmless
            await self._outbox.remove(pending.id)
        return True

    async def _revoke(self, refresh_token: str) -> None:
        try:
            if await self._client.revoke(refresh_token):
                log.info("refresh token revoked")
            else:
                log.info("refresh token not revoked: the provider has no revocation endpoint")
        except GrantRefused as error:
            log.error("refresh token revocation refused", extra={"reason": str(error)})

    async def _retry_later(self, pending: Pending, error: ProviderUnavailable) -> None:
        due_at = self._clock() + max(revocation_seconds(pending.tries), error.requested_pause_seconds or 0)
        with contextlib.suppress(StoreUnavailable):  # then it is due again when this claim expires
            if due_at < pending.expires_at:
                log.warning("refresh token not revoked yet", extra={"reason": str(error)})
                await self._outbox.postpone(pending.id, due_at=due_at)
            else:
                log.error("refresh token never revoked", extra={"reason": str(error)})
                await self._outbox.remove(pending.id)

    async def revoke_best_effort(self, session: Session) -> None:
        """Try once to revoke without the outbox; a failure is logged and not retried."""
        if session.tokens.refresh_token is None:
            return
        try:
            await self._revoke(session.tokens.refresh_token)
        except ProviderUnavailable as error:
            log.error("refresh token never revoked", extra={"reason": str(error)})

    async def drain_due(self) -> None:
        """Revoke all that is due, until one attempt has to be retried; raises StoreUnavailable."""
        while pending := await self._outbox.claim(until=self._clock() + _ATTEMPT_SECONDS):
            if not await self.attempt(pending):
                return

    async def run(self) -> None:
        """Drain the outbox every REVOCATION_DRAIN_SECONDS, until cancelled."""
        while True:
            with contextlib.suppress(StoreUnavailable):  # it has been logged
                await self.drain_due()
            await asyncio.sleep(REVOCATION_DRAIN_SECONDS)
