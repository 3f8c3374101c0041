"""Forwards a WebSocket to an API: one to the browser, one to the API, and neither outlives the other."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Any

from aiohttp import ClientError, ClientWebSocketResponse, WSMessage, WSMsgType
from aiohttp import WebSocketError as ApiBrokeRules
from aiohttp import WSServerHandshakeError as HandshakeRefused
from tornado.web import HTTPError
from tornado.websocket import WebSocketClosedError

from app.bff.errors import ApiRefused
from app.bff.handlers.socket import GOING_AWAY, Ending, SocketHandler
from app.bff.handlers.web import BROWSER_LEFT
from app.bff.proxy.rules import (
    close_code_to_pass_on,
    offered_subprotocols,
    status_of_refusal,
    upstream_headers,
    upstream_path,
)
from app.bff.settings.load import RemoteApiSettings

_BROWSER_GONE = 1001
_TOO_BIG, _ENDED = 1009, 1000
_API_GONE: Ending = (1014, "the API is gone")  # what 502 is to a request


class RemoteSocket(SocketHandler):
    """One WebSocket to a remote API. What is decided about paths, headers and codes is in `web.remote`."""

    wants_session = False  # the token of the API's client says whether one is wanted
    stall_seconds: float = 30  # an API that takes nothing for so long is gone
    farewell_seconds: float = 5  # for its answer when we take leave

    def initialize(self, api: RemoteApiSettings) -> None:
        self.api = api
        self._asking: asyncio.Task[ClientWebSocketResponse] | None = None
        self._passing_on: asyncio.Task[None] | None = None
        self._last_word: Ending | None = None  # to the API

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """The API is asked first: what it refuses, the browser's handshake is refused with."""
        async with AsyncExitStack() as closing:
            self._to_api = await self._asked(closing)
            self._passing_on = asyncio.create_task(self._pass_on())
            try:
                await super().get(*args, **kwargs)
            finally:
                self._leave_api(_BROWSER_GONE)
                await asyncio.wait({self._passing_on})

    async def _asked(self, closing: AsyncExitStack) -> ClientWebSocketResponse:
        self._asking = asyncio.create_task(self._opened(closing))
        try:
            return await self._asking
        except asyncio.CancelledError:
            if self._last_word is None:
                raise
            raise HTTPError(BROWSER_LEFT) from None
        except HandshakeRefused as refusal:
            detail = f"the API answered the handshake with {refusal.status}"
            raise ApiRefused(detail, status=status_of_refusal(refusal.status)) from None

    async def _opened(self, closing: AsyncExitStack) -> ClientWebSocketResponse:
        path = upstream_path(self.request.uri or "", self.api.path)
        client = self.create_client(self.api.client)
        sent = upstream_headers(self.request.headers.get_all(), fixed=client.fixed_headers)
        await client.prefetch()  # not in the API's time
        socket = client.websocket(
            client.below(path),
            timeout_seconds=self.api.timeout_seconds,
            headers=sent,
            protocols=offered_subprotocols(self.request.headers),
            heartbeat=self.ping_interval,
            max_msg_size=self.max_message_size + 1,  # what is as large as this, aiohttp refuses already
        )
        return await closing.enter_async_context(socket)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return self._to_api.protocol

    # From the browser to the API: Tornado reads on when on_message is done.

    async def on_message(self, message: str | bytes) -> None:
        send = self._to_api.send_bytes if isinstance(message, bytes) else self._to_api.send_str
        try:
            async with asyncio.timeout(self.stall_seconds):
                await send(message)  # type: ignore[arg-type]
        except TimeoutError:
            self.close(*_API_GONE)
        except ClientError:
            pass  # it is closed, and _pass_on knows with which words

    def on_close(self) -> None:
        self._leave_api(close_code_to_pass_on(self.close_code, otherwise=_BROWSER_GONE), self.close_reason)

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        super().close(code, reason)
        self._leave_api(code or _ENDED, reason)

    def _leave_api(self, code: int, reason: str | None = None) -> None:
        if self._last_word is None:
            self._last_word = (code, reason or "")
            task = self._passing_on or self._asking
            if task is not None:
                task.cancel()

    # From the API to the browser.

    async def _pass_on(self) -> None:
        try:
            ending = await self._why_to_stop()
            super().close(*ending)
        finally:
            code, reason = self._last_word or (_BROWSER_GONE, "")
            with suppress(TimeoutError):
                async with asyncio.timeout(self.farewell_seconds):
                    await self._to_api.close(code=code, message=reason.encode())

    async def _why_to_stop(self) -> Ending:
        try:
            return await self._pass_messages_on()
        except WebSocketClosedError:
            return GOING_AWAY  # which nobody hears: the browser has gone itself
        except Exception as error:
            return self._failed(error)

    async def _pass_messages_on(self) -> Ending:
        while True:
            message = await self._to_api.receive()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return _ending_of(message)
            await self.write_message(message.data, binary=message.type is WSMsgType.BINARY)


def _ending_of(message: WSMessage) -> Ending:
    """Return what the browser is told when the API has ended it, in good order or not."""
    if message.type is WSMsgType.CLOSE:
        return close_code_to_pass_on(message.data, otherwise=_ENDED), message.extra or ""
    if isinstance(message.data, ApiBrokeRules) and message.data.code == _TOO_BIG:
        return _TOO_BIG, "the message is too big"
    return _API_GONE
