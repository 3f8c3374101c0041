"""A request's body on its way through us: never more than one chunk of it is held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from app.errors import TooLarge, TooSlow


def has_body(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers


class RequestBody:
    """What the browser sends, read no faster than somebody takes it.

    Iterating raises TooLarge after `max_bytes`, and TooSlow if nothing arrives for `stall_seconds`.
    `error` is what was raised: whoever iterates may hide it.
    """

    def __init__(self, *, max_bytes: int, stall_seconds: float) -> None:
        self.error: TooLarge | TooSlow | None = None
        self._max_bytes = max_bytes
        self._stall_seconds = stall_seconds
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self._wanted = asyncio.Event()

    async def wanted(self) -> None:
        """Return when the first chunk is to be read; a browser that waits to be asked is asked then."""
        await self._wanted.wait()

    async def put(self, chunk: bytes) -> None:
        """Hand over a chunk, and return when the next one may come."""
        self._wanted.clear()
        self._chunks.put_nowait(chunk)
        await self._wanted.wait()

    def end(self) -> None:
        self._chunks.put_nowait(b"")

    def let_go(self) -> None:
        """Nobody takes any more of it."""
        self._wanted.set()

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        while chunk := await self._next():
            received += len(chunk)
            if received > self._max_bytes:
                self.error = TooLarge(f"at most {self._max_bytes} bytes may be sent here")
                raise self.error
            yield chunk

    async def _next(self) -> bytes:
        self._wanted.set()
        try:
            async with asyncio.timeout(self._stall_seconds):
                return await self._chunks.get()
        except TimeoutError:
            self.error = TooSlow("the rest of the request did not arrive")
            raise self.error from None
