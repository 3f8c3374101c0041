"""Notifies listeners that a session is over, or its claims have changed, in any process; one feed for all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TypeAlias

from app.bff.backoff import SESSION_POLL_SECONDS, SESSION_SAFETY_POLL_SECONDS
from app.bff.errors import StoreUnavailable
from app.bff.sessions.interfaces import News, SessionEndSource
from app.bff.sessions.session import Reason

log = logging.getLogger(__name__)

EndSignal: TypeAlias = "asyncio.Future[Reason | None]"
OnChange: TypeAlias = Callable[[int], None]


class SessionEvents:
    """Notifies listeners within a second that their session is over, or that its claims have changed.

    If the store has a change stream it is followed, with a poll of all watched sessions when it is opened, of
    one when its listener joins, and of all every SESSION_SAFETY_POLL_SECONDS: the stream reports one end
    after the other, so on a busy machine it lags behind hundreds at once. Without a stream, or while it
    fails, all are polled once a second in one query. So no end is missed for good. Without listeners the
    store is not queried.
    """

    def __init__(
        self,
        source: SessionEndSource,
        stopping: asyncio.Event,
        *,
        poll_seconds: float = SESSION_POLL_SECONDS,
        safety_poll_seconds: float = SESSION_SAFETY_POLL_SECONDS,
    ) -> None:
        self._source = source
        self._stopping = stopping
        self._poll_seconds = poll_seconds
        self._safety_poll_seconds = safety_poll_seconds
        self._listeners: dict[str | None, dict[EndSignal, OnChange]] = {}
        self._poll_at: dict[str, float] = {}  # when a session is polled next, by the loop's time
        self._has_listeners = asyncio.Event()
        self._has_feed = False

    @contextmanager
    def watch(self, ref: str | None, on_change: OnChange = lambda changes: None) -> Iterator[EndSignal]:
        """Give a future that resolves to the reason for which the session has ended.

        It resolves to None when this process stops; without a `ref` it resolves to nothing else. A
        store that does not answer resolves nothing. `on_change` is called with `Session.changes`, also
        when that is no news.
        """
        signal: EndSignal = asyncio.get_running_loop().create_future()
        self._add(ref, signal, on_change)
        try:
            yield signal
        finally:
            signal.cancel()
            self._remove(ref, signal)

    def _add(self, ref: str | None, signal: EndSignal, on_change: OnChange) -> None:
        if self._stopping.is_set():
            signal.set_result(None)
        self._listeners.setdefault(ref, {})[signal] = on_change
        if ref is not None:
            self._poll_at[ref] = 0  # it may have ended since its session was read
            self._has_listeners.set()

    def _remove(self, ref: str | None, signal: EndSignal) -> None:
        del self._listeners[ref][signal]
        if not self._listeners[ref]:
            del self._listeners[ref]
        if ref is not None and ref not in self._listeners:
            del self._poll_at[ref]
        if not self._poll_at:
            self._has_listeners.clear()

    async def check(self, refs: Collection[str]) -> None:
        """Poll these sessions now and notify their listeners; raises StoreUnavailable."""
        self._notify(await self._source.reasons(refs))

    def _notify(self, news: Mapping[str, News] | Mapping[str | None, None]) -> None:
        for ref, each in news.items():
            for signal, on_change in self._listeners.get(ref, {}).items():
                if isinstance(each, int):
                    on_change(each)
                elif not signal.done():
                    signal.set_result(each)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Poll and follow until the block is left, which stops the process and may take a second."""
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
            next_poll = now + self._safety_poll_seconds if self._has_feed else 0
            self._poll_at.update(dict.fromkeys(due, next_poll))
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
        """Return when the store has no change stream, or when the last listener has left."""
        async with aclosing(self._source.watch()) as batches:
            async for ended in batches:
                if not self._has_feed:
                    self._has_feed = True
                    self._poll_all_now()  # the stream does not report what ended before it was opened
                self._notify(ended)
                if not self._has_listeners.is_set():
                    return

    def _poll_all_now(self) -> None:
        self._poll_at = dict.fromkeys(self._poll_at, 0.0)


def _log_unexpected(error: Exception) -> None:
    """These loops must survive any exception, since every listener depends on them."""
    if not isinstance(error, StoreUnavailable):  # that has been logged
        log.error("ended sessions could not be looked up", exc_info=error)
