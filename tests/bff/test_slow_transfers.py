"""Browsers that send or read slowly, and APIs that pause: each is waited for with a limit."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from app.bff.dev.provider import Provider
from app.bff.handlers.base import ApiHandler
from app.bff.handlers.events import Events
from app.bff.handlers.socket import SocketHandler
from app.bff.handlers.static import Static
from app.bff.proxy.patience import Patience
from tests.bff.harness import Clock, RunningApp, new_browser, wait_until
from tests.bff.streaming_api import (
    CHUNKED,
    PATIENCE_SECONDS,
    StreamingApi,
    Wire,
    an_app,
    answer,
    of_length,
    request,
    wire_of,
)
from tests.bff.websocket_clients import HANDSHAKE

STALL_SECONDS = 0.3
STEP_SECONDS = 0.02  # between a few bytes and the next
A_LOT = 20_000_000
EVENTS = "Content-Type: text/event-stream"
CLOSED = "connection closed: the browser does not read"


@pytest.mark.parametrize(
    ("waited_seconds", "transferred", "seconds"),
    [
        pytest.param(0, 0, 30, id="nothing yet"),
        pytest.param(20, 0, 10, id="nothing for a while"),
        pytest.param(20, 50, 10.1, id="a few bytes"),
        pytest.param(29, 29 * 500, 30, id="as fast as it must be"),
        pytest.param(100, 1_000_000, 30, id="fast"),
        pytest.param(100, 40_000, 10, id="slow"),
        pytest.param(500, 100, 0, id="far too slow"),
    ],
)
def test_the_next_byte_may_take(waited_seconds: float, transferred: int, seconds: float):
    patience = Patience(stall_seconds=30, min_bytes_per_second=500)

    allowed = patience.seconds_for_next(waited_seconds=waited_seconds, transferred=transferred)

    assert allowed == pytest.approx(seconds)


def test_without_a_rate_only_each_pause_is_limited():
    patience = Patience(stall_seconds=30, min_bytes_per_second=0)

    assert patience.seconds_for_next(waited_seconds=10_000, transferred=1) == 30


class Page(ApiHandler):
    def get(self) -> None:
        self.finish(bytes(A_LOT))


class Loud(Events):
    comment = f":{'x' * A_LOT}\n\n"


class Talks(SocketHandler):
    wants_session = False

    async def open(self) -> None:  # type: ignore[override]
        await self.write_message(bytes(A_LOT), binary=True)


@pytest.fixture
async def api() -> AsyncIterator[StreamingApi]:
    api = StreamingApi()
    await api.start()
    yield api
    await api.stop()


@pytest.fixture
def min_bytes_per_second() -> int:
    return 0


@pytest.fixture
async def app(
    provider: Provider, api: StreamingApi, clock: Clock, tmp_path: Path, min_bytes_per_second: int
) -> AsyncIterator[RunningApp]:
    limits = {
        "stall_seconds": STALL_SECONDS,
        "min_bytes_per_second": min_bytes_per_second,
        "idle_seconds": STALL_SECONDS,
    }
    async with an_app(provider, api, clock, **limits) as app:
        (tmp_path / "large").write_bytes(bytes(A_LOT))
        routes = [
            ("/page", Page),
            ("/events", Loud),
            ("/socket", Talks),
            ("/file/(.*)", Static, {"path": str(tmp_path)}),
        ]
        app.tornado.add_handlers(".*", routes)
        yield app


async def begun(api: StreamingApi) -> Wire:
    """A call of the API, whose answer has begun."""
    call = await api.call()
    await call.head()
    await call.send(answer("200 OK", of_length(A_LOT), body=None))
    return call


async def cookie(app: RunningApp) -> str:
    async with new_browser(app) as browser:
        await browser.login()
        return f"bff={browser.cookie('bff')}"


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


@pytest.mark.parametrize("path", ["/api/x", "/page", "/file/large", "/events", "/socket"])
async def test_a_browser_that_does_not_read_loses_its_connection(
    path: str, app: RunningApp, api: StreamingApi, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    headers = {"/socket": {**HANDSHAKE, "Origin": app.base_url}, "/events": {"Cookie": await cookie(app)}}
    lines = [f"{name}: {value}" for name, value in headers.get(path, {}).items()]
    async with wire_of(app) as browser:
        await browser.send(request("GET", path, *lines))
        if path == "/api/x":
            call = await begun(api)
            with suppress(ConnectionError):
                await call.push(A_LOT)
        await wait_until(lambda: CLOSED in messages(caplog))

        assert len(await browser.ended()) < A_LOT
    await wait_until(lambda: not app.services.in_flight_requests)


@pytest.mark.parametrize(
    ("min_bytes_per_second", "closed"),
    [pytest.param(500, False, id="it reads slowly"), pytest.param(10**8, True, id="it reads too slowly")],
)
async def test_a_browser_may_read_as_slowly_as_the_settings_say(
    closed: bool, app: RunningApp, api: StreamingApi, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    with slow_socket(app) as connection:
        await asyncio.get_running_loop().sock_sendall(connection, request())
        call = await begun(api)
        pushing = asyncio.create_task(call.push(A_LOT))
        for _ in range(round(4 * STALL_SECONDS / STEP_SECONDS)):
            await asyncio.sleep(STEP_SECONDS)
            if CLOSED not in messages(caplog):
                await asyncio.get_running_loop().sock_recv(connection, 8192)
        pushing.cancel()

    assert (CLOSED in messages(caplog)) is closed


def slow_socket(app: RunningApp) -> socket.socket:
    """A browser's connection of which the kernel takes next to nothing by itself."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    connection.connect(("127.0.0.1", int(app.base_url.rpartition(":")[2])))
    connection.setblocking(False)
    return connection


