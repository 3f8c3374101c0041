"""More connections than a process can hold: idle ones give way, the others wait, and nothing spins."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from app.bff.descriptors import connection_limit
from app.bff.proxy.patience import Patience
from app.bff.proxy.strict_server import StrictServer
from tests.bff.harness import RunningApp
from tests.bff.streaming_api import CHUNKED, Wire, of_length, request, wire_to
from tests.bff.subprocesses import APPLICATION, AppProcess, app_settings, running_process, wait_until

HANDSHAKE = [
    *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]
LIMIT = 4
PATIENCE = Patience(stall_seconds=30, min_bytes_per_second=0)


@pytest.mark.parametrize(
    ("setting", "descriptors", "limit"),
    [
        *((0, 128, 64), (0, 1024, 512), (0, 4096, 3096), (0, 65_536, 10_000), (50, 128, 50), (100, 128, 64)),
        *((20_000, 65_536, 20_000), (100_000, 65_536, 64_536), (5000, 1024, 512)),
    ],
)
def test_descriptors_are_left_for_other_things(setting: int, descriptors: int, limit: int):
    assert connection_limit(setting, descriptors) == limit


# A process with few descriptors

LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
runpy.run_module("{module}", run_name="__main__")
"""


@asynccontextmanager
async def with_descriptors(folder: Path, soft: int, hard: int) -> AsyncIterator[AppProcess]:
    """The application in a process with these limits."""
    (folder / "limited.py").write_text(LIMITED.format(soft=soft, hard=hard, module=APPLICATION))
    async with running_process("limited", folder, **app_settings()) as app:
        await app.answers()
        yield app


