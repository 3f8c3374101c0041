"""What others notice of an API that is slow: `/bff/user`, alone and beside requests that wait for the API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median, quantiles

from bench.api import SLOW_SECONDS, endless_api
from bench.field import Ground
from bench.figures import Pace, Waiting
from bench.servers import application, application_settings
from bench.sessions import session_id
from bench.wire import Connection, connections, head, receive_body, status

REQUESTS = 500
_SECONDS = 5  # less than the API takes
_PAUSE_SECONDS = 0.005  # somebody who looks, and no load
_SESSION = session_id(1)


async def waiting(ground: Ground, *, rounds: int) -> Waiting:
    alone, beside = [], []
    async with endless_api(0) as upstream:
        settings = application_settings(store=ground.store("small"), key=ground.key, upstream=upstream)
        with application(ground.folder, ground.places.measured, settings) as app:
            await _user(app.port)
            for _ in range(rounds):
                alone.append(await _user(app.port))
                async with _requests_that_wait(app.port):
                    beside.append(await _user(app.port))
    return Waiting(REQUESTS, SLOW_SECONDS, alone, beside)


@asynccontextmanager
async def _requests_that_wait(port: int) -> AsyncIterator[None]:
    """They are all under way, and none of them is answered before the API has taken its time."""
    async with connections(*[port] * REQUESTS) as opened:
        answers = asyncio.gather(*map(_slow, opened))
        await asyncio.sleep(1)  # until they have reached the API
        yield
        assert not answers.done()
        assert set(await answers) == {200}


async def _slow(connection: Connection) -> int:
    reader, writer = connection
    writer.write(head("GET", "/api/slow", _SESSION))
    return await status(reader)


async def _user(port: int) -> Pace:
    """How long `/bff/user` takes, asked once and again for some seconds."""
    async with connections(port) as [(reader, writer)]:
        milliseconds = []
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            began = time.monotonic()
            writer.write(head("GET", "/bff/user", _SESSION))
            assert await receive_body(reader) == 200
            milliseconds.append((time.monotonic() - began) * 1000)
            await asyncio.sleep(_PAUSE_SECONDS)
    return Pace(p50_ms=median(milliseconds), p99_ms=quantiles(milliseconds, n=100)[-1])
