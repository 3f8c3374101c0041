"""More connections than a process can hold: idle ones give way, the others wait, and nothing spins."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from app.bff.descriptors import connection_limit
from tests.bff.subprocesses import APPLICATION, AppProcess, app_settings, running_process

LIMIT = 4


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


def cpu_seconds(app: AppProcess) -> float:
    fields = Path(f"/proc/{app.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def warnings(app: AppProcess) -> list[dict[str, object]]:
    return [line for line in app.log if line["message"] == "connections at their limit"]


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost:"], ids=["idle", "slow headers"])
async def test_idle_connections_keep_no_other_out(sent: bytes, tmp_path: Path):
    async with with_descriptors(tmp_path, 128, 128) as app:
        with connected(app.port, 300, sent):
            before, started = cpu_seconds(app), asyncio.get_running_loop().time()
            for _ in range(3):
                await app.answers("/healthz")
                await asyncio.sleep(1)

            assert cpu_seconds(app) - before < (asyncio.get_running_loop().time() - started) / 2
        assert [line["limit"] for line in warnings(app)] == [64]
        assert len(app.log) < 50
        assert await app.stops() == 0


async def test_the_soft_limit_is_raised(tmp_path: Path):
    async with with_descriptors(tmp_path, 128, 4096) as app:
        [listening] = [line for line in app.log if line["message"] == "listening"]

        assert listening["max_connections"] == 3096
        assert resource.prlimit(app.process.pid, resource.RLIMIT_NOFILE) == (4096, 4096)
