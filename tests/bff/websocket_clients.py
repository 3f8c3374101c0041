"""What tests of WebSockets are made of: the browser's end, and refused handshakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from aiohttp import ClientSession, ClientWebSocketResponse
from yarl import URL

from app.bff.dev.api import DemoApi
from app.bff.dev.sockets import EchoSocket
from tests.bff.harness import Browser, RunningApp, wait_until

MIB = 1024 * 1024
MANY = 100
HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@asynccontextmanager
async def open_websocket(
    browser: Browser, path: str, **options: Any
) -> AsyncIterator[ClientWebSocketResponse]:
    """The browser's end of a WebSocket that a page of ours has opened; `headers` come on top."""
    cookie = f"bff={browser.cookie('bff')}"
    headers = {"Origin": browser.app.base_url, "Cookie": cookie, **options.pop("headers", {})}
    url = URL(browser.app.base_url + path, encoded=True)
    async with (
        ClientSession() as http,
        http.ws_connect(url, headers=headers, max_msg_size=0, **options) as socket,
    ):
        yield socket


async def refused_handshake(browser: Browser, path: str, **headers: str | None) -> httpx2.Response:
    """The answer to a page that tries to open a WebSocket; a header that is None is not sent."""
    sent = {**HANDSHAKE, "Origin": browser.app.base_url, **headers}
    return await browser.http.get(path, headers={name: value for name, value in sent.items() if value})


async def close_code_and_reason(socket: ClientWebSocketResponse) -> tuple[Any, Any]:
    """The close code and the reason that the browser received."""
    async with asyncio.timeout(10):
        ending = await socket.receive()
    return ending.data, ending.extra


async def api_socket(api: DemoApi) -> EchoSocket:
    await wait_until(lambda: bool(api.sockets))
    return api.sockets[-1]


async def no_requests_in_flight(app: RunningApp) -> None:
    await wait_until(lambda: not app.services.in_flight_requests)


class BulkSender:
    """Sends many messages of a mebibyte each, as fast as they are taken."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        self.sent = 0
        self.task = asyncio.create_task(self._all(send))

    async def _all(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        while self.sent < MANY:
            await send(bytes(MIB))
            self.sent += 1

    async def is_over(self) -> None:
        """Wait until everything was taken, or the socket is closed."""
        await asyncio.gather(self.task, return_exceptions=True)


async def settled_value(progress: Callable[[], int]) -> int:
    """The value of a counter once every task of this process waits for another process."""
    last, unchanged = progress(), 0
    while unchanged < 500:
        await asyncio.sleep(0)
        last, unchanged = progress(), unchanged + 1 if progress() == last else 0
    return last
