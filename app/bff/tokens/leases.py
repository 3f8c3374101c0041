"""Leases on sessions: acquired for one refresh, and released in the background, whatever the store does."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from app.bff.backoff import LEASE_RELEASE_SECONDS
from app.bff.errors import StoreUnavailable
from app.bff.sessions.interfaces import SessionStore
from app.bff.sessions.session import Session
from app.bff.singleflight import SingleFlight


@dataclass(frozen=True)
class Lease:
    """The right to refresh `session`, which is as it was when the lease was acquired."""

    session: Session
    owner: str


class Leases:
    """Acquires and releases the leases of this process; each has an owner of its own.

    A release that arrives late, after its caller has given it up, must not end the next lease.
    """

    def __init__(
        self, sessions: SessionStore, *, seconds: float, pauses: Callable[[], Iterator[float]]
    ) -> None:
        self._sessions = sessions
        self._seconds = seconds
        self._pauses = pauses
        self._owners = map(f"{secrets.token_hex(8)}.{{}}".format, itertools.count())
        self._releasing = SingleFlight[None]()  # by owner

    async def acquire(self, ref: str) -> Lease | None:
        """Return the lease, or None while another owner has it; raises StoreUnavailable."""
        owner = next(self._owners)
        try:
            session = await self._sessions.lease(ref, owner=owner, seconds=self._seconds)
        except (StoreUnavailable, asyncio.CancelledError):
            # Acquired all the same, perhaps: the answer was lost, or the request is late.
            self._release(ref, owner, again=True)
            raise
        return Lease(session, owner) if session else None

    def release(self, lease: Lease) -> None:
        """Release it as soon as the store answers, without waiting for that."""
        self._release(lease.session.ref, lease.owner)

    async def drain(self) -> None:
        """Wait a moment for releases; what is left expires."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LEASE_RELEASE_SECONDS):
                await self._releasing.drain()

    def _release(self, ref: str, owner: str, *, again: bool = False) -> None:
        self._releasing.start(owner, lambda: self._release_eventually(ref, owner, again=again))

    async def _release_eventually(self, ref: str, owner: str, *, again: bool) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await self._release_until_answered(ref, owner)
                if again:
                    await asyncio.sleep(LEASE_RELEASE_SECONDS)
                    await self._release_until_answered(ref, owner)

    async def _release_until_answered(self, ref: str, owner: str) -> None:
        for pause in self._pauses():
            with suppress(StoreUnavailable):
                await self._sessions.release(ref, owner=owner)
                return
            await asyncio.sleep(pause)
