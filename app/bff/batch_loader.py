"""Batches look-ups by key: under load one database query serves many requests (as in DataLoader)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Generic, TypeVar

T = TypeVar("T")


class BatchLoader(Generic[T]):
    """Looks values up by their key, with at most one query at a time.

    Keys requested during a query wait for the next query, so a read issued after an acknowledged write
    sees that write. A cancelled caller does not affect the others.
    """

    def __init__(self, look_up: Callable[[Sequence[str]], Awaitable[Mapping[str, T]]]) -> None:
        self._look_up = look_up
        self._pending: dict[str, list[asyncio.Future[T | None]]] = {}
        self._worker: asyncio.Task[None] | None = None

    async def get(self, key: str) -> T | None:
        """Return the value of the key, or None; raises what `look_up` raises."""
        future: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self._pending.setdefault(key, []).append(future)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._pending:
            batch, self._pending = self._pending, {}
            try:
                found = await self._look_up(list(batch))
            except Exception as error:  # it is raised in the callers
                for future in _unfinished(chain(*batch.values())):
                    future.set_exception(error)
                    future.exception()  # marks it retrieved, also when its caller is cancelled
            else:
                for key, futures in batch.items():
                    for future in _unfinished(futures):
                        future.set_result(found.get(key))
        self._worker = None


def _unfinished(futures: Iterable[asyncio.Future[T]]) -> list[asyncio.Future[T]]:
    return [future for future in futures if not future.done()]
