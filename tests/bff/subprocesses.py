"""`python -m …` in a process of its own: its settings, what it says, how it ends."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2

from tests.bff.harness import CLIENT_ID, CLIENT_SECRET, Browser

ROOT = Path(__file__).parents[2]
APPLICATION = "tests.bff.application"
PATIENCE_SECONDS = 60  # for what takes one or two on a machine with nothing else to do


class AppProcess:
    """A process of ours, and what it has said so far."""

    def __init__(self, process: Process, port: int, folder: Path) -> None:
        self.process = process
        self.port = port
        self.url = f"http://localhost:{port}"
        self._folder = folder

    @property
    def stdout(self) -> str:
        return (self._folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self._folder / "stderr").read_text()

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stderr.splitlines()]

    async def get(self, path: str) -> httpx2.Response | None:
        """The answer; None while nothing listens."""
        async with httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as http:
            try:
                return await http.get(self.url + path)
            except httpx2.TransportError:
                return None

    async def answers(self, path: str = "/healthz", *, status: int = 200, text: str = "") -> httpx2.Response:
        """Wait until it answers like that."""

        async def expected_answer() -> httpx2.Response | None:
            response = await self.get(path)
            return response if response and response.status_code == status and text in response.text else None

        return await wait_until(expected_answer)

    async def says(self, text: str, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until it has written that."""

        async def said() -> bool:
            meanwhile()
            assert self.process.returncode is None, self.stdout + self.stderr
            return text in self.stdout + self.stderr

        await wait_until(said)

    async def stops(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal, wait for its end, return its exit code."""
        self.process.send_signal(number)
        return await self.exits()

    async def exits(self) -> int:
        return await asyncio.wait_for(self.process.wait(), PATIENCE_SECONDS)

    def browser(self) -> Browser:
        return Browser(SimpleNamespace(base_url=self.url))  # type: ignore[arg-type]


async def wait_until(question: Callable[[], Awaitable[Any]]) -> Any:
    """Ask again and again, and return the first answer that is true."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (answer := await question()):  # noqa: ASYNC110 (nothing tells us about other processes)
            await asyncio.sleep(0.05)
        return answer


def free_ports(count: int = 1) -> int:
    """The first of `count` consecutive free ports.

    They lie below those that the system hands out by itself: one of these may be taken a moment later.
    """
    while True:
        first = 10_000 + secrets.randbelow(20_000)
        if not any(is_listening(port) for port in range(first, first + count)):
            return first


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@asynccontextmanager
async def running_process(
    module: str, folder: Path, *arguments: str, root: Path = ROOT, ports: int = 1, **settings: Any
) -> AsyncIterator[AppProcess]:
    """`python -m module arguments`, where there is no `.env`, with the code under `root` or in `folder`."""
    port = settings.setdefault("BFF_PORT", free_ports(ports))
    environment = {**os.environ, "PYTHONPATH": f"{root}:{folder}"}
    environment |= {name: str(value) for name, value in settings.items()}
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            cwd=folder,
            env=environment,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        yield AppProcess(process, port, folder)
    finally:
        await terminate(process)


async def terminate(process: Process) -> None:
    """Whatever a test has left running, its workers too."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def child_pids(process: Process) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def app_settings(**changed: Any) -> dict[str, Any]:
    """Settings of an application in production, whose provider and database are down."""
    port = free_ports()
    return {
        "BFF_PORT": port,
        "BFF_BASE_URL": f"http://localhost:{port}",
        "BFF_ISSUER": f"http://127.0.0.1:{free_ports()}",
        "BFF_CLIENT_ID": CLIENT_ID,
        "BFF_CLIENT_SECRET": CLIENT_SECRET,
        "BFF_ENCRYPTION_KEYS": base64.b64encode(secrets.token_bytes(32)).decode(),
        "BFF_SESSION_STORE": f"mongodb://127.0.0.1:{free_ports()}/bff",
        **changed,
    }
