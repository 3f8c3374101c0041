"""Puts an access token on the requests of an HTTP client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, WSServerHandshakeError
from aiohttp.payload import BytesPayload
from yarl import URL

from app.oidc.dpop import DpopKey, Nonces, api_wants_nonce, authorization


@dataclass(frozen=True)
class Credential:
    """An access token, and the key that it is bound to, if any (RFC 9449)."""

    access_token: str = field(repr=False)
    expires_at: float | None = None  # seconds since the epoch, if the provider has said
    dpop_key: DpopKey | None = field(default=None, repr=False)

    def headers(self, method: str, url: str, *, now: float, nonce: str | None) -> dict[str, str]:
        """Return what a request must carry to present it."""
        return authorization(self.access_token, self.dpop_key, method, url, now=now, nonce=nonce)


class TokenSource(Protocol):
    """Anything that can return an access token that is good right now."""

    async def __call__(self, *, instead_of: str | None = None) -> Credential | None:
        """Return a token other than `instead_of`, or None if requests go without; else raise Unauthorized."""


class Bearer:
    """An aiohttp client middleware for one origin.

    One 401 is answered with one renewed token and one more try (RFC 6750 §3.1); a second 401 goes to
    the caller. A body that was streamed cannot be sent twice, so such a request is never repeated.
    """

    def __init__(
        self,
        source: TokenSource,
        origin: URL,
        *,
        nonces: Nonces,
        private_headers: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._origin = origin
        self._nonces = nonces
        self._clock = clock
        self._private_headers = ("Authorization", "DPoP", *private_headers)
        self._ready: Credential | None = None

    async def get_ready(self) -> Credential | None:
        """Get the token for the next request before it begins."""
        self._ready = await self._source()
        return self._ready

    async def __call__(self, request: ClientRequest, send: ClientHandlerType) -> ClientResponse:
        if request.url.origin() != self._origin:  # a redirect led elsewhere: what is secret stays here
            for name in self._private_headers:
                request.headers.pop(name, None)
            return await send(request)
        credential = self._ready or await self._source()
        self._ready = None
        if credential is None:
            return await send(request)
        response = await self._send_with(credential, request, send)
        if response.status != 401 or not _can_be_sent_again(request):
            return response
        response.release()
        renewed = await self._source(instead_of=credential.access_token)
        return await self._send_with(renewed or credential, request, send)

    async def _send_with(
        self, credential: Credential, request: ClientRequest, send: ClientHandlerType
    ) -> ClientResponse:
        """Send, and once more if the API wants a nonce of its own in the proof."""
        response = await self._send_once(credential, request, send)
        if credential.dpop_key is None or not api_wants_nonce(response.status, response.headers):
            return response
        if not _can_be_sent_again(request):
            return response
        response.release()
        return await self._send_once(credential, request, send)

    async def _send_once(
        self, credential: Credential, request: ClientRequest, send: ClientHandlerType
    ) -> ClientResponse:
        url = str(request.url)
        nonce = self._nonces.of(url) if credential.dpop_key else None
        request.headers.update(credential.headers(request.method, url, now=self._clock(), nonce=nonce))
        response = await send(request)
        if credential.dpop_key:
            self._nonces.note(url, response.headers)
        return response


async def refuse_redirect(request: ClientRequest, send: ClientHandlerType) -> ClientResponse:
    """An aiohttp client middleware for a WebSocket: what it was opened to is what it ends up at."""
    response = await send(request)
    if 300 <= response.status < 400:
        response.close()
        raise WSServerHandshakeError(
            response.request_info, response.history, message="redirected", status=response.status
        )
    return response


def _can_be_sent_again(request: ClientRequest) -> bool:
    return not request.body or isinstance(request.body, BytesPayload)
