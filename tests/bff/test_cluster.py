"""Several operating system processes: one refresh among all of them, whichever is killed and when."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Provider
from tests.bff.cluster import Cluster, cluster_with_alice, parallel_requests
from tests.bff.subprocesses import AppProcess, is_listening, wait_until

ROUNDS = 20


@pytest.fixture
def provider_timeout_seconds() -> int:
    return 5


@pytest.fixture
async def cluster(
    tmp_path: Path, mongod: Mongod, provider: Provider, api: DemoApi, provider_timeout_seconds: int
) -> AsyncIterator[Cluster]:
    timeout = {"BFF_PROVIDER_TIMEOUT_SECONDS": provider_timeout_seconds}
    async with cluster_with_alice(tmp_path, mongod, provider, api, **timeout) as cluster:
        yield cluster


def refreshes(provider: Provider) -> int:
    return provider.counts["token:refresh_token"]


async def send_refresh(
    cluster: Cluster, process: AppProcess, provider: Provider
) -> asyncio.Task[httpx2.Response]:
    """A request to a process that has acquired the lease for it, and sent the refresh."""
    call = cluster.call(process)
    await wait_until(lambda: asyncio.sleep(0, refreshes(provider)))
    return call


async def test_each_time_the_token_has_expired_300_requests_to_both_cause_one_refresh_and_all_succeed(
    cluster: Cluster, provider: Provider, api: DemoApi
):
    async with parallel_requests(cluster) as clients:
        for round_ in range(1, ROUNDS + 1):
            api.rejects.add(await cluster.record.age_access_token())
            writes = await cluster.record.writes()
            held = provider.holds_answer["token"] = asyncio.Event()
            calls = asyncio.create_task(clients.calls(300))
            await cluster.record.has_counted(
                writes + 2
            )  # one has the lease, the other has failed to acquire it
            held.set()

            assert await calls == {200: 300}
            assert refreshes(provider) == round_
        assert api.counts["echo"] == 300 * ROUNDS  # no request was repeated, and none carried the old token
        assert await clients.calls(2, "/bff/user") == {200: 2}


async def test_the_lease_of_a_process_killed_before_the_provider_refreshes_makes_nobody_wait_until_it_expires(
    cluster: Cluster, provider: Provider
):
    survivor, victim = cluster.processes
    await cluster.record.age_access_token()
    provider.holds["token"] = asyncio.Event()
    lost = await send_refresh(cluster, victim, provider)
    waiting = await cluster.call_that_waits(survivor)
    lease_end = await cluster.record.leased_until()

    await victim.stops(signal.SIGKILL)
    del provider.holds["token"]  # never set: the provider never processes the request of the dead process
    told = await waiting
    assert time.time() < lease_end
    assert (told.status_code, told.json()["code"]) == (401, "provider_unavailable")
    assert int(told.headers["Retry-After"]) <= 5
    await cluster.record.end_lease()

    assert (await cluster.call(survivor)).status_code == 200
    assert refreshes(provider) == 2
    with pytest.raises(httpx2.TransportError):
        await lost


async def waiting_for_a_dead_process(cluster: Cluster, provider: Provider) -> asyncio.Task[httpx2.Response]:
    """A request that waits for a process killed after the provider's refresh and before its response."""
    survivor, victim = cluster.processes
    await cluster.record.age_access_token()
    provider.holds_answer["token"] = asyncio.Event()
    lost = await send_refresh(cluster, victim, provider)
    waiting = await cluster.call_that_waits(survivor)
    await victim.stops(signal.SIGKILL)
    del provider.holds_answer["token"]  # never set: the dead process never gets the response
    with pytest.raises(httpx2.TransportError):
        await lost
    return waiting


async def test_a_process_killed_after_the_providers_refresh_loses_nothing_without_rotation(
    cluster: Cluster, provider: Provider
):
    provider.rotates = False
    waiting = await waiting_for_a_dead_process(cluster, provider)
    await cluster.record.end_lease()

    assert (await waiting).status_code == 200
    assert refreshes(provider) == 2


async def test_a_rotated_refresh_token_lost_with_its_process_costs_one_login(
    cluster: Cluster, provider: Provider
):
    waiting = await waiting_for_a_dead_process(cluster, provider)
    await cluster.record.end_lease()

    answer = await waiting
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")
    await cluster.browser.login()
    assert (await cluster.call(cluster.processes[0])).status_code == 200


@pytest.mark.parametrize("tab", ["stays open", "is closed"])
async def test_a_terminating_process_saves_its_refresh_for_the_others(
    cluster: Cluster, provider: Provider, api: DemoApi, tab: str
):
    staying, leaving = cluster.processes
    api.rejects.add(await cluster.record.age_access_token())
    held = provider.holds_answer["token"] = asyncio.Event()
    in_flight_requests = await send_refresh(cluster, leaving, provider)
    if tab == "is closed":
        in_flight_requests.cancel()
    leaving.process.terminate()
    await wait_until(lambda: asyncio.sleep(0, not is_listening(leaving.port)))
    held.set()

    assert await leaving.exits() == 0
    if tab == "stays open":
        assert (await in_flight_requests).status_code == 200
    assert (await cluster.call(staying)).status_code == 200
    assert refreshes(provider) == 1
