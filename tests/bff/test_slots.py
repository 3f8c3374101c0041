"""Event streams and WebSockets: how many one session may have open, and all together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.errors import Overloaded, TooManyRequests
from app.bff.handlers.socket import SocketHandler
from app.bff.slots import Slots
from tests.bff.event_streams import listening
from tests.bff.harness import Browser, Clock, RunningApp, new_browser, running_app, wait_until
from tests.bff.websocket_clients import no_requests_in_flight, open_websocket, refused_handshake

TOTAL, EACH = 8, 3
KINDS = ["/bff/events", "/sockets/mine", "/api/socket"]


class Mine(SocketHandler):
    pass


class Public(SocketHandler):
    wants_session = False


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    limits: dict[str, Any] = {
        f"max_{kind}{suffix}": limit
        for kind in ("event_streams", "sockets")
        for suffix, limit in (("", TOTAL), ("_per_session", EACH))
    }
    async with running_app(provider, api, clock=clock, **limits) as app:
        app.tornado.add_handlers(".*", [("/sockets/mine", Mine), ("/sockets/public", Public)])
        yield app


def opened(browser: Browser, path: str) -> Any:
    return listening(browser) if path == "/bff/events" else open_websocket(browser, path)


async def refused(browser: Browser, path: str) -> tuple[int, str, str]:
    """Status, code and `Retry-After` of one more."""
    async with asyncio.timeout(10):  # a stream would not end
        one_more = browser.fetch(path) if path == "/bff/events" else refused_handshake(browser, path)
        response = await one_more
    return response.status_code, response.json()["code"], response.headers["Retry-After"]


@pytest.mark.parametrize("path", KINDS)
async def test_a_session_opens_so_many_and_no_more_until_one_is_closed(
    path: str, app: RunningApp, api: DemoApi, browser: Browser
):
    await browser.login("alice")
    async with AsyncExitStack() as stack:
        for _ in range(EACH):
            await stack.enter_async_context(opened(browser, path))
        api.last_request = None

        assert await refused(browser, path) == (429, "too_many_requests", "30")
        assert api.last_request is None  # the API was not called
        async with new_browser(app) as other:
            await other.login("bob")
            async with opened(other, path):
                pass
    await no_requests_in_flight(app)

    async with opened(browser, path):
        pass


@pytest.mark.parametrize("path", KINDS)
async def test_all_sessions_together_open_so_many(path: str, app: RunningApp):
    async with AsyncExitStack() as stack:
        for number in range(TOTAL):
            if number % EACH == 0:
                browser = await stack.enter_async_context(new_browser(app))
                await browser.login("alice")
            await stack.enter_async_context(opened(browser, path))

        assert await refused(browser, path) == (503, "overloaded", "30")


async def test_browsers_without_a_session_have_a_quarter_of_the_sockets_per_address(
    app: RunningApp, browser: Browser
):
    await browser.login("alice")
    async with AsyncExitStack() as stack, new_browser(app) as anonymous:
        for _ in range(TOTAL // 4):
            await stack.enter_async_context(open_websocket(anonymous, "/sockets/public"))

        assert (await refused(anonymous, "/sockets/public"))[0] == 429
        async with open_websocket(browser, "/sockets/public"):
            pass


@pytest.mark.parametrize("path", ["/sockets/mine", "/api/socket"])
async def test_a_handshake_that_fails_takes_no_slot(path: str, app: RunningApp, browser: Browser):
    await browser.login("alice")
    for _ in range(EACH):
        await refused_handshake(browser, path, **{"Sec-WebSocket-Key": None})
    await wait_until(lambda: not app.services.in_flight_requests)

    async with open_websocket(browser, path):
        pass


def test_slots_are_free_again_however_the_block_ends():
    slots = Slots(total=2, each=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), slots.take("a"):
            raise ZeroDivisionError
    with slots.take("a"), slots.take("b"), pytest.raises(TooManyRequests), slots.take("a"):
        pass
    with slots.take("a"), slots.take("b"), pytest.raises(Overloaded), slots.take("c"):
        pass


def test_a_key_that_has_no_slot_is_forgotten():
    slots = Slots(total=2, each=1)
    with slots.take("a"):
        pass

    assert not slots._taken
