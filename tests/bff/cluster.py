"""A cluster: processes of one application that share an address, a key ring, a store and a provider."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx2
from pymongo import AsyncMongoClient

from app.bff.crypto import Vault
from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Client, Provider
from app.bff.sessions.mongo.sessions import MongoSessions
from app.bff.sessions.session import Session, session_ref
from tests.bff.harness import CLIENT_ID, CLIENT_SECRET, FETCH_HEADERS, Browser
from tests.bff.subprocesses import (
    APPLICATION,
    AppProcess,
    app_settings,
    free_ports,
    running_process,
    wait_until,
)

COOKIE = "bff"
HOUR = 3600
POOL = {"max_connections": 300, "max_connections_per_session": 300}


def cluster_settings(mongod: Mongod, *, api: str, **changed: Any) -> dict[str, Any]:
    """Settings of a cluster with a database of its own, which forwards what lies under /api to `api`."""
    return app_settings(
        BFF_SESSION_STORE=f"{mongod.uri}/cluster-{secrets.token_hex(4)}",
        # The whole pool for a session: how many requests of one get 429 is the subject of test_shares.py.
        BFF_HTTP_CLIENTS=json.dumps({"apiClient": {"base_url": api, "token": "user", **POOL}}),
        BFF_REMOTE_APIS='[{"path": "/api", "client": "apiClient"}]',
        **changed,
    )


class StoredSession:
    """The session of a browser as it lies in MongoDB; the test does to it what otherwise only time does."""

    def __init__(self, mongo: Any, vault: Vault, browser: Browser) -> None:
        self._mongo = mongo
        self._database = mongo.get_default_database()
        self._sessions = MongoSessions(mongo, vault)
        self._browser = browser

    @property
    def _ref(self) -> str:
        return session_ref(self._browser.cookie(COOKIE) or "")

    async def session(self) -> Session:
        session = await self._sessions.get(self._ref)
        assert session
        return session

    async def age_access_token(self) -> str:
        """Move its whole life into the past; return it, the token that must not be used any more."""
        session = await self.session()
        tokens = session.tokens
        past = {"received_at": tokens.received_at - HOUR, "expires_at": tokens.received_at - HOUR / 2}
        assert await self._sessions.save(replace(session, tokens=replace(tokens, **past)))
        return tokens.access_token

    async def leased_until(self) -> float:
        """When the lease ends, in seconds since the epoch."""
        record = await self._database.sessions.find_one({"_id": self._ref})
        return float(record["lease"]["until"].timestamp())

    async def end_lease(self) -> None:
        long_ago = datetime.fromtimestamp(0, UTC)
        await self._database.sessions.update_one({"_id": self._ref}, {"$set": {"lease.until": long_ago}})

    async def writes(self) -> int:
        """The number of attempts to write it, including those that failed to acquire the lease."""
        top = await self._mongo.admin.command("top")
        return int(top["totals"][f"{self._database.name}.sessions"]["writeLock"]["count"])

    async def has_counted(self, writes: int) -> None:
        """Wait until there have been so many."""

        async def enough() -> bool:
            return await self.writes() >= writes

        await wait_until(enough)


class Cluster:
    """The processes, and one browser that uses all of them.

    The first process is the one at BFF_BASE_URL: people sign in there. A cookie does not know ports,
    so it opens the same session at every other process.
    """

    def __init__(
        self, folder: Path, settings: dict[str, Any], browser: Browser, record: StoredSession
    ) -> None:
        self.processes: list[AppProcess] = []
        self.browser = browser
        self.record = record
        self._folder = folder
        self._settings = settings
        self._running = AsyncExitStack()

    async def start(self, count: int = 1) -> None:
        """Start so many processes more."""
        started = [await self._one_more() for _ in range(count)]
        for process in started:
            await process.answers("/readyz")

    async def stop(self) -> None:
        await self._running.aclose()

    def call(self, process: AppProcess, path: str = "/api/echo") -> asyncio.Task[httpx2.Response]:
        """What the browser asks of one process, under way."""
        return asyncio.create_task(self.browser.fetch(process.url + path))

    async def call_that_waits(self, process: AppProcess) -> asyncio.Task[httpx2.Response]:
        """The same, once the process has found that another one has the lease."""
        writes = await self.record.writes()
        call = self.call(process)
        await self.record.has_counted(writes + 1)
        return call

    async def _one_more(self) -> AppProcess:
        folder = self._folder / f"process-{len(self.processes)}"
        folder.mkdir()
        port = free_ports() if self.processes else self._settings["BFF_PORT"]
        settings = {**self._settings, "BFF_PORT": port}
        process = await self._running.enter_async_context(running_process(APPLICATION, folder, **settings))
        self.processes.append(process)
        return process


@asynccontextmanager
async def running_cluster(
    folder: Path, settings: dict[str, Any], *, count: int = 2, browser: type[Browser] = Browser
) -> AsyncIterator[Cluster]:
    person = browser(SimpleNamespace(base_url=settings["BFF_BASE_URL"]))  # type: ignore[arg-type]
    mongo = AsyncMongoClient(settings["BFF_SESSION_STORE"], tz_aware=True)
    vault = Vault([base64.b64decode(settings["BFF_ENCRYPTION_KEYS"])])
    cluster = Cluster(folder, settings, person, StoredSession(mongo, vault, person))
    try:
        await cluster.start(count)
        yield cluster
    finally:
        await cluster.stop()
        await person.http.aclose()
        await mongo.close()


@asynccontextmanager
async def cluster_with_alice(
    folder: Path, mongod: Mongod, provider: Provider, api: DemoApi, *, count: int = 2, **changed: Any
) -> AsyncIterator[Cluster]:
    """A cluster with our own provider, where alice has signed in."""
    settings = cluster_settings(mongod, api=api.base_url, BFF_ISSUER=provider.issuer, **changed)
    callback = f"{settings['BFF_BASE_URL']}/bff/callback"
    provider.clients[CLIENT_ID] = Client(CLIENT_ID, CLIENT_SECRET, (callback,))
    async with running_cluster(folder, settings, count=count) as cluster:
        await cluster.browser.login()
        yield cluster


class ParallelRequests:
    """All the tabs of the browser at once, spread over the processes."""

    def __init__(self, cluster: Cluster, http: aiohttp.ClientSession) -> None:
        self._cluster = cluster
        self._http = http

    async def calls(self, count: int, path: str = "/api/echo") -> Counter[int]:
        """How many of so many requests were answered with which status."""
        processes = self._cluster.processes
        urls = [processes[number % len(processes)].url + path for number in range(count)]
        return Counter(await asyncio.gather(*map(self._status, urls)))

    async def _status(self, url: str) -> int:
        async with self._http.get(url) as response:
            await response.read()
            return response.status


@asynccontextmanager
async def parallel_requests(cluster: Cluster) -> AsyncIterator[ParallelRequests]:
    headers = {**FETCH_HEADERS, "X-CSRF": "1", "Cookie": f"{COOKIE}={cluster.browser.cookie(COOKIE)}"}
    unlimited = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=unlimited) as http:
        yield ParallelRequests(cluster, http)
