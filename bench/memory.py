"""How much memory the application takes: idle, with large bodies under way, with many event streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from bench.api import EVENT, endless_api
from bench.field import Ground
from bench.figures import Memory
from bench.machine import forget_peak, peak_rss_mb, rss_mb
from bench.servers import application, application_settings
from bench.sessions import session_id
from bench.wire import Connection, connections, head, receive, send, status

STREAMS = 1000
_EVENTS_EACH = 3
_SESSION = session_id(1)


async def memory(ground: Ground, *, body_bytes: int) -> Memory:
    async with endless_api(body_bytes) as upstream:
        settings = application_settings(
            store=ground.store("small"), key=ground.key, upstream=upstream, max_body_bytes=body_bytes
        )
        with application(ground.folder, ground.places.measured, settings) as app:
            await _upload(app.port, 1)
            idle = rss_mb([app.pid])
            up, up_rate = await _peak(app.pid, body_bytes, lambda: _upload(app.port, body_bytes))
            down, down_rate = await _peak(app.pid, body_bytes, lambda: _download(app.port, body_bytes))
            streams = await _with_streams(app.pid, app.port)
    return Memory(body_bytes, STREAMS, idle, up, down, streams, up_rate, down_rate)


async def _peak(pid: int, size: int, transfer: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """The most memory while something is transferred, and how much of it in a second."""
    forget_peak(pid)
    began = time.monotonic()
    await transfer()
    return peak_rss_mb(pid), size / 1e6 / (time.monotonic() - began)


async def _upload(port: int, size: int) -> None:
    async with connections(port) as [(reader, writer)]:
        writer.write(head("POST", "/api/sink", _SESSION, length=size))
        await send(writer, size)
        assert await status(reader) == 200


async def _download(port: int, size: int) -> None:
    async with connections(port) as [(reader, writer)]:
        writer.write(head("GET", "/api/source", _SESSION))
        assert await status(reader) == 200
        await receive(reader, size)


async def _with_streams(pid: int, port: int) -> float:
    """The memory once every stream has brought a few events."""
    async with connections(*[port] * STREAMS) as opened:
        await asyncio.gather(*map(_events, opened))
        return rss_mb([pid])


async def _events(connection: Connection) -> None:
    reader, writer = connection
    writer.write(head("GET", "/api/events", _SESSION))
    assert await status(reader) == 200
    for _ in range(_EVENTS_EACH):
        await reader.readuntil(EVENT)
