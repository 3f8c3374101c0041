"""Presents access tokens to APIs: Bearer (RFC 6750), or DPoP-bound (RFC 9449)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, WSServerHandshakeError
from aiohttp.payload import BytesPayload
from yarl import URL

from app.bff.errors import TooManyRequests
from app.bff.oidc.dpop import DpopKey, Nonces, authorization, is_api_nonce_challenge
from app.bff.settings.proxies import Proxies
from app.bff.telemetry.observer import Calls
from app.bff.tokens.policy import is_too_new_to_renew


@dataclass
class Credential:
    """An access token, and the key that it is bound to, if any (RFC 9449)."""

    access_token: str = field(repr=False)
    expires_at: float | None = None  # seconds since the epoch, if the provider has said
    dpop_key: DpopKey | None = field(default=None, repr=False)
    renewed_at: float | None = None  # seconds since the epoch; None: it is the first one

    def headers(self, method: str, url: URL | str, *, now: float, nonce: str | None) -> dict[str, str]:
        """Return the headers that present it: `Authorization`, and `DPoP` for a bound token."""
        if self.dpop_key is None:
            return {"Authorization": f"Bearer {self.access_token}"}
        return authorization(self.access_token, self.dpop_key, method, str(url), now=now, nonce=nonce)


class TokenSource(Protocol):
    """Anything that returns an access token that is valid now."""

    async def __call__(self, *, rejected: str | None = None) -> Credential | None:
        """Return a token other than `rejected`, or None if requests go without; else raise Unauthorized."""


Send = Callable[[], Awaitable[ClientResponse]]


class Bearer:
    """Presents the access tokens of a source to one origin; an instance is an aiohttp client middleware.

    After a 401 the token is renewed and the request sent once more (RFC 6750 §3.1); a second 401 goes to
    the caller, and so does one for a token that was just renewed (`tokens.policy`).
    A streamed body cannot be sent twice, so such a request is not repeated.

    Each request occupies one of each of `shares` until its response is read or closed: semaphores that the
    requests of one session, and those of one user, have in common.
    """

    def __init__(
        self,
        source: TokenSource,
        origin: URL,
        *,
        nonces: Nonces,
        private_headers: Iterable[str] = (),
        shares: Sequence[asyncio.Semaphore] = (),
        calls: Calls | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._origin = origin
        self._nonces = nonces
        self._shares = shares
        self._calls = calls
        self._clock = clock
        self._private_headers = ("Authorization", "DPoP", *private_headers)

    def proof(
        self, credential: Credential, method: str, url: URL | str, nonce: str | None = None
    ) -> dict[str, str]:
        """Return the headers that present the credential in one request, sent now (a proof has a time)."""
        return credential.headers(method, url, now=self._clock(), nonce=nonce)

    async def __call__(
        self, request: ClientRequest, send: ClientHandlerType, *, credential: Credential | None = None
    ) -> ClientResponse:
        if request.url.origin() != self._origin:  # redirected to another origin: no secret goes there
            for name in self._private_headers:
                request.headers.pop(name, None)
            proxy = Proxies.of_environment().of(str(request.url))
            request.update_proxy(URL(proxy) if proxy else None, None, None)
            return await self._within_shares(partial(send, request), None)

        replayable = not request.body or isinstance(request.body, BytesPayload)
        return await self.present(
            request.method,
            request.url,
            request.headers,
            partial(send, request),
            replayable=replayable,
            credential=credential,
        )

    async def present(
        self,
        method: str,
        url: URL,
        headers: MutableMapping[str, str],
        send: Send,
        *,
        replayable: bool,
        credential: Credential | None = None,
        patience_seconds: float | None = None,
    ) -> ClientResponse:
        """Send a request to our origin with `credential`, or with what the source gives now.

        The token is added to `headers`, which `send` sends. `replayable` tells whether the request can be
        sent twice. Raises TooManyRequests if a share is in use for longer than `patience_seconds`.
        """
        if self._calls:
            send = partial(_observed, self._calls, method, url, headers, send)
        send = partial(self._within_shares, send, patience_seconds)
        credential = credential or await self._source()
        if credential is None:
            return await send()
        request = _Request(method, url, headers, send, replayable)
        response = await self._send_with(credential, request)
        if response.status != 401 or not replayable:
            return response
        if is_too_new_to_renew(credential.renewed_at, credential.expires_at, now=self._clock()):
            return response
        response.release()
        renewed = await self._source(rejected=credential.access_token)
        return await self._send_with(renewed or credential, request)

    async def _within_shares(self, send: Send, patience_seconds: float | None) -> ClientResponse:
        with ExitStack() as held:
            try:
                for share in self._shares:
                    async with asyncio.timeout(patience_seconds if share.locked() else None):
                        await share.acquire()
                    held.callback(share.release)
            except TimeoutError:
                raise TooManyRequests("too many requests to this API are in progress") from None
            response = await send()
            if response.connection is not None:  # else it was short, and has been read
                response.connection.add_callback(held.pop_all().close)
            return response

    async def _send_with(self, credential: Credential, request: _Request) -> ClientResponse:
        """Send, and once more if the API demands a nonce of its own in the proof (RFC 9449 §9)."""
        if credential.dpop_key is None:
            request.headers.update(self.proof(credential, request.method, request.url))
            return await request.send()
        response = await self._send_with_proof(credential, request)
        if not request.replayable or not is_api_nonce_challenge(response.status, response.headers):
            return response
        response.release()
        return await self._send_with_proof(credential, request)

    async def _send_with_proof(self, credential: Credential, request: _Request) -> ClientResponse:
        nonce = self._nonces.of(str(request.url))
        request.headers.update(self.proof(credential, request.method, request.url, nonce))
        response = await request.send()
        self._nonces.note(str(request.url), response.headers)
        return response


async def _observed(
    calls: Calls, method: str, url: URL, headers: MutableMapping[str, str], send: Send
) -> ClientResponse:
    with calls.begin(method, url.host, url.port, headers) as call:
        response = await send()
        call.status = response.status
        return response


class _Request(NamedTuple):
    method: str
    url: URL
    headers: MutableMapping[str, str]
    send: Send
    replayable: bool


async def refuse_redirect(request: ClientRequest, send: ClientHandlerType) -> ClientResponse:
    """An aiohttp client middleware for WebSocket handshakes: a redirect is an error."""
    response = await send(request)
    if 300 <= response.status < 400:
        response.close()
        raise WSServerHandshakeError(
            response.request_info, response.history, message="redirected", status=response.status
        )
    return response
