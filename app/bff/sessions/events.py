"""Learning that a session is over, whichever process has ended it: one feed, however many listen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Protocol, TypeAlias

from app.bff.errors import StoreUnavailable
from app.bff.sessions.session import Reason

log = logging.getLogger(__name__)

TOMBSTONE_SECONDS = 600
HEARTBEAT_SECONDS = 1

EndSignal: TypeAlias = "asyncio.Future[Reason | None]"


class SessionEndSource(Protocol):
    """What a session store knows of the sessions that it has no more.

    Both methods may raise StoreUnavailable, which says nothing about any session.
    """

    async def reasons(self, refs: Collection[str]) -> Mapping[str, Reason]:
        """Return why, for those of `refs` whose sessions are over.

        The reason of a session that was ended is known for TOMBSTONE_SECONDS. One that nobody has
        ended is over by time.
        """

    def watch(self) -> AsyncGenerator[Mapping[str, Reason]]:
        """Yield what is ended from now on, in any process.

        Yields nothing to begin with, and whenever nothing has ended for HEARTBEAT_SECONDS. A store that
        cannot tell stops at once.
        """


class SessionEvents:
    """Tells whoever listens that a session is over, within a second of its end.

    A store that tells by itself is listened to; then sessions are looked at when somebody begins to
    listen, and now and then in case something was missed. Otherwise, and while it has trouble, all are
    looked at every second, with one question. While nobody listens, nothing is asked.
    """

    def __init__(
        self,
        source: SessionEndSource,
        stopping: asyncio.Event,
        *,
        poll_seconds: float = 1,
        safety_poll_seconds: float = 30,
    ) -> None:
        self._source = source
        self._stopping = stopping
        self._poll_seconds = poll_seconds
        self._safety_poll_seconds = safety_poll_seconds
        self._listeners: dict[str | None, set[EndSignal]] = {}
        self._poll_at: dict[str, float] = {}  # when to look at a session next, by the loop's time
        self._has_listeners = asyncio.Event()
        self._has_feed = False

    @contextmanager
    def watch(self, ref: str | None) -> Iterator[EndSignal]:
        """Give a future that becomes the reason for which the session has ended.

        It becomes None if this process is about to stop; without a `ref` that is all it can become.
        A store that does not answer decides nothing.
        """
        signal: EndSignal = asyncio.get_running_loop().create_future()
        self._add(ref, signal)
        try:
            yield signal
        finally:
            signal.cancel()
            self._remove(ref, signal)

    def _add(self, ref: str | None, signal: EndSignal) -> None:
        if self._stopping.is_set():
            signal.set_result(None)
        self._listeners.setdefault(ref, set()).add(signal)
        if ref is not None:
            self._poll_at[ref] = 0  # it may have ended since its session was read
            self._has_listeners.set()

    def _remove(self, ref: str | None, signal: EndSignal) -> None:
        self._listeners[ref].remove(signal)
        if not self._listeners[ref]:
            del self._listeners[ref]
        if ref is not None and ref not in self._listeners:
            del self._poll_at[ref]
        if not self._poll_at:
            self._has_listeners.clear()

    async def check(self, refs: Collection[str]) -> None:
        """Tell those whose sessions are over; raises StoreUnavailable."""
        self._notify(await self._source.reasons(refs))

    def _notify(self, ended: Mapping[str, Reason] | Mapping[str | None, None]) -> None:
        for ref, reason in ended.items():
            for signal in self._listeners.get(ref, ()):
                if not signal.done():
                    signal.set_result(reason)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look and hear; to leave this, which may take a second, is to stop the process."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._stopping.set()
            await task

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            loops = [group.create_task(self._poll_forever()), group.create_task(self._follow_forever())]
            await self._stopping.wait()
            self._notify(dict.fromkeys(self._listeners))
            for task in loops:
                task.cancel()

    async def _poll_forever(self) -> None:
        while True:
            await self._has_listeners.wait()
            try:
                await self._poll_due()
            except Exception as error:
                _log_unexpected(error)
                self._poll_all_now()
            await asyncio.sleep(self._poll_seconds)

    async def _poll_due(self) -> None:
        now = asyncio.get_running_loop().time()
        due = [ref for ref, at in self._poll_at.items() if at <= now]
        if due:
            self._poll_at.update(dict.fromkeys(due, now + self._safety_poll_seconds if self._has_feed else 0))
            await self.check(due)

    async def _follow_forever(self) -> None:
        while True:
            await self._has_listeners.wait()
            try:
                await self._follow()
            except Exception as error:
                _log_unexpected(error)
            self._has_feed = False
            self._poll_all_now()
            await asyncio.sleep(self._safety_poll_seconds)

    async def _follow(self) -> None:
        """Return when the store cannot tell, or nobody listens any more."""
        async with aclosing(self._source.watch()) as batches:
            async for ended in batches:
                if not self._has_feed:
                    self._has_feed = True
                    self._poll_all_now()  # what ended a moment before, it did not tell
                self._notify(ended)
                if not self._has_listeners.is_set():
                    return

    def _poll_all_now(self) -> None:
        self._poll_at = dict.fromkeys(self._poll_at, 0.0)


def _log_unexpected(error: Exception) -> None:
    """Everybody who listens needs what goes on here, so nothing that goes wrong may end it."""
    if not isinstance(error, StoreUnavailable):  # that has been logged
        log.error("ended sessions cannot be looked up", exc_info=error)
