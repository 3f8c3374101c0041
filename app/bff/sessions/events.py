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

REASON_KEPT_SECONDS = 600
QUIET_SECONDS = 1

EndSignal: TypeAlias = "asyncio.Future[Reason | None]"


class SessionEndSource(Protocol):
    """What a session store knows of the sessions that it has no more.

    Both methods may raise StoreUnavailable, which says nothing about any session.
    """

    async def reasons(self, refs: Collection[str]) -> Mapping[str, Reason]:
        """Return why, for those of `refs` whose sessions are over.

        The reason of a session that was ended is known for REASON_KEPT_SECONDS. One that nobody has
        ended is over by time.
        """

    def watch(self) -> AsyncGenerator[Mapping[str, Reason]]:
        """Yield what is ended from now on, in any process.

        Yields nothing to begin with, and whenever nothing has ended for QUIET_SECONDS. A store that
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
        ended: SessionEndSource,
        stopping: asyncio.Event,
        *,
        look_every_seconds: float = 1,
        look_anew_seconds: float = 30,
    ) -> None:
        self._ended = ended
        self._stopping = stopping
        self._look_every_seconds = look_every_seconds
        self._look_anew_seconds = look_anew_seconds
        self._listeners: dict[str | None, set[EndSignal]] = {}
        self._look_at: dict[str, float] = {}  # when to look at a session next, by the loop's time
        self._anybody = asyncio.Event()
        self._is_told = False

    @contextmanager
    def listening(self, ref: str | None) -> Iterator[EndSignal]:
        """Give a future that becomes the reason for which the session has ended.

        It becomes None if this process is about to stop; without a `ref` that is all it can become.
        A store that does not answer decides nothing.
        """
        news: EndSignal = asyncio.get_running_loop().create_future()
        self._add(ref, news)
        try:
            yield news
        finally:
            news.cancel()
            self._remove(ref, news)

    def _add(self, ref: str | None, news: EndSignal) -> None:
        if self._stopping.is_set():
            news.set_result(None)
        self._listeners.setdefault(ref, set()).add(news)
        if ref is not None:
            self._look_at[ref] = 0  # it may have ended since its session was read
            self._anybody.set()

    def _remove(self, ref: str | None, news: EndSignal) -> None:
        self._listeners[ref].remove(news)
        if not self._listeners[ref]:
            del self._listeners[ref]
        if ref is not None and ref not in self._listeners:
            del self._look_at[ref]
        if not self._look_at:
            self._anybody.clear()

    async def look(self, refs: Collection[str]) -> None:
        """Tell those whose sessions are over; raises StoreUnavailable."""
        self._tell(await self._ended.reasons(refs))

    def _tell(self, endings: Mapping[str, Reason] | Mapping[str | None, None]) -> None:
        for ref, reason in endings.items():
            for news in self._listeners.get(ref, ()):
                if not news.done():
                    news.set_result(reason)

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
            at_work = [group.create_task(self._keep_looking()), group.create_task(self._keep_hearing())]
            await self._stopping.wait()
            self._tell(dict.fromkeys(self._listeners))
            for task in at_work:
                task.cancel()

    async def _keep_looking(self) -> None:
        while True:
            await self._anybody.wait()
            try:
                await self._look_at_what_is_due()
            except Exception as error:
                _note(error)
                self._look_at_all()
            await asyncio.sleep(self._look_every_seconds)

    async def _look_at_what_is_due(self) -> None:
        now = asyncio.get_running_loop().time()
        due = [ref for ref, at in self._look_at.items() if at <= now]
        if due:
            self._look_at.update(dict.fromkeys(due, now + self._look_anew_seconds if self._is_told else 0))
            await self.look(due)

    async def _keep_hearing(self) -> None:
        while True:
            await self._anybody.wait()
            try:
                await self._hear()
            except Exception as error:
                _note(error)
            self._is_told = False
            self._look_at_all()
            await asyncio.sleep(self._look_anew_seconds)

    async def _hear(self) -> None:
        """Return when the store cannot tell, or nobody listens any more."""
        async with aclosing(self._ended.watch()) as batches:
            async for endings in batches:
                if not self._is_told:
                    self._is_told = True
                    self._look_at_all()  # what ended a moment before, it did not tell
                self._tell(endings)
                if not self._anybody.is_set():
                    return

    def _look_at_all(self) -> None:
        self._look_at = dict.fromkeys(self._look_at, 0.0)


def _note(error: Exception) -> None:
    """Everybody who listens needs what goes on here, so nothing that goes wrong may end it."""
    if not isinstance(error, StoreUnavailable):  # that has been logged
        log.error("ended sessions cannot be looked up", exc_info=error)
