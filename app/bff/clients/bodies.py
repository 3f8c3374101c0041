"""Response bodies of named clients: what is read as a whole has a limit, after decompression."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import aiohttp


class ResponseTooLarge(aiohttp.ClientPayloadError):
    """The API's response body, decompressed, exceeds the client's `max_response_bytes`."""


def response_class(max_bytes: int) -> type[aiohttp.ClientResponse]:
    """Return a class of responses whose `read()` raises ResponseTooLarge beyond `max_bytes`.

    A kilobyte of gzip may hold a megabyte. Reading in chunks has no limit: aiohttp then decompresses only
    as much as is read.
    """

    class BoundedResponse(aiohttp.ClientResponse):
        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            response = await super().start(connection)
            self.content = cast(aiohttp.StreamReader, _BoundedContent(self.content, max_bytes))
            return response

    return BoundedResponse


class _BoundedContent:
    """A StreamReader, but for `read()` without a size."""

    def __init__(self, content: aiohttp.StreamReader, max_bytes: int) -> None:
        self._content = content
        self._max_bytes = max_bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._content)

    async def read(self, n: int = -1) -> bytes:
        # aiohttp decompresses at most `n` bytes at once, but without a size the whole body.
        return await (self._content.read(min(n, self._max_bytes)) if n >= 0 else self._whole())

    async def _whole(self) -> bytes:
        blocks, size = [], 0
        while block := await self._content.readany():
            size += len(block)
            if size > self._max_bytes:
                raise ResponseTooLarge(f"the API sent more than {self._max_bytes} bytes")
            blocks.append(block)
        return b"".join(blocks)
