"""Endpoints that move: noticed at the first request that they do not process, which goes to the new place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.bff.backoff import METADATA_BURST, METADATA_COOLDOWN_SECONDS
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from app.bff.errors import ProviderUnavailable
from app.bff.sessions.session import Reason
from tests.bff.harness import Browser, Clock, RunningApp, new_browser, query_params, running_app, wait_until

HOUR = 3600


@pytest.fixture
async def old(clock: Clock) -> AsyncIterator[Provider]:
    """The old host, which knows no client and no code; a test tells how it answers."""
    old = Provider([], clock=clock)
    await old.start()
    yield old
    await old.stop()


async def fetched_while_at(app: RunningApp, provider: Provider, **endpoints: str) -> None:
    """Have the application fetch metadata with these endpoints, which then move to where they are."""
    provider.overrides["metadata"] = dict(endpoints)
    await app.services.provider.metadata()
    provider.overrides.clear()


GONE = [
    pytest.param(Failure(404, b"<html>Not found</html>"), id="404"),
    pytest.param(Failure(404, b'{"error": "Not Found"}'), id="404 in JSON"),
    pytest.param(Failure(405), id="405"),
    pytest.param(Failure(410), id="410"),
    pytest.param(Failure(421), id="421"),
    pytest.param(Failure(301, headers={"Location": "https://elsewhere.test/token"}), id="301"),
    pytest.param(Failure(302, headers={"Location": "/maintenance"}), id="302"),
    pytest.param(Failure(307, headers={"Location": "https://elsewhere.test/token"}), id="307"),
    pytest.param(Failure(308, headers={"Location": "https://elsewhere.test/token"}), id="308"),
]
UNREACHABLE = [
    pytest.param("http://127.0.0.1:1/token", id="nobody listens"),
    pytest.param("http://old.invalid/token", id="no name in DNS"),
]


@pytest.mark.parametrize("answer", GONE)
async def test_a_login_goes_on_where_the_token_endpoint_answers(
    app: RunningApp, browser: Browser, provider: Provider, old: Provider, answer: Failure
):
    await fetched_while_at(app, provider, token_endpoint=f"{old.issuer}/token")
    old.fails["token"] = answer

    await browser.login("alice")
    assert (old.counts["token"], provider.counts["metadata"]) == (1, 2)


@pytest.mark.parametrize("url", UNREACHABLE)
async def test_a_login_goes_on_where_the_token_endpoint_is_unreachable(
    app: RunningApp, browser: Browser, provider: Provider, url: str
):
    await fetched_while_at(app, provider, token_endpoint=url)

    await browser.login("alice")


@pytest.mark.parametrize(
    ("member", "path"),
    [("token_endpoint", "token"), ("userinfo_endpoint", "userinfo"), ("jwks_uri", "jwks")],
)
async def test_a_login_goes_on_with_each_endpoint_that_has_moved(
    app: RunningApp, browser: Browser, provider: Provider, old: Provider, member: str, path: str
):
    await fetched_while_at(app, provider, **{member: f"{old.issuer}/{path}"})
    old.fails[path] = Failure(404)

    await browser.login("alice")
    assert (old.counts[path], provider.counts[path]) == (1, 1)


async def test_a_pushed_request_goes_where_the_endpoint_is_by_now(
    provider: Provider, api: DemoApi, clock: Clock, old: Provider
):
    old.fails["par"] = Failure(404)
    async with running_app(provider, api, clock=clock, par=True) as app, new_browser(app) as browser:
        await fetched_while_at(app, provider, pushed_authorization_request_endpoint=f"{old.issuer}/par")

        assert "request_uri" in query_params(await browser.start_login())


async def test_a_refresh_goes_where_the_endpoint_is_by_now(
    app: RunningApp, browser: Browser, provider: Provider, old: Provider, clock: Clock
):
    await browser.login("alice")
    await move_token_endpoint(app, provider, old, clock)
    old.fails["token"] = Failure(404)

    assert (await browser.fetch("/api/echo")).status_code == 200
    assert (old.counts["token"], provider.counts["token:refresh_token"]) == (1, 1)


async def move_token_endpoint(app: RunningApp, provider: Provider, old: Provider, clock: Clock) -> None:
    """Metadata names the old host, and the access tokens are over."""
    clock.advance(HOUR / 2)
    provider.overrides["metadata"] = {"token_endpoint": f"{old.issuer}/token"}
    await app.services.provider.moved(f"{provider.issuer}/token")
    provider.overrides.clear()


async def test_a_revocation_goes_where_the_endpoint_is_by_now(
    app: RunningApp, browser: Browser, provider: Provider, old: Provider
):
    await fetched_while_at(app, provider, revocation_endpoint=f"{old.issuer}/revoke")
    old.fails["revoke"] = Failure(410)
    await browser.login("alice")
    session = await app.session_of(browser)
    assert session
    await app.services.tokens.end(session.ref, Reason.OPERATOR)

    assert (old.counts["revoke"], provider.counts["revoke"]) == (1, 1)


async def test_many_requests_at_once_cause_one_fetch_and_all_go_on(
    app: RunningApp, provider: Provider, old: Provider
):
    await fetched_while_at(app, provider, userinfo_endpoint=f"{old.issuer}/userinfo")

    moved = app.services.provider.moved
    found = await asyncio.gather(*(moved(f"{old.issuer}/userinfo") for _ in range(50)))

    assert set(found) == {f"{provider.issuer}/userinfo"}
    assert provider.counts["metadata"] == 2


# Where requests may have been processed, they are not repeated


async def test_the_breaker_of_an_endpoint_that_fails_gives_way_to_a_new_endpoint(
    app: RunningApp, browser: Browser, provider: Provider, old: Provider, clock: Clock
):
    await browser.login("alice")
    old.fails["token"] = Failure(503)
    await move_token_endpoint(app, provider, old, clock)
    provider.fails["metadata"] = Failure(503)  # as long as the old host fails, too
    for _ in range(4):
        assert (await browser.fetch("/api/echo")).json()["code"] == "provider_unavailable"
    provider.fails.clear()
    clock.advance(METADATA_COOLDOWN_SECONDS)
    fetches = provider.counts["metadata"]
    await browser.fetch("/api/echo")  # finds the breaker open, or half-open: metadata is fetched meanwhile
    await wait_until(lambda: provider.counts["metadata"] > fetches)
    await app.services.provider.moved(f"{old.issuer}/token")

    assert (await browser.fetch("/api/echo")).status_code == 200


async def test_an_endpoint_that_is_gone_for_good_causes_few_fetches(
    app: RunningApp, provider: Provider, clock: Clock
):
    url = (await app.services.provider.metadata()).token_endpoint
    for _ in range(100):
        assert await app.services.provider.moved(url) is None
    at_once = provider.counts["metadata"] - 1
    clock.advance(METADATA_COOLDOWN_SECONDS)
    await app.services.provider.moved(url)

    assert (at_once, provider.counts["metadata"] - 1) == (METADATA_BURST, METADATA_BURST + 1)


# The authorization endpoint, which only browsers call


async def test_a_second_attempt_of_a_browser_is_sent_to_where_the_login_page_is_by_now(
    app: RunningApp, browser: Browser, provider: Provider, old: Provider
):
    await fetched_while_at(app, provider, authorization_endpoint=f"{old.issuer}/dead")
    first = await browser.start_login()
    second = await browser.start_login()

    assert first.startswith(f"{old.issuer}/dead?")
    assert second.startswith(f"{provider.issuer}/authorize?")
    assert app.services.provider.login_page == f"{provider.issuer}/authorize"


async def test_a_first_attempt_fetches_nothing(app: RunningApp, provider: Provider):
    for _ in range(3):
        async with new_browser(app) as browser:
            await browser.start_login()

    assert provider.counts["metadata"] == 1


async def test_a_move_is_logged_by_the_names_of_the_endpoints(
    app: RunningApp, provider: Provider, caplog: pytest.LogCaptureFixture
):
    await fetched_while_at(app, provider, token_endpoint="http://old.invalid/token")
    await app.services.provider.moved("http://old.invalid/token")

    [record] = [each for each in caplog.records if each.msg == "provider endpoints have moved"]
    assert record.endpoints == ["token_endpoint"]  # type: ignore[attr-defined]


async def test_a_host_that_does_not_know_the_client_any_more_is_suspected(
    app: RunningApp, browser: Browser, provider: Provider, old: Provider
):
    await fetched_while_at(app, provider, token_endpoint=f"{old.issuer}/token")
    callback_url = await browser.choose(await browser.start_login())
    refused = await browser.get(callback_url)  # invalid_client: it may have processed the request
    await wait_until(lambda: provider.counts["metadata"] == 2)
    await browser.login("alice")

    assert (refused.status_code, old.counts["token"]) == (503, 1)


async def test_an_unknown_address_has_not_moved(app: RunningApp, provider: Provider):
    assert await app.services.provider.moved("https://elsewhere.test/token") is None


async def test_without_metadata_there_is_nowhere_to_go(app: RunningApp, provider: Provider):
    await provider.stop()

    with pytest.raises(ProviderUnavailable):
        await app.services.provider.moved(f"{provider.issuer}/token")
