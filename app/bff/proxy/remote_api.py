"""Forwards a path of ours to an API, with the token that its named client carries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import ClientResponse
from multidict import CIMultiDict
from tornado.httputil import HTTPServerRequest
from tornado.routing import Router

from app.bff.errors import ApiUnreachable, MethodNotAllowed
from app.bff.proxy.request_body import RequestBody, declared_length
from app.bff.proxy.rules import (
    downstream_headers,
    opens_websocket,
    route_for,
    upstream_headers,
    upstream_path,
)
from app.bff.proxy.streaming import StreamingDelegate
from app.bff.services import Services
from app.bff.settings.models import RemoteApiSettings

_BUFFERED_BYTES = 65_536  # a body up to here is sent again, should the API refuse the token


class RemoteApiRouter(Router):
    """Makes the delegate for a request that lies under the path of a remote API, and opens no WebSocket."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def find_handler(self, request: HTTPServerRequest, **_: Any) -> RemoteApi | None:
        api = route_for(request.path, self._services.settings.remote_apis)
        if api is None or opens_websocket(request.method or "", request.headers, api):
            return None
        return RemoteApi(self._services, request, api)


class RemoteApi(StreamingDelegate):
    """One request to a remote API. What is decided about paths and headers is in `web.remote`."""

    def __init__(self, services: Services, request: HTTPServerRequest, api: RemoteApiSettings) -> None:
        super().__init__(services, request)
        self.api = api
        self.max_body_bytes = api.max_body_bytes
        self._deadline: asyncio.TimerHandle | None = None
        self._response_has_begun = False  # the API, to answer
        self._is_late = False
        self.stall_seconds = api.timeout_seconds or services.clients.timeout_seconds(api.client)

    async def answer(self) -> None:
        if self.request.method not in self.api.methods:
            raise MethodNotAllowed(allowed=self.api.methods)
        async with await self._request_api() as response:
            await self._stream_response(response)

    async def _request_api(self) -> ClientResponse:
        """Return the API's answer as soon as it begins; raises TimeoutError if it does not in time."""
        session = await self.require_session()
        client = self.services.clients.create(self.api.client, session)
        path = upstream_path(self.request.uri or "", self.api.path)
        headers = CIMultiDict(upstream_headers(self.request.headers.get_all(), fixed=client.fixed_headers))
        credential = await client.credential()  # a refresh is not counted as the API's time
        data = await self._request_data()
        self._set_deadline(self.stall_seconds)
        try:
            return await client.forward(
                self.request.method or "", path, headers=headers, data=data, credential=credential
            )
        except asyncio.CancelledError:
            if self._is_late:
                self._task.uncancel()
                raise TimeoutError from None
            raise
        finally:
            self._response_has_begun = True
            self._set_deadline(None)

    async def _request_data(self) -> bytes | AsyncIterator[bytes] | None:
        if self.body is None:
            return None
        length = declared_length(self.request.headers)
        if length is not None and length <= _BUFFERED_BYTES:
            return await self.body.read()
        return self._timed_chunks(self.body)

    async def _timed_chunks(self, body: RequestBody) -> AsyncIterator[bytes]:
        chunks = aiter(body)
        while True:
            self._set_deadline(None)  # it is the browser that has to go on
            chunk = await anext(chunks, None)
            self._set_deadline(self.stall_seconds)  # it is the API
            if chunk is None:
                return
            yield chunk

    def _set_deadline(self, seconds: float | None) -> None:
        """Let the API begin its answer within so many seconds from now, if it has not begun yet."""
        if self._deadline is not None:
            self._deadline.cancel()
        if seconds is not None and not self._response_has_begun:
            self._deadline = asyncio.get_running_loop().call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        self._is_late = True
        self._task.cancel()

    async def _stream_response(self, response: ClientResponse) -> None:
        if response.status == 101:
            raise ApiUnreachable("the API speaks another protocol")
        headers = downstream_headers(response.headers.items())
        sent = self.start(response.status, headers, response.content.read_nowait())
        while not response.content.at_eof():
            await sent
            sent = self.write(await response.content.readany())
