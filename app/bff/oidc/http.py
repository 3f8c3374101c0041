"""HTTP to the provider: bounded time, bounded bodies, errors as ProviderUnavailable."""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from app.bff.errors import ProviderUnavailable

MAX_BODY_BYTES = 1_000_000


class BodyTooLarge(httpx2.HTTPError):
    pass


class BoundedTransport(httpx2.AsyncHTTPTransport):
    """A transport whose responses fail once their body exceeds MAX_BODY_BYTES.

    Compressed responses are refused, since a kilobyte of them may inflate to a megabyte.
    """

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["Accept-Encoding"] = "identity"
        response = await super().handle_async_request(request)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.DecodingError("the provider sent a compressed body")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Bounded(response.stream)
        return response


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        async for chunk in self._stream:
            received += len(chunk)
            if received > MAX_BODY_BYTES:
                raise BodyTooLarge(f"the provider sent more than {MAX_BODY_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


@functools.cache
def tls() -> ssl.SSLContext:
    """Return one context for all clients: creating it blocks for tens of milliseconds."""
    return ssl.create_default_context()


@asynccontextmanager
async def translate_http_errors(timeout_seconds: float) -> AsyncIterator[None]:
    """Raise ProviderUnavailable for any HTTP error until the body is read.

    A time-out, or a connection that cannot be opened, is an outage. A connection that breaks later is none:
    what this request contained may be the reason.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            yield
    except (TimeoutError, httpx2.TimeoutException) as error:
        raise ProviderUnavailable("the provider took too long") from error
    except httpx2.HTTPError as error:
        raise ProviderUnavailable(
            f"the provider could not be reached: {type(error).__name__}",
            is_outage=isinstance(error, httpx2.ConnectError),
        ) from error


def parse_json_object(data: bytes) -> dict[str, Any] | None:
    """Return the JSON object in `data`, or None if it is anything else."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def json_object(status: int, body: bytes) -> dict[str, Any]:
    """Return the JSON object in the body of a 200 response, or raise ProviderUnavailable."""
    found = parse_json_object(body)
    if status != httpx2.codes.OK or found is None:
        raise ProviderUnavailable(f"the provider answered {status} without a JSON object")
    return found
