"""Back-channel logout by an independent provider: the certified npm package `oidc-provider`."""

from __future__ import annotations

import time

import pytest

from tests.bff.harness import Clock
from tests.bff.test_certified_provider import a_person

PATIENCE_SECONDS = 2.5  # that is how long it waits for our answer
BY_SID = {"backchannel_logout_session_required": True}


@pytest.mark.parametrize("registered", [BY_SID, {}], ids=["by its session", "by its user"])
async def test_who_signs_out_there_is_signed_out_here(clock: Clock, registered: dict[str, bool]):
    async with a_person(clock, registered=registered) as (alice, certified):
        await alice.signs_in()
        refresh_token = await alice.refresh_token()
        assert await certified.is_active(refresh_token)
        await alice.signs_out_there(certified.issuer)

        assert await certified.notifications() == ["success"]
        assert (await alice.fetch("/bff/user")).status_code == 401
        assert not await certified.is_active(refresh_token)


async def test_it_is_answered_before_its_patience_ends(clock: Clock):
    async with a_person(clock) as (alice, certified):
        await alice.signs_in()
        began = time.monotonic()
        await alice.signs_out_there(certified.issuer)

        assert time.monotonic() - began < PATIENCE_SECONDS


async def test_who_has_signed_out_here_first_is_no_error(clock: Clock):
    async with a_person(clock, registered=BY_SID) as (alice, certified):
        await alice.signs_in()
        leaving = await alice.logout()
        await alice.get(await alice.passes_the_provider(leaving.headers["Location"]))

        assert await certified.notifications() == ["success"]
