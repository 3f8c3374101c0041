"""Look-ups gathered into batches: under load one question to the database answers many requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Generic, TypeVar

T = TypeVar("T")


class BatchLoader(Generic[T]):
    """Looks things up by their key, with at most one look-up under way.

    Keys asked for meanwhile go with the next one. So nobody joins a look-up that has begun before:
    whoever asks after a write was acknowledged sees what was written. A caller that goes away takes
    nothing from the others.
    """

    def __init__(self, look_up: Callable[[Sequence[str]], Awaitable[Mapping[str, T]]]) -> None:
        self._look_up = look_up
        self._pending: dict[str, list[asyncio.Future[T | None]]] = {}
        self._worker: asyncio.Task[None] | None = None

    async def get(self, key: str) -> T | None:
        """Return what is there under the key, or None; raises what the look-up raises."""
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
            except Exception as error:  # it belongs to those who asked, and none of them is this task
                for future in _unfinished(chain(*batch.values())):
                    future.set_exception(error)
                    future.exception()  # seen, also when its caller leaves right now
            else:
                for key, futures in batch.items():
                    for future in _unfinished(futures):
                        future.set_result(found.get(key))
        self._worker = None


def _unfinished(futures: Iterable[asyncio.Future[T]]) -> list[asyncio.Future[T]]:
    return [future for future in futures if not future.done()]
