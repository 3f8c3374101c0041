"""HTTP/1.1 by hand: a client library would be busier than what is measured."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CHUNK_BYTES = 256 * 1024
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connections(*ports: int) -> AsyncIterator[list[Connection]]:
    """One connection to each of the ports, which may be the same."""
    opened = await asyncio.gather(*map(_open, ports))
    try:
        yield opened
    finally:
        for _, writer in opened:
            writer.close()


async def _open(port: int) -> Connection:
    return await asyncio.open_connection("127.0.0.1", port, limit=4 * CHUNK_BYTES)


def head(method: str, path: str, session_id: str, *, length: int | None = None) -> bytes:
    """A request of one of our pages."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Cookie: bff={session_id}", "X-CSRF: 1"]
    lines += [f"Content-Length: {length}"] if length is not None else []
    return "\r\n".join([*lines, "", ""]).encode()


async def status(reader: asyncio.StreamReader) -> int:
    """Read the head of an answer; return its status."""
    answer = await reader.readuntil(b"\r\n\r\n")
    return int(answer.split(None, 2)[1])


async def receive_body(reader: asyncio.StreamReader) -> int:
    """Read a whole answer; return its status."""
    answer = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?im)^content-length: (\d+)", answer)
    assert length
    await reader.readexactly(int(length[1]))
    return int(answer.split(None, 2)[1])


async def send(writer: asyncio.StreamWriter, size: int) -> None:
    """Send so many bytes, as fast as the other side takes them."""
    chunk = bytes(CHUNK_BYTES)
    for left in range(size, 0, -CHUNK_BYTES):
        writer.write(chunk[:left])
        await writer.drain()


async def receive(reader: asyncio.StreamReader, size: int) -> None:
    """Take so many bytes and forget them; IncompleteReadError if there are not so many."""
    left = size
    while left:
        chunk = await reader.read(min(left, CHUNK_BYTES))
        if not chunk:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(chunk)
