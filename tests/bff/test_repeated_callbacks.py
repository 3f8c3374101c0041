"""A callback that arrives twice (a double click, a proxy that repeats requests) redeems its code once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import httpx2
import pytest

from app.bff.backoff import repeat_poll_seconds
from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Client, Provider
from app.bff.errors import LoginFailed
from app.bff.handlers.repeated_callbacks import REPEAT_SECONDS, session_id_of_first
from tests.bff.harness import (
    CLIENT_ID,
    CLIENT_SECRET,
    NAVIGATION_HEADERS,
    Browser,
    Clock,
    RunningApp,
    new_browser,
    response_cookies,
    running_app,
    wait_until,
)

BASE_URL = "http://localhost:1"  # where a load balancer would stand
OTHER_KEY, KEY = b"1" * 32, b"0" * 32


async def sent_again(browser: Browser) -> tuple[str, str]:
    """The path of a callback, and the cookie with which a proxy would repeat it."""
    link = urlsplit(await browser.choose(await browser.start_login("/account")))
    [name] = (name for name in browser.cookie_names() if "bff-login" in name)
    return f"{link.path}?{link.query}", f"{name}={browser.cookie(name)}"


async def callback(app: RunningApp, link: str, cookie: str) -> httpx2.Response:
    async with new_browser(app) as browser:
        return await browser.http.get(link, headers={**NAVIGATION_HEADERS, "Cookie": cookie})


async def callbacks_at_once(
    nodes: list[RunningApp], provider: Provider, link: str, cookie: str
) -> list[httpx2.Response]:
    """The answers to two callbacks, both of which are under way before the provider answers."""
    provider.holds["token"] = asyncio.Event()
    calls = [asyncio.create_task(callback(node, link, cookie)) for node in nodes]
    in_flight = [node.services.in_flight_requests for node in {id(node): node for node in nodes}.values()]
    await wait_until(lambda: provider.counts["token"] > 0 and sum(map(len, in_flight)) == len(nodes))
    provider.holds["token"].set()
    return await asyncio.gather(*calls)


@pytest.fixture
async def nodes(
    provider: Provider, api: DemoApi, mongod: Mongod, clock: Clock
) -> AsyncIterator[list[RunningApp]]:
    """Two processes with one store. Of their keys another one is the first: a rotation is under way."""
    shared = {"session_store": f"{mongod.uri}/repeated-callbacks", "base_url": BASE_URL}
    rings = [[KEY, OTHER_KEY], [OTHER_KEY, KEY]]
    async with AsyncExitStack() as stack:
        start = stack.enter_async_context
        apps = [running_app(provider, api, clock=clock, encryption_keys=ring, **shared) for ring in rings]
        nodes = [await start(app) for app in apps]
        provider.clients[CLIENT_ID] = Client(CLIENT_ID, CLIENT_SECRET, (f"{BASE_URL}/bff/callback",))
        yield nodes


def session_ids(answers: list[httpx2.Response]) -> set[str]:
    return {response_cookies(answer)["bff"].value for answer in answers}


async def test_a_double_click_is_one_login_whose_session_stays(
    app: RunningApp, browser: Browser, provider: Provider, clock: Clock
):
    link, cookie = await sent_again(browser)
    answers = await callbacks_at_once([app, app], provider, link, cookie)
    [session_id] = session_ids(answers)
    clock.advance(301)
    browser.http.cookies.set("bff", session_id, domain="localhost.local", path="/")
    refreshed = await browser.fetch("/api/echo")

    assert [answer.status_code for answer in answers] == [200, 200]
    assert provider.counts["token:authorization_code"] == 1
    assert refreshed.status_code == 200  # a code that is used twice would have ended the grant


async def test_a_signed_response_that_arrives_twice_is_one_login(
    provider: Provider, api: DemoApi, clock: Clock
):
    async with (
        running_app(provider, api, clock=clock, response_mode="jwt") as app,
        new_browser(app) as browser,
    ):
        link, cookie = await sent_again(browser)
        answers = await callbacks_at_once([app, app], provider, link, cookie)

    assert [answer.status_code for answer in answers] == [200, 200]
    assert (len(session_ids(answers)), provider.counts["token"]) == (1, 1)


async def test_two_processes_redeem_a_code_once_and_answer_alike(nodes: list[RunningApp], provider: Provider):
    async with new_browser(nodes[0]) as browser:
        link, cookie = await sent_again(browser)
    answers = await callbacks_at_once(nodes, provider, link, cookie)

    assert [answer.status_code for answer in answers] == [200, 200]
    assert len(session_ids(answers)) == 1
    assert provider.counts["token:authorization_code"] == 1


async def test_where_the_first_one_fails_the_other_is_told_so_and_redeems_nothing(
    nodes: list[RunningApp], provider: Provider
):
    provider.overrides["id_token"] = {"aud": "another-client"}
    async with new_browser(nodes[0]) as browser:
        link, cookie = await sent_again(browser)
    answers = await callbacks_at_once(nodes, provider, link, cookie)

    assert [answer.status_code for answer in answers] == [400, 400]
    assert all('href="/bff/login' in answer.text for answer in answers)
    assert provider.counts["token:authorization_code"] == 1


async def test_a_refusal_is_told_as_often_as_it_arrives(
    app: RunningApp, browser: Browser, provider: Provider
):
    provider.overrides["callback"] = {"code": None, "error": "access_denied"}
    link, cookie = await sent_again(browser)
    pages = [(await callback(app, link, cookie)).text for _ in range(2)]

    assert all("Signing in was cancelled." in page for page in pages)


async def test_an_answer_that_was_lost_is_given_again_for_half_a_minute(
    app: RunningApp, browser: Browser, provider: Provider, clock: Clock
):
    link, cookie = await sent_again(browser)
    answers = [await callback(app, link, cookie)]
    clock.advance(REPEAT_SECONDS - 1)
    answers.append(await callback(app, link, cookie))
    clock.advance(1)
    late = await callback(app, link, cookie)

    assert len(session_ids(answers)) == 1
    assert (late.status_code, "bff" in response_cookies(late)) == (400, False)
    assert provider.counts["token"] == 1


async def test_the_session_is_not_found_with_another_code(app: RunningApp, browser: Browser):
    link, cookie = await sent_again(browser)
    answer = await callback(app, link, cookie)
    [session_id] = session_ids([answer])
    [other_id] = app.services.vault.ids("the verifier another-code")

    assert session_id != other_id
    with pytest.raises(LoginFailed):
        await session_id_of_first(app.services, "claim", [other_id], pauses=[0, 0])


async def test_a_process_that_died_is_not_waited_for_longer_than_a_browser_waits():
    assert 15 <= sum(repeat_poll_seconds()) < 16
