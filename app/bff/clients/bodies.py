"""Responses of named clients: a body that is read as a whole has a limit; errors name their client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import aiohttp


class ResponseTooLarge(aiohttp.ClientPayloadError):
    """The API's response body, decompressed, exceeds the client's `max_response_bytes`."""


class ErrorStatus(aiohttp.ClientResponseError):
    """`raise_for_status`: the API has answered `client` with a status of 400 or more."""

    client = ""


class UnusableBody(aiohttp.ContentTypeError, ValueError):
    """The API's response to `client` is not JSON, or not text in the charset that it names."""

    client = ""


def response_class(client: str, max_bytes: int) -> type[aiohttp.ClientResponse]:
    """Return a class of responses whose `read()` raises ResponseTooLarge beyond `max_bytes`.

    A kilobyte of gzip may hold a megabyte. Reading in chunks has no limit: aiohttp then decompresses only
    as much as is read. Where aiohttp and Python have three kinds of errors for a body that is not what was
    expected, it raises UnusableBody, and ErrorStatus for a status; both name the client.
    """

    class BoundedResponse(aiohttp.ClientResponse):
        def raise_for_status(self) -> None:
            with self._naming_client(ErrorStatus, aiohttp.ClientResponseError):
                super().raise_for_status()

        async def json(self, **options: Any) -> Any:
            with self._naming_client(UnusableBody, aiohttp.ContentTypeError, ValueError):
                return await super().json(**options)

        async def text(self, *args: Any, **options: Any) -> str:
            with self._naming_client(UnusableBody, ValueError):
                return await super().text(*args, **options)

        @contextmanager
        def _naming_client(
            self, kind: type[ErrorStatus | UnusableBody], *errors: type[Exception]
        ) -> Iterator[None]:
            try:
                yield
            except errors as error:
                named = kind(
                    self.request_info,
                    self.history,
                    status=self.status,
                    message=getattr(error, "message", "") or "the body is not what was expected",
                    headers=self.headers,
                )
                named.client = client
                raise named from error

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
