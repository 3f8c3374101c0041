"""Several processes of the operating system: one refresh among all of them, whichever of them dies when."""

from __future__ import annotations

import asyncio
import signal
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


async def asks_the_provider(
    cluster: Cluster, process: AppProcess, provider: Provider
) -> asyncio.Task[httpx2.Response]:
    """A request to a process that has taken the lease for it, and asked for new tokens."""
    call = cluster.call(process)
    await wait_until(lambda: asyncio.sleep(0, refreshes(provider)))
    return call


async def test_each_time_the_token_has_expired_300_requests_to_both_cause_one_refresh_and_all_succeed(
    cluster: Cluster, provider: Provider, api: DemoApi
):
    async with parallel_requests(cluster) as everybody:
        for round_ in range(1, ROUNDS + 1):
            api.rejects.add(await cluster.record.age_access_token())
            writes = await cluster.record.writes()
            held = provider.holds_answer["token"] = asyncio.Event()
            calls = asyncio.create_task(everybody.calls(300))
            await cluster.record.has_seen(writes + 2)  # one has the lease, the other has seen that
            held.set()

            assert await calls == {200: 300}
            assert refreshes(provider) == round_
        assert api.counts["echo"] == 300 * ROUNDS  # nobody had to try again, nobody used an old token
        assert await everybody.calls(2, "/bff/user") == {200: 2}


@pytest.mark.parametrize("provider_timeout_seconds", [1])  # so the lease is over soon
async def test_a_process_killed_before_the_provider_refreshes_is_succeeded_when_its_lease_ends(
    cluster: Cluster, provider: Provider
):
    survivor, victim = cluster.processes
    await cluster.record.age_access_token()
    provider.holds["token"] = asyncio.Event()
    lost = await asks_the_provider(cluster, victim, provider)
    waiting = await cluster.call_that_waits(survivor)
    lease_end = await cluster.record.leased_until()

    await victim.stops(signal.SIGKILL)
    del provider.holds["token"]  # it was never set: what the dead process has asked is never processed

    assert (await waiting).status_code == 200
    assert (await cluster.record.session()).tokens.received_at >= lease_end
    assert refreshes(provider) == 2
    with pytest.raises(httpx2.TransportError):
        await lost


async def left_waiting(cluster: Cluster, provider: Provider) -> asyncio.Task[httpx2.Response]:
    """A request that waits for a process which has died: refreshed by the provider, but not answered."""
    survivor, victim = cluster.processes
    await cluster.record.age_access_token()
    provider.holds_answer["token"] = asyncio.Event()
    lost = await asks_the_provider(cluster, victim, provider)
    waiting = await cluster.call_that_waits(survivor)
    await victim.stops(signal.SIGKILL)
    del provider.holds_answer["token"]  # it was never set: the dead process never gets its answer
    with pytest.raises(httpx2.TransportError):
        await lost
    return waiting


async def test_a_process_killed_after_the_provider_has_refreshed_costs_nothing_if_refresh_tokens_stay(
    cluster: Cluster, provider: Provider
):
    provider.rotates = False
    waiting = await left_waiting(cluster, provider)
    await cluster.record.end_lease()

    assert (await waiting).status_code == 200
    assert refreshes(provider) == 2


async def test_a_rotated_refresh_token_that_died_with_its_process_costs_one_sign_in(
    cluster: Cluster, provider: Provider
):
    waiting = await left_waiting(cluster, provider)
    await cluster.record.end_lease()

    answer = await waiting
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")
    await cluster.browser.login()
    assert (await cluster.call(cluster.processes[0])).status_code == 200


@pytest.mark.parametrize("tab", ["stays open", "is closed"])
async def test_a_process_that_is_stopped_saves_what_it_gets_for_the_others(
    cluster: Cluster, provider: Provider, api: DemoApi, tab: str
):
    staying, leaving = cluster.processes
    api.rejects.add(await cluster.record.age_access_token())
    held = provider.holds_answer["token"] = asyncio.Event()
    in_flight_requests = await asks_the_provider(cluster, leaving, provider)
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
