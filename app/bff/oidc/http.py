"""HTTP to the provider: proxies, bounded time, bounded bodies, errors as ProviderUnavailable."""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2

from app.bff.causes import cause_of
from app.bff.errors import ProviderUnavailable
from app.bff.settings.proxies import Proxies
from app.bff.telemetry import observer

MAX_BODY_BYTES = 1_000_000
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS
_INFLATED = ("gzip", "x-gzip", "deflate")


class UnusableBody(httpx2.HTTPError):
    """A response whose body is too large, or compressed in a way that is not understood."""


class ProviderTransport(httpx2.AsyncBaseTransport):
    """A pool of connections for each proxy that the environment names, and one without.

    A body fails once it exceeds MAX_BODY_BYTES. None is asked to be compressed; one that is, by gzip or
    deflate, is decompressed here, since a kilobyte of it may inflate to a megabyte.

    `kind` is what its requests are for, in metrics and traces.
    """

    def __init__(self, tls: ssl.SSLContext, kind: str = "metadata") -> None:
        self._tls = tls
        self._calls = observer.current.calls_of("provider", provider_request=kind)
        self._proxies = Proxies.of_environment()
        self._pools: dict[str | None, httpx2.AsyncHTTPTransport] = {}
        self._routes: dict[tuple[str, str], str | None] = {}  # the proxy for each scheme and authority

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["Accept-Encoding"] = "identity"
        if self._calls is None:
            response = await self._pool(request).handle_async_request(request)
        else:
            url = request.url
            with self._calls.begin(request.method, url.host, url.port, request.headers) as call:
                response = await self._pool(request).handle_async_request(request)
                call.status = response.status_code
        encoding = response.headers.pop("Content-Encoding", "identity").lower()
        if encoding not in ("identity", *_INFLATED):
            await response.aclose()
            raise UnusableBody("the provider sent a compressed body, in an encoding that is not understood")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Bounded(response.stream, is_compressed=encoding != "identity")
        return response

    def _pool(self, request: httpx2.Request) -> httpx2.AsyncHTTPTransport:
        origin = request.url.scheme, request.url.netloc.decode("ascii")
        if origin not in self._routes:
            self._routes[origin] = self._proxies.of(str(request.url))
        proxy = self._routes[origin]
        request.extensions["proxied"] = proxy is not None
        if proxy not in self._pools:
            via = proxy and httpx2.Proxy(proxy, ssl_context=self._tls if proxy.startswith("https:") else None)
            self._pools[proxy] = httpx2.AsyncHTTPTransport(verify=self._tls, proxy=via or None)
        return self._pools[proxy]

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, *, is_compressed: bool) -> None:
        self._stream = stream
        self._inflater = zlib.decompressobj(_ZLIB_OR_GZIP) if is_compressed else None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_BODY_BYTES
        async for chunk in self._stream:
            data = chunk
            if self._inflater is not None:
                try:
                    data = self._inflater.decompress(chunk, left + 1)
                except zlib.error as error:
                    raise UnusableBody("the provider sent a damaged compressed body") from error
            left -= len(data)
            if left < 0:
                raise UnusableBody(f"the provider sent more than {MAX_BODY_BYTES} bytes")
            yield data

    async def aclose(self) -> None:
        await self._stream.aclose()


async def get_following_redirects(
    http: httpx2.AsyncClient, url: str, extensions: dict[str, Any]
) -> httpx2.Response:
    """Get a public document. At most _MAX_REDIRECTS redirects are followed, to https or within the origin.

    Any other redirect is returned as it is.
    """
    response = await http.get(url, extensions=extensions)
    for _ in range(_MAX_REDIRECTS):
        following = response.next_request
        if following is None or not may_follow(str(response.url), str(following.url)):
            break
        response = await http.get(following.url, extensions=extensions)
    return response


_MAX_REDIRECTS = 3


def may_follow(url: str, target: str) -> bool:
    """Whether a redirect from `url` to `target` is safe: to https, or within the origin. Pure."""
    here, there = urlsplit(url), urlsplit(target)
    same_origin = (here.scheme, here.netloc) == (there.scheme, there.netloc)
    return (same_origin or there.scheme == "https") and "@" not in there.netloc


@functools.cache
def tls() -> ssl.SSLContext:
    """Return one context for all clients: creating it blocks for tens of milliseconds.

    OpenSSL reads SSL_CERT_FILE and SSL_CERT_DIR, where a private certificate authority stands.
    """
    return ssl.create_default_context()


def time_limits(timeout_seconds: float) -> httpx2.Timeout:
    """Connecting is given up first: a cancellation in the middle of a TLS handshake would leave it open."""
    return httpx2.Timeout(timeout_seconds, connect=timeout_seconds * 0.8)


class _Phase:
    """What a request is doing, as httpcore's `trace` extension tells it."""

    def __init__(self) -> None:
        self.name = "while waiting for a free connection"

    async def __call__(self, event: str, info: object) -> None:
        *_, step, stage = event.split(".")
        if stage == "started":
            self.name = _PHASES.get(step, self.name)


_PHASES = {
    "connect_tcp": "while connecting",
    "start_tls": "in the TLS handshake",
    "send_request_headers": "while sending the request",
    "send_request_body": "while sending the request",
    "receive_response_headers": "while waiting for the response",
    "receive_response_body": "while reading the response",
}


@asynccontextmanager
async def translate_http_errors(timeout_seconds: float) -> AsyncIterator[dict[str, Any]]:
    """Raise ProviderUnavailable, naming the cause, for any HTTP error until the body is read.

    Yields httpx's `extensions` for the request. A time-out, or a connection that cannot be opened, is an
    outage. A connection that breaks later is none: what this request contained may be the reason.
    """
    phase = _Phase()
    try:
        async with asyncio.timeout(timeout_seconds):
            yield {"trace": phase}
    except (TimeoutError, httpx2.TimeoutException) as error:
        raise ProviderUnavailable(f"the provider took too long: timed out {phase.name}") from error
    except UnusableBody as error:
        raise ProviderUnavailable(str(error), is_outage=False) from error
    except (httpx2.ConnectError, httpx2.ProxyError) as error:
        raise ProviderUnavailable(_why_unopened(error, phase.name), is_unsent=True) from error
    except httpx2.HTTPError as error:
        why = f"{cause_of(error) or 'the connection broke'} {phase.name}"
        raise ProviderUnavailable(f"the provider could not be reached: {why}", is_outage=False) from error
    except (httpx2.InvalidURL, ValueError) as error:
        raise ProviderUnavailable("the provider announces a URL that cannot be used") from error
    except OSError as error:  # of TLS, in the middle of a response
        why = f"{cause_of(error) or 'the connection broke'} {phase.name}"
        raise ProviderUnavailable(f"the provider could not be reached: {why}", is_outage=False) from error


def _why_unopened(error: httpx2.RequestError, phase: str) -> str:
    if isinstance(error, httpx2.ProxyError):  # its text begins with the status
        return f"the provider could not be reached: the proxy answered {str(error)[:3]}"
    to_proxy = error.request.extensions.get("proxied") and phase == _PHASES["connect_tcp"]
    cause = cause_of(error) or "the connection was closed"
    return f"the {'proxy' if to_proxy else 'provider'} could not be reached: {cause}"


def parse_json_object(data: bytes) -> dict[str, Any] | None:
    """Return the JSON object in `data`, or None if it is anything else."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
