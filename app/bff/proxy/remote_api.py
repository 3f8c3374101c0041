"""Forwards a request below the path of a remote API, with the token of the API's named client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from aiohttp import ClientResponse
from multidict import CIMultiDict

from app.bff.clients.api import ApiClient
from app.bff.errors import ApiUnreachable, CsrfRejected, MethodNotAllowed
from app.bff.handlers.web import anonymous_key_of
from app.bff.proxy.locations import NAMES, Forwarded, forwarded_headers, mapped_headers
from app.bff.proxy.request_body import RequestBody, declared_length
from app.bff.proxy.rules import (
    SAFE_METHODS,
    check_permission,
    downstream_headers,
    percent_encoded,
    privately_cached,
    readable_headers,
    token_challenges,
    upstream_headers,
    upstream_path,
    without_tag,
)
from app.bff.proxy.streaming import StreamingDelegate
from app.bff.settings.apis import RemoteApiSettings
from app.bff.web.cookies import read_cookies
from app.bff.web.cross_origin import api_refusal, lacks_header
from app.bff.web.headers import as_a_file

_BUFFERED_BYTES = 65_536  # a body up to here is sent again if the API refuses the token


class RemoteApi(StreamingDelegate):
    """One request to a remote API; `proxy.rules` decides about its path and headers.

    The API must begin its response within `timeout_seconds` of the last chunk of the request: the deadline
    is suspended while the browser is the slower side of an upload. `TimedStream` limits how slowly the
    browser reads.
    """

    api: RemoteApiSettings
    timeout_seconds: float
    _response_has_begun = False
    _cache_tag = ""  # names the session, where the browser may store responses
    _client: ApiClient
    _deadline: asyncio.Timeout  # for the beginning of the API's response

    @property
    def exposed_headers(self) -> Iterable[str]:
        return readable_headers(self.api.response_headers)

    async def answer(self) -> None:
        if self.request.method not in self.api.methods:
            raise MethodNotAllowed(allowed=self.api.methods)
        async with await self._request_api() as response:
            if response.status == 101:
                raise ApiUnreachable("the API speaks another protocol")
            coding = response.headers.get("Transfer-Encoding", "chunked").lower()
            if response.status < 200 or coding not in ("chunked", "identity"):
                raise ApiUnreachable("the API's response is not valid HTTP")
            chunk = response.content.read_nowait()
            headers = downstream_headers(response.headers.items(), more=self.api.response_headers)
            if response.status == 401:
                headers += token_challenges(response.headers.items())
            if not response.headers.keys().isdisjoint(NAMES):
                base_url, apis = str(self._client.url_for("")), self.services.settings.remote_apis
                headers = mapped_headers(headers, Forwarded(str(response.url), base_url, self.api, apis))
            if self.api.csrf == "same-origin" and lacks_header(self.request.headers):
                headers = as_a_file(headers, response.status)
            if self.api.cache == "private":
                headers = privately_cached(headers, response.headers.items(), self._cache_tag)
            sent = self.start(response.status, headers, chunk)
            if response.content.at_eof():
                return
            pauses = None if response.content_type == "text/event-stream" else self.api.idle_seconds
            async with asyncio.timeout(self.api.max_response_seconds):
                while not response.content.at_eof():
                    await sent
                    async with asyncio.timeout(pauses):
                        chunk = await response.content.readany()
                    sent = self.write(chunk)

    async def _request_api(self) -> ClientResponse:
        """Return the API's response when it begins; raises TimeoutError if the deadline passes first."""
        self._deadline = asyncio.timeout(None)
        api, method, settings = self.api, self.request.method or "", self.services.settings
        if refusal := api_refusal(method, self.request.headers, api.csrf, settings.allowed_origins):
            raise CsrfRejected(refusal)
        session_id = read_cookies(self.request.headers).get(self.services.cookies.session_name)
        self.session = session = await self.services.load_session(session_id)
        if api.require or api.write:
            check_permission(api, session, writes=method not in SAFE_METHODS)
        key = None if session else anonymous_key_of(self.services, self.request)
        self._client = client = self.services.clients.create(api.client, session, anonymous_key=key)
        target = percent_encoded(self.request.uri or "")
        path = upstream_path(target, api, settings.remote_apis)
        passed = upstream_headers(self.request.headers.get_all(), fixed=client.fixed_headers)
        if api.cache == "private":
            self._cache_tag = session.public_id if session else "none"
            passed = without_tag(passed, self._cache_tag)
        if api.forwarded:
            passed += forwarded_headers(settings.base_url, api.path, fixed=client.fixed_headers)
        headers = CIMultiDict(passed)
        credential = await client.credential()  # a refresh is not counted as the API's time
        data = await self._request_data(self.body) if self.body else None
        async with self._deadline:
            self._deadline.reschedule(asyncio.get_running_loop().time() + self.timeout_seconds)
            try:
                return await client.forward(method, path, headers=headers, data=data, credential=credential)
            finally:
                self._response_has_begun = True

    async def _request_data(self, body: RequestBody) -> bytes | AsyncIterator[bytes]:
        length = declared_length(self.request.headers)
        if length is not None and length <= _BUFFERED_BYTES:
            return await body.read()
        return self._timed_chunks(body)

    async def _timed_chunks(self, body: RequestBody) -> AsyncIterator[bytes]:
        chunks = aiter(body)
        while True:
            self._set_deadline(None)  # waiting for the browser
            chunk = await anext(chunks, None)
            self._set_deadline(self.timeout_seconds)  # waiting for the API
            if chunk is None:
                return
            yield chunk

    def _set_deadline(self, seconds: float | None) -> None:
        """Let the response begin within `seconds` from now, unless it has begun."""
        if not self._response_has_begun:
            loop = asyncio.get_running_loop()
            self._deadline.reschedule(None if seconds is None else loop.time() + seconds)
