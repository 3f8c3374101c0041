"""An API for what nginx cannot play: bodies of any size, events, and a long wait."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from bench.wire import receive, send

SLOW_SECONDS = 10
EVENT = b"data: tick\n\n"
_BACKLOG = 1000
_ANSWER = "HTTP/1.1 200 OK\r\nConnection: close\r\n{}\r\n\r\n"


@asynccontextmanager
async def endless_api(body_bytes: int) -> AsyncIterator[str]:
    """An API that swallows a body, makes one up, tells something every second, or takes its time."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.CancelledError):  # whoever asked has left, or we stop
            await _answer(reader, writer, body_bytes)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=_BACKLOG)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body_bytes: int) -> None:
    request = await reader.readuntil(b"\r\n\r\n")
    path = request.split()[1]
    if path == b"/sink":
        length = re.search(rb"(?im)^content-length: (\d+)", request)
        assert length
        await receive(reader, int(length[1]))
        writer.write(_ANSWER.format("Content-Length: 0").encode())
    elif path == b"/source":
        writer.write(_ANSWER.format(f"Content-Length: {body_bytes}").encode())
        await send(writer, body_bytes)
    elif path == b"/slow":
        await asyncio.sleep(SLOW_SECONDS)
        writer.write(_ANSWER.format("Content-Length: 0").encode())
    else:
        writer.write(_ANSWER.format("Content-Type: text/event-stream").encode())
        await _tick(writer)


async def _tick(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(EVENT)
        await writer.drain()
        await asyncio.sleep(1)
