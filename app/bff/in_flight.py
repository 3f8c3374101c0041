"""Which requests are in flight: a stop waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class InFlightRequests:
    """The requests that have begun and not ended: a stop waits for them."""

    def __init__(self) -> None:
        self._requests: set[object] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[object]:
        return iter(self._requests)

    def __contains__(self, request: object) -> bool:
        return request in self._requests

    def begin(self, request: object) -> None:
        self._requests.add(request)
        self._idle.clear()

    def end(self, request: object) -> None:
        """Take a request out; harmless if it is out already."""
        self._requests.discard(request)
        if not self._requests:
            self._idle.set()

    @contextmanager
    def including(self, request: object) -> Iterator[None]:
        """Count `request` as in flight for as long as the block runs."""
        self.begin(request)
        try:
            yield
        finally:
            self.end(request)

    async def drained(self) -> None:
        """Wait until no request is in flight."""
        while self._requests:
            await self._idle.wait()
