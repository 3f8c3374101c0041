"""A refresh token that outlives its session dies in the end, whatever was down when somebody signed out."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Failure, Provider
from tests.bff.fleet import Fleet, alices_fleet
from tests.bff.processes import until


@pytest.fixture
async def fleet(tmp_path: Path, mongod: Mongod, provider: Provider, api: DemoApi) -> AsyncIterator[Fleet]:
    """One process, so that nobody else can do its work."""
    async with alices_fleet(tmp_path, mongod, provider, api, count=1) as fleet:
        yield fleet


async def test_the_next_process_revokes_what_a_killed_one_could_not_because_the_provider_was_down(
    fleet: Fleet, provider: Provider
):
    refresh_token = (await fleet.record.session()).tokens.refresh_token or ""
    provider.fails["revoke"] = Failure(503)
    leaving = await fleet.browser.logout()
    assert leaving.headers["Location"].startswith(provider.issuer)
    assert (await fleet.browser.fetch("/bff/user")).status_code == 401

    await fleet.processes[0].stops(signal.SIGKILL)
    assert provider.is_active(refresh_token)
    await fleet.start()
    provider.fails.clear()

    await until(lambda: asyncio.sleep(0, not provider.is_active(refresh_token)))