@pytest.mark.parametrize("min_bytes_per_second", [10_000])
@pytest.mark.parametrize("how", [CHUNKED, of_length(100), of_length(100_000)])
async def test_an_upload_of_single_bytes_ends_though_it_never_stalls(
    how: str, app: RunningApp, api: StreamingApi
):
    async with wire_of(app) as browser:
        await browser.send(request("POST", "/api/x", how))
        answering = asyncio.create_task(browser.answer())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not answering.done():
                await browser.send(b"1\r\na\r\n" if how == CHUNKED else b"a")
                await asyncio.wait({answering}, timeout=STEP_SECONDS)
        status, document = await answering

        assert (status, b'"too_slow"' in document) == (408, True)


@pytest.mark.parametrize(
    ("content_type", "arrives"),
    [
        ("Content-Type: application/json", False),
        ("X-No: type", False),
        ("Content-Type: text/event-streams", False),
        (EVENTS, True),
        ("Content-Type: Text/Event-Stream; charset=utf-8", True),
    ],
)
async def test_an_api_may_pause_in_an_event_stream_only(
    content_type: str, arrives: bool, app: RunningApp, api: StreamingApi
):
    async with wire_of(app) as browser:
        await browser.send(request("GET", "/api/x", "Connection: close"))
        call = await api.call()
        await call.head()
        await call.send(answer("200 OK", CHUNKED, content_type, body=None))
        await browser.head()
        rest = asyncio.create_task(browser.ended())
        await asyncio.wait({rest}, timeout=2 * STALL_SECONDS)
        if not rest.done():
            await call.send(b"4\r\nlate\r\n0\r\n\r\n")

        assert (b"late" in await rest) is arrives


async def test_no_response_lasts_longer_than_its_total_time(
    provider: Provider, api: StreamingApi, clock: Clock
):
    limited = an_app(provider, api, clock, max_response_seconds=STALL_SECONDS)
    async with limited as app, wire_of(app) as browser:
        await browser.send(request())
        call = await api.call()
        await call.head()
        await call.send(answer("200 OK", CHUNKED, EVENTS, body=None))
        cut = asyncio.create_task(browser.ended())
        with suppress(ConnectionError):
            for _ in range(500):
                if cut.done():
                    break
                await call.send_chunk(b"data: x\n\n")
                await asyncio.wait({cut}, timeout=STEP_SECONDS)

        assert cut.done()
        assert not (await cut).endswith(b"0\r\n\r\n")
