"""A refresh token is revoked in the end, whatever was down at the logout."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Failure, Provider
from app.bff.paths import LOGOUT_CALLBACK_PATH
from tests.bff.cluster import Cluster, cluster_with_alice
from tests.bff.harness import query_params
from tests.bff.subprocesses import wait_until


@pytest.fixture
async def cluster(tmp_path: Path, mongod: Mongod, provider: Provider, api: DemoApi) -> AsyncIterator[Cluster]:
    """One process, so that no other can take over."""
    async with cluster_with_alice(tmp_path, mongod, provider, api, count=1) as cluster:
        yield cluster


async def test_the_next_process_revokes_a_token_that_a_killed_one_could_not_while_the_provider_was_down(
    cluster: Cluster, provider: Provider
):
    refresh_token = (await cluster.record.session()).tokens.refresh_token or ""
    provider.fails["revoke"] = Failure(503)
    leaving = await cluster.browser.logout()
    assert leaving.headers["Location"].startswith(provider.issuer)
    assert (await cluster.browser.fetch("/bff/user")).status_code == 401
    state = query_params(leaving.headers["Location"])["state"]
    await cluster.browser.get(f"{LOGOUT_CALLBACK_PATH}?state={state}")
    assert provider.counts["revoke"] == 1

    await cluster.processes[0].stops(signal.SIGKILL)
    assert provider.is_active(refresh_token)
    await cluster.start()
    provider.fails.clear()

    await wait_until(lambda: asyncio.sleep(0, not provider.is_active(refresh_token)))
