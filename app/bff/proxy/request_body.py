"""Streams a request's body with backpressure: at most one chunk is in memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress

from app.bff.errors import BadRequest, TooLarge, TooSlow
from app.bff.proxy.patience import Patience

_LINGER_SECONDS, _LINGER_STALL_SECONDS = 30, 2  # as nginx does: lingering_time, lingering_timeout


def declared_length(headers: Mapping[str, str]) -> int | None:
    """Return the declared length of the body, or None for a chunked one.

    Raises BadRequest for ambiguous framing, which enables request smuggling (RFC 9112 §11.2).
    """
    length, coding = headers.get("Content-Length"), headers.get("Transfer-Encoding")
    if coding is not None and length is None and coding.lower() == "chunked":
        return None
    length = "0" if length is None else length
    if coding is not None or not re.fullmatch("[0-9]{1,4000}", length):
        raise BadRequest("it is not clear where this request ends")
    return int(length)


class RequestBody:
    """The body of a request, read from the connection no faster than it is iterated.

    Iteration raises TooLarge beyond `max_bytes`, and TooSlow beyond `patience`.
    `error` is what was raised: an HTTP client that iterates may wrap it in an error of its own.
    """

    def __init__(self, max_bytes: int, patience: Patience) -> None:
        self.error: TooLarge | TooSlow | None = None
        self._max_bytes = max_bytes
        self._patience = patience
        self._received = 0
        self._waited_seconds = 0.0
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self._requested = asyncio.Event()
        self._is_released = False
        self.is_requested = False  # iteration has begun
        self.ended = False

    async def requested(self) -> None:
        """Return when iteration begins; only then Tornado sends "100 Continue"."""
        await self._requested.wait()

    async def put(self, chunk: bytes) -> None:
        """Add a chunk, and return when the next one is to be read."""
        if self._is_released:
            return
        self._requested.clear()
        self._chunks.put_nowait(chunk)
        await self._requested.wait()

    def end(self) -> None:
        self.ended = True
        self._chunks.put_nowait(b"")

    def release(self) -> None:
        """Drop what arrives from now on, without backpressure."""
        self._is_released = True
        self._requested.set()

    async def discard(self) -> None:
        """Read and drop the rest, until it ends, stalls or the linger time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while not self.ended:
                    self._requested.set()
                    async with asyncio.timeout(_LINGER_STALL_SECONDS):
                        await self._chunks.get()

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self._next():
            self._received += len(chunk)
            if self._received > self._max_bytes:
                self.error = TooLarge(f"the request body is limited to {self._max_bytes} bytes")
                raise self.error
            yield chunk

    async def _next(self) -> bytes:
        self.is_requested = True
        self._requested.set()
        begun = asyncio.get_running_loop().time()
        seconds = self._patience.seconds_for_next(
            waited_seconds=self._waited_seconds, transferred=self._received
        )
        try:
            async with asyncio.timeout(seconds):
                return await self._chunks.get()
        except TimeoutError:
            self.error = TooSlow("the rest of the request did not arrive")
            raise self.error from None
        finally:
            self._waited_seconds += asyncio.get_running_loop().time() - begun