@contextmanager
def connected(port: int, count: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many connections, on which nothing but `sent` is sent. They are not all accepted."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        for each in sockets:
            with suppress(OSError):
                each.send(sent)
        yield sockets
    finally:
        for each in sockets:
            each.close()


def is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def cpu_seconds(app: AppProcess) -> float:
    fields = Path(f"/proc/{app.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def warnings(app: AppProcess) -> list[dict[str, object]]:
    return [line for line in app.log if line["message"] == "connections at their limit"]


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost:"], ids=["idle", "slow headers"])
async def test_idle_connections_keep_no_other_out(sent: bytes, tmp_path: Path):
    async with with_descriptors(tmp_path, 128, 128) as app:
        with connected(app.port, 300, sent) as others:
            before = cpu_seconds(app)
            for _ in range(3):
                async with asyncio.timeout(20):  # it takes half a second at first, and then none
                    await app.answers("/healthz")
                await asyncio.sleep(0.5)

            assert cpu_seconds(app) - before < 0.75
            assert len([each for each in others if is_open(each)]) <= 64
        assert [line["limit"] for line in warnings(app)] == [64]
        assert len(app.log) < 50
        assert await app.stops() == 0


async def test_the_soft_limit_is_raised(tmp_path: Path):
    async with with_descriptors(tmp_path, 128, 4096) as app:
        [listening] = [line for line in app.log if line["message"] == "listening"]

        assert listening["max_connections"] == 3096
        assert resource.prlimit(app.process.pid, resource.RLIMIT_NOFILE) == (4096, 4096)


# A server with few connections


class Held(RequestHandler):
    """Answers when it may."""

    async def get(self) -> None:
        await self.settings["may_answer"].wait()
        self.finish("done")


class Fast(RequestHandler):
    def get(self) -> None:
        self.finish("done")

    def post(self) -> None:
        self.finish("done")


class Socket(WebSocketHandler):
    pass


class OutOfDescriptors(socket.socket):
    """A listening socket that fails to accept for as long as `fails`."""

    fails = True
    failures = 0

    def accept(self) -> tuple[socket.socket, Any]:
        if not self.fails:
            return super().accept()
        self.failures += 1
        raise OSError(errno.EMFILE, "Too many open files")


@dataclass
class Served:
    listener: OutOfDescriptors
    may_answer: asyncio.Event

    def wire(self) -> AbstractAsyncContextManager[Wire]:
        return wire_to(self.listener.getsockname()[1])


@pytest.fixture
async def server() -> AsyncIterator[Served]:
    may_answer = asyncio.Event()
    routes = [("/held", Held), ("/fast", Fast), ("/socket", Socket)]
    application = Application(routes, may_answer=may_answer)
    server = StrictServer(application, max_connections=LIMIT, patience=PATIENCE)
    listener = OutOfDescriptors()
    listener.fails = False
    listener.setblocking(False)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server.add_sockets([listener])
    yield Served(listener, may_answer)
    server.stop()
    await server.close_all_connections()


async def test_the_connection_that_has_waited_longest_is_closed(server: Served):
    async with AsyncExitStack() as opened:
        wires = [await opened.enter_async_context(server.wire()) for _ in range(LIMIT)]
        for wire in wires[1:]:
            await wire.send(request("GET", "/fast"))
            await wire.answer()
        await asyncio.sleep(0.2)
        async with server.wire() as one_more:
            await one_more.send(request("GET", "/fast"))

            assert (await one_more.answer())[0] == 200
            assert await wires[0].ended() == b""
        await wires[-1].send(request("GET", "/fast"))
        assert (await wires[-1].answer())[0] == 200


@pytest.mark.parametrize("sent", [request("GET", "/held"), request("POST", "/fast", of_length(5), body=b"x")])
async def test_one_that_is_in_use_is_not_closed_and_the_next_waits_for_its_end(sent: bytes, server: Served):
    async with AsyncExitStack() as opened:
        wires = [await opened.enter_async_context(server.wire()) for _ in range(LIMIT + 1)]
        for wire in wires:
            await wire.send(sent)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await wires[-1].head()
        await wires[0].close()
        await wires[1].close()
        server.may_answer.set()
        await wires[-1].send(b"xxxx" if b"POST" in sent else b"")

        assert (await wires[-1].answer())[0] == 200
        await wires[2].send(b"xxxx" if b"POST" in sent else b"")
        assert (await wires[2].answer())[0] == 200


async def test_websockets_count(server: Served):
    async with AsyncExitStack() as opened:
        wires = [await opened.enter_async_context(server.wire()) for _ in range(LIMIT + 1)]
        for wire in wires:
            await wire.send(request("GET", "/socket", *HANDSHAKE))
        statuses = [(await wire.head()).status for wire in wires[:LIMIT]]
        await wires[0].close()

        assert [*statuses, (await wires[-1].head()).status] == [101] * (LIMIT + 1)


async def test_an_accept_that_fails_is_tried_again_now_and_then(
    server: Served, caplog: pytest.LogCaptureFixture
):
    server.listener.fails = True
    async with server.wire() as browser:
        await browser.send(request("GET", "/fast"))
        await wait_until(lambda: asyncio.sleep(0, server.listener.failures == 3))
        server.listener.fails = False

        assert (await browser.answer())[0] == 200
    assert server.listener.failures == 3
    assert [record.reason for record in caplog.records] == ["Too many open files"]  # type: ignore[attr-defined]


class Impatient(StrictServer):
    body_seconds = 0.1


@pytest.mark.parametrize("path", ["/", "/nowhere", "/bff/backchannel"])
@pytest.mark.parametrize("body", [(of_length(9), b"x"), (CHUNKED, b"9\r\nx"), (of_length(10**6), b"x")])
async def test_a_body_that_does_not_arrive_keeps_no_other_out(
    path: str, body: tuple[str, bytes], app: RunningApp
):
    server = Impatient(app.tornado, max_connections=LIMIT, patience=PATIENCE)
    [listener] = bind_sockets(0, "127.0.0.1")
    server.add_sockets([listener])
    async with AsyncExitStack() as opened:
        port = listener.getsockname()[1]
        wires = [await opened.enter_async_context(wire_to(port)) for _ in range(LIMIT + 1)]
        for wire in wires[:LIMIT]:
            await wire.send(request("POST", path, body[0], body=body[1]))
        await wires[-1].send(request("GET", "/healthz"))

        assert (await wires[-1].answer())[0] == 200
    server.stop()
    await server.close_all_connections()


@pytest.mark.parametrize("first", [b"", b"GET /fast HTTP/1.1\r\nX: "])
async def test_headers_have_a_time_for_all_of_them(first: bytes):
    server = StrictServer(Application([]), idle_connection_timeout=0.5, patience=PATIENCE)
    [listener] = bind_sockets(0, "127.0.0.1")
    server.add_sockets([listener])
    async with wire_to(listener.getsockname()[1]) as browser:
        await browser.send(first)
        drip = asyncio.create_task(dripping(browser))

        assert await browser.ended() == b""
        drip.cancel()
    server.stop()


async def dripping(browser: Wire) -> None:
    with suppress(ConnectionError):
        while True:
            await browser.send(b"x")
            await asyncio.sleep(0.05)
