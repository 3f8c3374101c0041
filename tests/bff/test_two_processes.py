"""Two processes and one store: one refresh per session among all of them, and nothing lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Failure, Provider
from app.bff.sessions.session import Session
from tests.bff.event_streams import listening
from tests.bff.harness import (
    Clock,
    RunningApp,
    new_browser,
    running_app,
    sign_in,
    user_tokens_of_another_process,
    wait_until,
)

LIFETIME = 300  # of the provider's access tokens, in seconds
MINUTE = 60  # longer than any lease


def refreshes(provider: Provider) -> int:
    return provider.counts["token:refresh_token"]


@pytest.fixture(params=["motor", "pymongo"])
async def nodes(
    request: pytest.FixtureRequest, provider: Provider, api: DemoApi, mongod: Mongod, clock: Clock
) -> AsyncIterator[list[RunningApp]]:
    """Two complete applications that share nothing but MongoDB and the provider."""
    store = {"session_store": f"{mongod.uri}/two-processes", "mongodb_driver": request.param}
    async with AsyncExitStack() as stack:
        start = stack.enter_async_context
        yield [await start(running_app(provider, api, clock=clock, **store)) for _ in range(2)]


async def test_each_time_the_token_has_expired_there_is_one_refresh_for_300_callers_of_both(
    nodes: list[RunningApp], provider: Provider, clock: Clock
):
    first = nodes[1]  # the one that the provider knows
    async with new_browser(first) as browser:
        session = await sign_in(first, browser)
        for round_ in range(1, 6):
            clock.advance(LIFETIME)
            calls = [nodes[number % 2].services.tokens.get(session) for number in range(300)]
            tokens = set(await asyncio.gather(*calls))

            assert (len(tokens), refreshes(provider)) == (1, round_)
            assert provider.is_active(tokens.pop())


async def test_requests_to_both_processes_all_succeed(
    nodes: list[RunningApp], provider: Provider, clock: Clock
):
    async with new_browser(nodes[1]) as browser, new_browser(nodes[0]) as same_person:
        await sign_in(nodes[1], browser)
        same_person.http.cookies = browser.http.cookies
        clock.advance(LIFETIME)
        calls = [(browser, same_person)[number % 2].fetch("/api/echo") for number in range(100)]
        statuses = {response.status_code for response in await asyncio.gather(*calls)}

    assert (statuses, refreshes(provider)) == ({200}, 1)


async def test_a_page_at_one_process_hears_of_claims_that_a_refresh_of_the_other_has_changed(
    nodes: list[RunningApp], provider: Provider, clock: Clock
):
    async with new_browser(nodes[1]) as browser, new_browser(nodes[0]) as same_person:
        await sign_in(nodes[1], browser)
        same_person.http.cookies = browser.http.cookies
        async with listening(same_person) as stream:
            provider.overrides["id_token"] = {"groups": []}
            clock.advance(LIFETIME)
            await browser.fetch("/api/echo")

            assert await stream.next() == ("session_changed", {})
        user = (await same_person.fetch("/bff/user?slide=false")).json()
    assert not [entry for entry in user if entry["type"] == "groups"]


# A process that holds the lease


async def test_while_another_process_refreshes_an_unexpired_token_is_returned_at_once(
    app: RunningApp, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME - 10)
    await app.services.sessions.lease(session.ref, owner="another", seconds=MINUTE)

    async with asyncio.timeout(5):
        assert await app.services.tokens.get(session) == session.tokens.access_token
    assert refreshes(provider) == 0


async def test_a_waiting_process_returns_what_the_other_has_written(
    app: RunningApp, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME)
    held = provider.holds_answer["token"] = asyncio.Event()
    theirs = asyncio.create_task(user_tokens_of_another_process(app, clock).get(session))
    await wait_until(lambda: refreshes(provider))
    ours = asyncio.create_task(app.services.tokens.get(session))
    held.set()

    assert await ours == await theirs
    assert refreshes(provider) == 1


async def test_the_lease_of_a_dead_process_passes_on_when_it_expires(
    app: RunningApp, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME)
    await app.services.sessions.lease(session.ref, owner="dead", seconds=MINUTE)
    ours = asyncio.create_task(app.services.tokens.get(session))
    await asyncio.sleep(0)
    clock.advance(MINUTE)

    assert provider.is_active(await ours)


async def test_a_failed_refresh_releases_the_lease(
    app: RunningApp, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME - 1)
    provider.fails["token"] = Failure(503)
    await user_tokens_of_another_process(app, clock).get(session)
    provider.fails.clear()

    clock.advance(1)
    async with asyncio.timeout(5):
        assert await app.services.tokens.get(session) != session.tokens.access_token
