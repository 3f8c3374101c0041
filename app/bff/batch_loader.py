"""Batches look-ups by key: under load one database query serves many requests (as in DataLoader)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from itertools import chain
from typing import Generic, TypeVar

T = TypeVar("T")

_LATE_SECONDS = 0.3  # many times what a query takes
_MAX_QUERIES = 4  # at once: a late one, and those that overtake it


@dataclass(eq=False)
class _Query(Generic[T]):
    """Who waits for it, by key; `overtaken` once a later query asks for the same.

    It runs in the context of its first caller: its log lines and its span are of that request.
    """

    waiting: dict[str, list[asyncio.Future[T | None]]] = field(default_factory=dict)
    overtaken: bool = False
    context: Context | None = None


class BatchLoader(Generic[T]):
    """Looks values up by their key, with at most one query at a time while queries are answered in time.

    Keys requested during a query wait for the next query, so a read issued after an acknowledged write
    sees that write. A query that takes longer than `late_seconds` holds nothing up: the next one starts
    beside it and asks for its keys, too (a hedged request), and the first answer counts. A cancelled
    caller does not affect the others.
    """

    def __init__(
        self,
        look_up: Callable[[Sequence[str]], Awaitable[Mapping[str, T]]],
        *,
        late_seconds: float = _LATE_SECONDS,
    ) -> None:
        self._look_up = look_up
        self._late_seconds = late_seconds
        self._next = _Query[T]()
        self._queries: dict[_Query[T], asyncio.Task[None]] = {}

    async def get(self, key: str) -> T | None:
        """Return the value of the key, or None; raises what `look_up` raises."""
        future: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self._next.context = self._next.context or copy_context()
        self._next.waiting.setdefault(key, []).append(future)
        self._start_next()
        return await future

    def _start_next(self) -> None:
        """Start the next query, unless one is under way that is not late, or there are too many."""
        in_time = any(not query.overtaken for query in self._queries)
        if self._next.waiting and not in_time and len(self._queries) < _MAX_QUERIES:
            query, self._next = self._next, _Query[T]()
            self._queries[query] = asyncio.create_task(self._work(query), context=query.context)

    async def _work(self, query: _Query[T]) -> None:
        late = asyncio.get_running_loop().call_later(self._late_seconds, self._overtake, query)
        try:
            found = await self._look_up(list(query.waiting))
        except Exception as error:  # it is raised in the callers
            if not query.overtaken:
                for future in _unfinished(chain(*query.waiting.values())):
                    future.set_exception(error)
                    future.exception()  # marks it retrieved, also when its caller is cancelled
        else:
            for key, futures in query.waiting.items():
                for future in _unfinished(futures):
                    future.set_result(found.get(key))
        finally:
            late.cancel()
            del self._queries[query]
            self._start_next()

    def _overtake(self, query: _Query[T]) -> None:
        """Have the next query ask for the keys of a late one, too."""
        if len(self._queries) < _MAX_QUERIES:
            query.overtaken = True
            for key, futures in query.waiting.items():
                if unfinished := _unfinished(futures):
                    self._next.waiting.setdefault(key, []).extend(unfinished)
            self._start_next()


def _unfinished(futures: Iterable[asyncio.Future[T]]) -> list[asyncio.Future[T]]:
    return [future for future in futures if not future.done()]
