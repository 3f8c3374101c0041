"""Puts an access token on the requests of an HTTP client."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from aiohttp.payload import BytesPayload
from yarl import URL


class TokenSource(Protocol):
    """Anything that can return an access token that is good right now."""

    async def __call__(self, *, instead_of: str | None = None) -> str | None:
        """Return a token other than `instead_of`, or None if requests go without; else raise Unauthorized."""


class Bearer:
    """An aiohttp client middleware for one origin.

    One 401 is answered with one renewed token and one more try (RFC 6750 §3.1); a second 401 goes to
    the caller. A body that was streamed cannot be sent twice, so such a request is never repeated.
    """

    def __init__(self, source: TokenSource, origin: URL, *, private_headers: Iterable[str] = ()) -> None:
        self._source = source
        self._origin = origin
        self._private_headers = ("Authorization", *private_headers)

    async def __call__(self, request: ClientRequest, send: ClientHandlerType) -> ClientResponse:
        if request.url.origin() != self._origin:  # a redirect led elsewhere: what is secret stays here
            for name in self._private_headers:
                request.headers.pop(name, None)
            return await send(request)
        token = await self._source()
        if token is None:
            return await send(request)
        request.headers["Authorization"] = f"Bearer {token}"
        response = await send(request)
        if response.status != 401 or not _can_be_sent_again(request):
            return response
        response.release()
        request.headers["Authorization"] = f"Bearer {await self._source(instead_of=token)}"
        return await send(request)


def _can_be_sent_again(request: ClientRequest) -> bool:
    return not request.body or isinstance(request.body, BytesPayload)
