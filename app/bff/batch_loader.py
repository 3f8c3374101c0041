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
        self._asked: dict[str, list[asyncio.Future[T | None]]] = {}
        self._worker: asyncio.Task[None] | None = None

    async def get(self, key: str) -> T | None:
        """Return what is there under the key, or None; raises what the look-up raises."""
        answer: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(key, []).append(answer)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                found = await self._look_up(list(asked))
            except Exception as error:  # it belongs to those who asked, and none of them is this task
                for answer in _still_wanted(chain(*asked.values())):
                    answer.set_exception(error)
                    answer.exception()  # seen, also when its caller leaves right now
            else:
                for key, answers in asked.items():
                    for answer in _still_wanted(answers):
                        answer.set_result(found.get(key))
        self._worker = None


def _still_wanted(answers: Iterable[asyncio.Future[T]]) -> list[asyncio.Future[T]]:
    return [answer for answer in answers if not answer.done()]
