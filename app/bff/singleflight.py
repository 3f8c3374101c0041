"""Single flight: concurrent calls with the same key share one task (as golang.org/x/sync/singleflight)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs at most one task per key at a time.

    A task belongs to no caller: a disconnected browser cancels its own wait and never the task, so a
    refresh is not cancelled between the provider's response and the write to the store.
    """

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[T]] = {}

    async def do(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of the task for `key`, starting it with `work` if there is none."""
        return await asyncio.shield(self.start(key, work))

    def start(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Start the task for `key` if there is none, without waiting for it."""
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.create_task(work())
            self._tasks[key] = task
            task.add_done_callback(lambda task: self._done(key, task))
        return task

    def runs(self, key: Hashable) -> bool:
        return key in self._tasks

    def _done(self, key: Hashable, task: asyncio.Task[T]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # marks it retrieved, also when every caller was cancelled

    async def drain(self, key: Hashable | None = None) -> None:
        """Wait until no task runs, at shutdown; with a `key`, until none runs for it."""
        while tasks := [task for of, task in self._tasks.items() if key in (None, of)]:
            await asyncio.wait(tasks)
