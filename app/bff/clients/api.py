"""The HTTP client of an application: aiohttp's verbs, with the access token added to each request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial, partialmethod
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import aiohttp
from aiohttp.http_exceptions import BadHttpMessage, ContentEncodingError, HttpProcessingError, LineTooLong
from multidict import CIMultiDict
from yarl import URL

from app.bff.causes import cause_of
from app.bff.clients.bearer import Bearer, Credential, TokenSource, refuse_redirect
from app.bff.clients.bodies import ErrorStatus, ResponseTooLarge, UnusableBody, response_class
from app.bff.clients.connections import Connector, InvalidBody
from app.bff.errors import ApiError, ApiTimeout, ApiUnreachable, ForeignOrigin
from app.bff.oidc.dpop import Nonces
from app.bff.sessions.session import LOGIN, Target
from app.bff.settings.apis import HttpClientSettings
from app.bff.settings.proxies import Proxies
from app.bff.telemetry import observer
from app.bff.telemetry.observer import Calls


class ApiClient:
    """A named client bound to one session: aiohttp's verbs, URLs relative to the client's base URL.

    Get one from `self.create_client(name)`. `get`, `post`, `put`, `patch`, `delete`, `head`, `options` and
    `request` take aiohttp's options (`params`, `json`, `data`, `headers`, `raise_for_status` …) and are
    awaited or used in `async with`. Each carries the token that the client's settings name; a token that
    the API answers with 401 is renewed and the request sent once more (RFC 6750 §3.1), unless its body is
    a stream. Redirects to another origin lose the token and the settings' headers.

    One session has at most `max_connections_per_session` in use at a time: a request beyond waits for one, as
    part of its `timeout_seconds`.

    Raises one of `API_ERRORS` if the API cannot be reached, takes longer than `timeout_seconds` or sends a
    body of more than `max_response_bytes`, answers with an error where `raise_for_status` is set, or sends no
    JSON to `json()`: what a handler does not catch is answered with 502 or 504.
    Raises Unauthorized (401) if there is no token; the request is then not sent. Raises ForeignOrigin (500)
    for a URL of another origin.

    Example::

        class Todos(ApiHandler):
            async def get(self) -> None:
                api = self.create_client("apiClient")
                try:
                    async with api.get("todos", params={"page": 1}) as response:
                        self.finish_json(await response.json())
                except API_ERRORS:
                    self.finish_json([])
    """

    def __init__(
        self, pool: Pool, source: TokenSource, clock: Callable[[], float], *, sharing: Sequence[str]
    ) -> None:
        self.fixed_headers = pool.fixed_headers
        # Returns the access token for one request, None if requests go without; raises Unauthorized. Passed
        # on to `forward` or `websocket`, it keeps a refresh out of the request's time limit.
        self.credential = source
        self._pool = pool
        self._shares = pool.shares_of(sharing)
        self._http = pool.http
        self._base_url = pool.base_url
        self._clock = clock

    @cached_property
    def _bearer(self) -> Bearer:
        return self._bearer_within(self._shares)

    def _bearer_within(self, shares: Sequence[asyncio.Semaphore]) -> Bearer:
        return Bearer(
            self.credential,
            self._base_url.origin(),
            nonces=self._pool.nonces,
            private_headers=self._pool.settings.headers,
            shares=shares,
            calls=self._pool.calls,
            clock=self._clock,
        )

    def request(self, method: str, url: str | URL, **options: Any) -> Any:
        """Send a request; the result is awaited or used in `async with`, as aiohttp's own is.

        Raises ForeignOrigin for an absolute URL of another origin, and Unauthorized if there is no token:
        the request is then not sent.
        """
        return self._http.request(method, self._resolve(url), middlewares=(self._bearer,), **options)

    async def forward(
        self,
        method: str,
        path: str,
        *,
        headers: CIMultiDict[str],
        data: Any,
        credential: Credential | None = None,
    ) -> aiohttp.ClientResponse:
        """Send a request to an encoded path below the base URL; return the response as it begins.

        Both are passed verbatim: no header is added but the token's, no redirect followed, nothing
        decompressed; and there is no time limit. (Without redirects no middleware is needed, which would
        cost 12 % more.) `path` must not leave the base URL by `..`; see `proxy.rules.upstream_path`.

        Raises TooManyRequests if the session or the user has its share of the connections in use, and none
        becomes free within a second.
        """
        url = self.url_for(path)
        send = partial(
            self._pool.raw_http.request, method, url, headers=headers, data=data, allow_redirects=False
        )
        replayable = data is None or isinstance(data, bytes)
        return await self._bearer.present(
            method,
            url,
            headers,
            send,
            replayable=replayable,
            credential=credential,
            patience_seconds=_PATIENCE_SECONDS,
        )

    def proof(self, credential: Credential, method: str, path: str) -> dict[str, str]:
        """Return the headers with which a reverse proxy may send a request to an encoded path."""
        url = self.url_for(path) if credential.dpop_key else ""
        return self._bearer.proof(credential, method, url)

    def url_for(self, path: str) -> URL:
        """Return the base URL with an encoded path joined by one slash, or with nothing but a query added."""
        base = str(self._base_url)
        return URL((base.removesuffix("/") if path.startswith("/") else base) + path, encoded=True)

    get = partialmethod(request, "GET")
    post = partialmethod(request, "POST")
    put = partialmethod(request, "PUT")
    patch = partialmethod(request, "PATCH")
    delete = partialmethod(request, "DELETE")
    head = partialmethod(request, "HEAD")
    options = partialmethod(request, "OPTIONS")

    @asynccontextmanager
    async def websocket(
        self,
        url: str | URL,
        *,
        timeout_seconds: float | None = None,
        credential: Credential | None = None,
        **options: Any,
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket; its handshake carries the token. The options are those of aiohttp's `ws_connect`.

        It has a connection of its own: in the pool, a hundred open sockets would leave none for requests.
        `timeout_seconds` is that of the handshake. Raises what `request` does, or aiohttp's handshake error.

        Example::

            class Greeting(ApiHandler):
                async def get(self) -> None:
                    async with self.create_client("apiClient").websocket("socket") as socket:
                        await socket.send_str("Hello")
                        self.finish_json(await socket.receive_str())
        """
        bearer = partial(self._bearer_within(()), credential=credential)
        middlewares = (refuse_redirect, bearer)  # ws_connect itself takes none, only a session does
        async with (
            _session(
                self._pool.settings,
                timeout_seconds=timeout_seconds or self._pool.settings.timeout_seconds,
                middlewares=middlewares,
                skip_auto_headers=_NOT_ADDED,
            ) as http,
            http.ws_connect(self._resolve(url), **options) as socket,
        ):
            yield socket

    def _resolve(self, url: str | URL) -> URL:
        relative = URL(url) if isinstance(url, str) else url
        base = self._base_url / "" if relative.raw_path else self._base_url
        target = base.join(relative)
        if target.origin() != self._base_url.origin():
            raise ForeignOrigin(f"this client calls {self._base_url.origin()} only")
        return target


