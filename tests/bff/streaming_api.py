"""Both ends of a forwarded request as bare connections: a test sends and reads every byte itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from app.bff.dev.provider import Provider
from tests.bff.harness import Clock, RunningApp, running_app

PATIENCE_SECONDS = 10  # for what takes milliseconds: a test that fails must not hang
STUCK_SECONDS = 1  # when nothing was taken for so long, nothing will be
T = TypeVar("T")


@dataclass(frozen=True)
class Head:
    """The first line and the headers of a request or an answer, as they were sent."""

    line: str
    headers: list[tuple[str, str]]

    @property
    def status(self) -> int:
        return int(self.line.split()[1])

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known.lower() == name.lower()]


class Wire:
    """One end of a connection. It reads only when a test calls `read`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await soon(self._writer.drain())

    async def send_chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def push(self, total: int, *, until_stuck: bool = False) -> int:
        """Send so many bytes, or as many as are taken; return how many."""
        piece = bytes(65_536)
        patience = STUCK_SECONDS if until_stuck else PATIENCE_SECONDS
        sent = 0
        self._writer.transport.set_write_buffer_limits(0)
        try:
            while sent < total:
                part = piece[: total - sent]
                self._writer.write(part)
                sent += len(part)
                async with asyncio.timeout(patience):
                    await self._writer.drain()
        except TimeoutError:
            pass
        return sent

    async def head(self) -> Head:
        line, *rest = (await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (header.partition(":") for header in rest if header)
        return Head(line, [(name, value.strip(" ")) for name, _, value in pairs])

    async def until(self, end: bytes) -> bytes:
        """Return what comes before these bytes, which are read as well."""
        return (await soon(self._reader.readuntil(end))).removesuffix(end)

    async def exactly(self, size: int) -> bytes:
        return await soon(self._reader.readexactly(size))

    async def chunk(self) -> bytes:
        """Return one chunk of a chunked body; the last one is empty."""
        data = await self.exactly(int(await self.until(b"\r\n"), 16))
        assert await self.exactly(2) == b"\r\n"
        return data

    async def chunks(self, size: int) -> bytes:
        """Return so many bytes of a chunked body, however it is cut."""
        data = b""
        while len(data) < size:
            data += await self.chunk()
        return data

    async def body_of(self, head: Head) -> bytes:
        if head.all("Content-Length"):
            return await self.exactly(int(head.all("Content-Length")[0]))
        data = b""
        while chunk := await self.chunk():
            data += chunk
        return data

    async def answer(self) -> tuple[int, bytes]:
        """Return the status and the whole body of an answer."""
        head = await self.head()
        return head.status, await self.body_of(head)

    async def swallow(self, size: int) -> None:
        while size > 0:
            size -= len(await soon(self._reader.read(65_536))) or size

    async def ended(self) -> bytes:
        """Wait for the other side to hang up; return what it had sent until then."""
        data = b""
        try:
            while piece := await soon(self._reader.read(65_536)):
                data += piece
        except ConnectionError:
            pass
        return data

    async def close(self) -> None:
        """Hang up; what was not taken yet is thrown away."""
        if self._writer.transport.get_write_buffer_size():
            self._writer.transport.abort()
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


class StreamingApi:
    """An API that does nothing by itself: a test takes its calls, one by one."""

    def __init__(self) -> None:
        self._accepted: asyncio.Queue[Wire] = asyncio.Queue()
        self._wires: list[Wire] = []

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def connections(self) -> int:
        """How many there have been."""
        return len(self._wires)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for wire in self._wires:
            await wire.close()
        await self._server.wait_closed()

    async def call(self) -> Wire:
        """Wait for the next connection."""
        return await soon(self._accepted.get())

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        self._wires.append(wire)
        self._accepted.put_nowait(wire)


@asynccontextmanager
async def an_app(
    provider: Provider,
    api: StreamingApi,
    clock: Clock,
    *,
    token: str = "none",
    timeout_seconds: float = 30,
    stall_seconds: float = 30,
    min_bytes_per_second: int = 0,
    **remote: Any,
) -> AsyncIterator[RunningApp]:
    """The application with one connection to the API, so that one which is not given back is missed."""
    client = {
        "base_url": api.base_url,
        "token": token,
        "timeout_seconds": timeout_seconds,
        "max_connections": 1,
    }
    route = {"path": "/api", "client": "apiClient", **remote}
    settings: dict[str, Any] = {
        "http_clients": {"apiClient": client},
        "remote_apis": [route],
        "stall_seconds": stall_seconds,
        "min_bytes_per_second": min_bytes_per_second,
    }
    async with running_app(provider, api, clock=clock, **settings) as app:
        yield app


@asynccontextmanager
async def wire_to(port: int) -> AsyncIterator[Wire]:
    wire = Wire(*await asyncio.open_connection("127.0.0.1", port))
    yield wire
    await wire.close()


@asynccontextmanager
async def wire_of(app: RunningApp) -> AsyncIterator[Wire]:
    """A browser's connection to the application."""
    async with wire_to(int(app.base_url.rpartition(":")[2])) as wire:
        yield wire


async def soon(awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await awaitable


CHUNKED = "Transfer-Encoding: chunked"


def of_length(size: int) -> str:
    return f"Content-Length: {size}"


def request(method: str = "GET", path: str = "/api/x", *headers: str, body: bytes = b"") -> bytes:
    """What a browser sends for a `fetch()` of our pages."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "X-CSRF: 1", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def answer(status: str = "200 OK", *headers: str, body: bytes | None = b"") -> bytes:
    """What an API sends; `body` says its length, None says nothing of a body."""
    length = [] if body is None else [f"Content-Length: {len(body)}"]
    return "\r\n".join([f"HTTP/1.1 {status}", *length, *headers, "", ""]).encode("latin-1") + (body or b"")
