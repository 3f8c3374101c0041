"""Relays a WebSocket to an API: one socket to the browser, one to the API, closed together."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Any

from aiohttp import ClientError, ClientWebSocketResponse, WSMessage, WSMsgType
from aiohttp import WebSocketError as ApiProtocolError
from aiohttp import WSServerHandshakeError as HandshakeRefused
from tornado.web import HTTPError
from tornado.websocket import WebSocketClosedError

from app.bff.errors import ApiRefused
from app.bff.handlers.request_log import CLIENT_CLOSED_REQUEST
from app.bff.handlers.socket import GOING_AWAY, CloseFrame, SocketHandler
from app.bff.proxy.locations import forwarded_headers
from app.bff.proxy.rules import (
    check_permission,
    forwardable_close_code,
    handshake_error_status,
    offered_subprotocols,
    percent_encoded,
    upstream_headers,
    upstream_path,
)
from app.bff.settings.apis import RemoteApiSettings

_GOING_AWAY_CODE = 1001
_MESSAGE_TOO_BIG, _NORMAL_CLOSURE = 1009, 1000
_API_GONE: CloseFrame = (1014, "the API is gone")  # Bad Gateway


class RemoteSocket(SocketHandler):
    """One WebSocket to a remote API. `proxy.rules` decides about its path, headers and close codes."""

    wants_session = False  # the token kind of the API's client decides
    stall_seconds: float = 30  # a send that blocks for longer closes both sockets
    farewell_seconds: float = 5  # for the API's part of the closing handshake

    def initialize(self, api: RemoteApiSettings) -> None:
        self.api = api
        self._connecting: asyncio.Task[ClientWebSocketResponse] | None = None
        self._relaying: asyncio.Task[None] | None = None
        self._api_close_frame: CloseFrame | None = None  # sent to the API

    def check_permission(self) -> None:
        check_permission(self.api, self.session, writes=True)

    async def _converse(self, *args: Any, **kwargs: Any) -> None:
        """Connect to the API first: its refusal becomes that of the browser's handshake."""
        async with AsyncExitStack() as stack:
            self._api_socket = await self._connect_api(stack)
            self._relaying = asyncio.create_task(self._relay())
            try:
                await super()._converse(*args, **kwargs)
            finally:
                self._close_api(_GOING_AWAY_CODE)
                await asyncio.wait({self._relaying})

    async def _connect_api(self, stack: AsyncExitStack) -> ClientWebSocketResponse:
        self._connecting = asyncio.create_task(self._open_api_socket(stack))
        try:
            return await self._connecting
        except asyncio.CancelledError:
            if self._api_close_frame is None:
                raise
            raise HTTPError(CLIENT_CLOSED_REQUEST) from None
        except HandshakeRefused as refusal:
            detail = f"the API answered the handshake with {refusal.status}"
            raise ApiRefused(detail, status=handshake_error_status(refusal.status)) from None

    async def _open_api_socket(self, stack: AsyncExitStack) -> ClientWebSocketResponse:
        path = upstream_path(
            percent_encoded(self.request.uri or ""), self.api, self.services.settings.remote_apis
        )
        client = self.create_client(self.api.client)
        fixed = client.fixed_headers
        headers = upstream_headers(self.request.headers.get_all(), fixed=fixed)
        if self.api.forwarded:
            headers += forwarded_headers(self.services.settings.base_url, self.api.path, fixed=fixed)
        credential = await client.credential()  # a refresh is not counted as the API's time
        url = client.url_for(path)
        socket = client.websocket(
            url,
            timeout_seconds=self.api.timeout_seconds,
            credential=credential,
            headers=headers,
            origin=None if "origin" in fixed else str(url.origin()),
            protocols=offered_subprotocols(self.request.headers),
            heartbeat=self.ping_interval,
            max_msg_size=self.max_message_size + 1,  # aiohttp refuses a message of exactly this size
        )
        return await stack.enter_async_context(socket)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return self._api_socket.protocol

    # From the browser to the API: Tornado reads the next message when on_message returns.

    async def on_message(self, message: str | bytes) -> None:
        send = self._api_socket.send_bytes if isinstance(message, bytes) else self._api_socket.send_str
        try:
            async with asyncio.timeout(self.stall_seconds):
                await send(message)  # type: ignore[arg-type]
        except TimeoutError:
            self.close(*_API_GONE)
        except ClientError:
            pass  # closed: _relay has the close frame

    def on_close(self) -> None:
        self._close_api(
            forwardable_close_code(self.close_code, otherwise=_GOING_AWAY_CODE), self.close_reason
        )

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        super().close(code, reason)
        self._close_api(code or _NORMAL_CLOSURE, reason)

    def _close_api(self, code: int, reason: str | None = None) -> None:
        if self._api_close_frame is None:
            self._api_close_frame = (code, reason or "")
            task = self._relaying or self._connecting
            if task is not None:
                task.cancel()

    # From the API to the browser.

    async def _relay(self) -> None:
        try:
            close_frame = await self._relay_until_close()
            super().close(*close_frame)
        finally:
            code, reason = self._api_close_frame or (_GOING_AWAY_CODE, "")
            with suppress(TimeoutError):
                async with asyncio.timeout(self.farewell_seconds):
                    await self._api_socket.close(code=code, message=reason.encode())

    async def _relay_until_close(self) -> CloseFrame:
        try:
            return await self._relay_messages()
        except WebSocketClosedError:
            return GOING_AWAY  # not sent: the browser's socket is closed
        except Exception as error:
            return self._failed(error)

    async def _relay_messages(self) -> CloseFrame:
        while True:
            message = await self._api_socket.receive()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return _close_frame_of(message)
            await self.write_message(message.data, binary=message.type is WSMsgType.BINARY)


def _close_frame_of(message: WSMessage) -> CloseFrame:
    """Return the close frame for the browser after the API has closed, cleanly or not."""
    if message.type is WSMsgType.CLOSE:
        return forwardable_close_code(message.data, otherwise=_NORMAL_CLOSURE), message.extra or ""
    if isinstance(message.data, ApiProtocolError) and message.data.code == _MESSAGE_TOO_BIG:
        return _MESSAGE_TOO_BIG, "the message is too big"
    return _API_GONE
