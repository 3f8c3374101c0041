"""Refresh tokens whose session is over are revoked at the provider (RFC 7009), sooner or later."""

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

_ATTEMPT_SECONDS = 30  # longer than one attempt takes; after that it belongs to whoever is alive
_GIVE_UP_SECONDS = 24 * 3600


class Revocation:
    """Revokes refresh tokens; while the provider is down they wait, sealed, in the store.

    A token is put there before its session is gone, so a crash loses none: whichever process is
    alive goes on, with growing pauses, for a day at the most.
    """

    def __init__(
        self,
        client: OidcClient,
        outbox: Outbox,
        *,
        on_end: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._outbox = outbox
        self._on_end = on_end
        self._clock = clock

    async def enqueue(self, session: Session) -> list[Pending]:
        """Put the refresh token into the store, for `attempt`; raises StoreUnavailable."""
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
        """Do as `enqueue` does, if what a session leaves behind is to be revoked at all."""
        return await self.enqueue(session) if self._on_end else []

    async def revoke_all(self, session: Session) -> None:
        """Revoke what a session that is over has left behind."""
        for pending in await self.enqueue_on_end(session):
            await self.attempt(pending)

    async def attempt(self, pending: Pending) -> bool:
        """Try once; if the provider does not answer, return False and leave it for later."""
        try:
            if pending.issuer == self._client.issuer:
                await self._client.revoke(pending.refresh_token)
                log.info("refresh token revoked")
            else:
                log.error("refresh token of another provider not revoked", extra={"issuer": pending.issuer})
        except GrantRefused as error:
            log.error("refresh token cannot be revoked", extra={"reason": str(error)})
        except ProviderUnavailable as error:
            await self._postpone(pending, error)
            return False
        with contextlib.suppress(StoreUnavailable):  # then it is revoked once more, which does no harm
            await self._outbox.remove(pending.id)
        return True

    async def _postpone(self, pending: Pending, error: ProviderUnavailable) -> None:
        due_at = self._clock() + max(revocation_seconds(pending.tries), error.requested_pause_seconds or 0)
        with contextlib.suppress(
            StoreUnavailable
        ):  # then it is due again when this attempt would have been over
            if due_at < pending.expires_at:
                log.warning("refresh token not revoked yet", extra={"reason": str(error)})
                await self._outbox.postpone(pending.id, due_at=due_at)
            else:
                log.error("refresh token never revoked", extra={"reason": str(error)})
                await self._outbox.remove(pending.id)

    async def revoke_best_effort(self, session: Session) -> None:
        """Revoke its refresh token without the store, which does not answer; nothing follows if it fails."""
        with contextlib.suppress(GrantRefused, ProviderUnavailable):
            if session.tokens.refresh_token is not None:
                await self._client.revoke(session.tokens.refresh_token)

    async def drain_due(self) -> None:
        """Revoke all that is due, until the provider does not answer; raises StoreUnavailable."""
        while pending := await self._outbox.claim(until=self._clock() + _ATTEMPT_SECONDS):
            if not await self.attempt(pending):
                return

    async def run(self) -> None:
        """Work off what is due, every few seconds, until cancelled."""
        while True:
            with contextlib.suppress(StoreUnavailable):  # it has been logged
                await self.drain_due()
            await asyncio.sleep(REVOCATION_DRAIN_SECONDS)
