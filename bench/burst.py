"""A thousand requests at once on one session, whose access token has just expired; two processes."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles

from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Client, Provider
from bench.figures import Burst, Bursts
from bench.wire import Connection, connections, head, status
from tests.bff.cluster import COOKIE, Cluster, cluster_settings, running_cluster
from tests.bff.harness import CLIENT_ID, CLIENT_SECRET

REQUESTS = 1000
_PROCESSES = 2


async def bursts(mongod: Mongod, *, api: str, path: str, rounds: int) -> Bursts:
    """In each round one burst with a token that is good, for comparison, and one with an expired one."""
    async with _provider() as provider, _cluster(mongod, provider, api) as cluster:
        good, expired, refreshes = [], [], []
        for _ in range(rounds):
            good.append(await _burst(cluster, path))
            await cluster.record.age_access_token()
            before = _refreshes(provider)
            expired.append(await _burst(cluster, path))
            refreshes.append(_refreshes(provider) - before)
    return Bursts(REQUESTS, _PROCESSES, refreshes, expired, good)


def _refreshes(provider: Provider) -> int:
    return provider.counts["token:refresh_token"]


@asynccontextmanager
async def _provider() -> AsyncIterator[Provider]:
    provider = Provider([])
    await provider.start()
    yield provider
    await provider.stop()


@asynccontextmanager
async def _cluster(mongod: Mongod, provider: Provider, api: str) -> AsyncIterator[Cluster]:
    """The processes, where alice has signed in. Each has an address of its own, so both get their share."""
    settings = cluster_settings(mongod, api=api, BFF_ISSUER=provider.issuer)
    callback = f"{settings['BFF_BASE_URL']}/bff/callback"
    provider.clients[CLIENT_ID] = Client(CLIENT_ID, CLIENT_SECRET, (callback,))
    with tempfile.TemporaryDirectory() as folder:
        async with running_cluster(Path(folder), settings, count=_PROCESSES) as cluster:
            await cluster.browser.login()
            yield cluster


async def _burst(cluster: Cluster, path: str) -> Burst:
    ports = [cluster.processes[number % _PROCESSES].port for number in range(REQUESTS)]
    request = head("GET", path, cluster.browser.cookie(COOKIE) or "")
    async with connections(*ports) as opened:
        began = time.monotonic()
        answers = await asyncio.gather(*(_answer(connection, request) for connection in opened))
    statuses = Counter(str(code) for code, _ in answers)
    milliseconds = [(at - began) * 1000 for _, at in answers]
    return Burst(dict(statuses), p50_ms=median(milliseconds), p99_ms=quantiles(milliseconds, n=100)[-1])


async def _answer(connection: Connection, request: bytes) -> tuple[int, float]:
    reader, writer = connection
    writer.write(request)
    return await status(reader), time.monotonic()