class TypedClient:
    """The base class of a client with methods of your own, for the named client `name`.

    `self.api` is its `ApiClient`. `self.create_client(YourClient)` makes one; the start of the process
    fails if the settings have no client of that `name`. A class without `name` is a base class of others.

    Example::

        class TodosClient(TypedClient):
            name = "apiClient"

            async def titles(self) -> list[str]:
                async with self.api.get("todos", raise_for_status=True) as response:
                    return [todo["title"] for todo in await response.json()]

        class Titles(ApiHandler):
            async def get(self) -> None:
                self.finish_json(await self.create_client(TodosClient).titles())
    """

    name: ClassVar[str]

    def __init__(self, api: ApiClient) -> None:
        self.api = api

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _typed_clients.append(cls)


_typed_clients: list[type[TypedClient]] = []


def typed_clients() -> list[type[TypedClient]]:
    """Return the typed clients of modules, however deep they inherit.

    One without a `name` is a base class, and one that a function defines belongs to that function (a test).
    """
    named = [cls for cls in _typed_clients if hasattr(cls, "name") and "<locals>" not in cls.__qualname__]
    return sorted(named, key=lambda client: (client.__module__, client.__qualname__))


_PATIENCE_SECONDS = 1  # of a forwarded request beyond its share: a page may send many at once
# A connection that is not open by then never will be, and a time-out of its own says what took so long.
_LONGEST_CONNECT_SECONDS, _CONNECT_SHARE = 10, 0.8
# Of an API's response; aiohttp's defaults of 8,190 bytes and 128 headers are less than APIs send.
_LONGEST_HEADER_BYTES, _MOST_HEADERS = 65_536, 256
_LOGGED_CHARACTERS = 1_000  # of a path
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")  # aiohttp's default headers
# What a call of an API raises, besides an AppError: it failed, took too long, or was answered badly.
API_ERRORS = (aiohttp.ClientError, TimeoutError)
Typed = TypeVar("Typed", bound=TypedClient)


@dataclass(frozen=True)
class Pool:
    """The connection pool of one named client, shared by all users."""

    settings: HttpClientSettings
    base_url: URL
    http: aiohttp.ClientSession
    raw_http: aiohttp.ClientSession  # same connector, verbatim: no decompression, no default headers
    nonces: Nonces
    target: Target  # what its tokens are for
    fixed_headers: frozenset[str]  # lower-case names that a forwarded request must not set
    share_sizes: tuple[int, int]  # connections of a session, or an address; and of a user in all sessions
    calls: Calls | None = None  # what telemetry is told of, while it is on
    # By the names of those that share. An entry lives as long as a request that uses it.
    _shares: WeakValueDictionary[str, asyncio.Semaphore] = field(default_factory=WeakValueDictionary)

    def shares_of(self, names: Sequence[str]) -> list[asyncio.Semaphore]:
        """Return the shares of a session and its user, or of an address; the application itself has none."""
        sizes = zip(names, self.share_sizes, strict=False)
        return [self._shares.setdefault(name, asyncio.Semaphore(size)) for name, size in sizes]


def pool_of(settings: HttpClientSettings, name: str = "") -> Pool:
    connector = Connector(limit=settings.max_connections)
    raw_http = {"connector_owner": False, "auto_decompress": False, "skip_auto_headers": _NOT_ADDED}
    return Pool(
        settings,
        _as_written(settings.base_url),
        _session(
            settings,
            timeout_seconds=settings.timeout_seconds,
            connector=connector,
            response_class=response_class(name, settings.max_response_bytes),
        ),
        _session(settings, timeout_seconds=None, connector=connector, **raw_http),
        Nonces(),
        _target(settings),
        frozenset(name.lower() for name in settings.headers),
        _share_sizes(settings),
        observer.current.calls_of(name),
    )


def _as_written(url: str) -> URL:
    """Return a URL whose path is not normalised, as yarl does with `%7E` and `%2f`."""
    return URL(str(URL(url).origin()) + urlsplit(url).path, encoded=True)


def _share_sizes(settings: HttpClientSettings) -> tuple[int, int]:
    session = settings.max_connections_per_session or max(1, settings.max_connections // 4)
    return session, max(session, settings.max_connections // 2)


def _session(
    settings: HttpClientSettings, *, timeout_seconds: float | None, **options: Any
) -> aiohttp.ClientSession:
    """aiohttp's own `trust_env` would also send the passwords of a .netrc file."""
    connect_seconds = min(_LONGEST_CONNECT_SECONDS, settings.timeout_seconds * _CONNECT_SHARE)
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=connect_seconds),
        headers=settings.headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=Proxies.of_environment().of(settings.base_url),
        max_line_size=_LONGEST_HEADER_BYTES,
        max_field_size=_LONGEST_HEADER_BYTES,
        max_headers=_MOST_HEADERS,
        **options,
    )


def _target(settings: HttpClientSettings) -> Target:
    exchanged = settings.token == "exchange"
    target = Target(settings.scope, settings.resource, settings.audience, exchanged=exchanged)
    return LOGIN if target == LOGIN else target


def as_app_error(error: BaseException | None) -> BaseException | None:
    """Map aiohttp's errors to ApiTimeout (504), ApiError or ApiUnreachable (502); return any other as it is.

    The detail names the cause: a browser may read it, so that no name or address of a host is in it.
    """
    if not isinstance(error, API_ERRORS):
        return error
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ApiTimeout("connecting to the API took too long")
    if isinstance(error, TimeoutError):
        return ApiTimeout("the API did not answer in time")
    if isinstance(error, ResponseTooLarge):
        return ApiUnreachable("the API sent more than this client reads")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ApiUnreachable(f"the API could not be reached: the proxy answered {error.status}")
    if answered := _what_the_api_answered(error):
        return ApiError(answered, call=_call_of(error))
    if isinstance(error, aiohttp.ClientResponseError | InvalidBody):
        return ApiUnreachable("the API's response is not valid HTTP")
    who = "proxy" if isinstance(error, aiohttp.ClientProxyConnectionError) else "API"
    return ApiUnreachable(": ".join(filter(None, [f"the {who} could not be reached", cause_of(error)])))


def _what_the_api_answered(error: BaseException) -> str | None:
    """Return what is wrong with a response that has arrived, or None if none has."""
    within = [error, error.__cause__, error.__cause__ and error.__cause__.__cause__]
    if any(isinstance(each, LineTooLong) for each in within):
        return f"the API sent a header of more than {_LONGEST_HEADER_BYTES} bytes"
    if any(isinstance(each, BadHttpMessage) and "Too many headers" in each.message for each in within):
        return f"the API sent more than {_MOST_HEADERS} headers"
    if any(isinstance(each, ContentEncodingError) for each in within):
        return "the API sent a body that is not encoded as it says"
    if isinstance(error, aiohttp.ContentTypeError):
        return "the API sent a body of another format than expected"
    if isinstance(error, aiohttp.ClientResponseError) and not isinstance(
        error.__cause__, HttpProcessingError
    ):
        return f"the API answered with {error.status}"
    return None


def _call_of(error: BaseException) -> dict[str, str | int]:
    if not isinstance(error, aiohttp.ClientResponseError):
        return {}
    request = error.request_info
    call = {"method": request.method, "api_path": request.url.raw_path[:_LOGGED_CHARACTERS]}
    if isinstance(error, ErrorStatus | UnusableBody):
        call["client"] = error.client
    answered = not isinstance(
        error.__cause__, HttpProcessingError
    )  # whose status is aiohttp's, not the API's
    return {**call, "status": error.status} if answered else {**call}
