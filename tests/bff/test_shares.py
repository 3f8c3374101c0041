"""A session's share of an API's connections: one browser does not occupy all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.bff.clients.api import pool_of
from app.bff.dev.provider import Provider
from app.bff.sessions.session import Session
from app.bff.settings.apis import HttpClientSettings
from tests.bff.harness import Clock, RunningApp, new_browser, running_app
from tests.bff.streaming_api import CHUNKED, StreamingApi, Wire, answer, of_length, request, wire_of

OK = answer("200 OK", "Connection: close", body=b"ok")
CONNECTIONS, SHARE = 8, 2
A_LOT = 100_000_000
UNREAD = [answer("200 OK", of_length(A_LOT), body=None), bytes(20_000_000)]

User = tuple[str, Session]  # the header with the cookie, and the session that it opens


@pytest.fixture
async def api() -> AsyncIterator[StreamingApi]:
    api = StreamingApi()
    await api.start()
    yield api
    await api.stop()


@pytest.fixture
async def app(provider: Provider, api: StreamingApi, clock: Clock) -> AsyncIterator[RunningApp]:
    client = {"base_url": api.base_url, "max_connections": CONNECTIONS}
    clients = {"apiClient": client, "users": {**client, "token": "user"}}
    apis = [{"path": "/api", "client": "apiClient"}, {"path": "/users", "client": "users"}]
    async with running_app(provider, api, clock=clock, http_clients=clients, remote_apis=apis) as app:  # type: ignore[arg-type]
        yield app


async def user(app: RunningApp, name: str) -> User:
    async with new_browser(app) as browser:
        await browser.login(name)
        session = await app.session_of(browser)
        assert session
        return f"Cookie: bff={browser.cookie('bff')}", session


@pytest.fixture
async def alice(app: RunningApp) -> User:
    return await user(app, "alice")


@pytest.fixture
async def bob(app: RunningApp) -> User:
    return await user(app, "bob")


async def opened(stack: AsyncExitStack, app: RunningApp, sent: bytes) -> Wire:
    wire = await stack.enter_async_context(wire_of(app))
    await wire.send(sent)
    return wire


async def answered(app: RunningApp, api: StreamingApi, sent: bytes) -> bool:
    """Whether the API has answered a request at once."""
    async with wire_of(app) as browser:
        await browser.send(sent)
        call = await api.call()
        await call.head()
        await call.send(OK)
        return await browser.answer() == (200, b"ok")


@pytest.mark.parametrize(
    ("sent", "answers", "anonymous"),
    [
        pytest.param(("GET",), UNREAD, False, id="answers are left unread"),
        pytest.param(("GET",), UNREAD, True, id="answers are left unread, without a session"),
        pytest.param(("GET",), [answer("200 OK", CHUNKED, body=None)], False, id="answers do not end"),
        pytest.param(("GET",), [], False, id="answers do not begin"),
        pytest.param(("POST", of_length(A_LOT // 100)), [], False, id="uploads stand still"),
        pytest.param(("POST", CHUNKED), [], False, id="uploads in chunks stand still"),
    ],
)
async def test_one_browser_has_its_share_and_another_is_answered_while(
    sent: tuple[str, str],
    answers: list[bytes],
    anonymous: bool,
    app: RunningApp,
    api: StreamingApi,
    alice,
    bob,
):
    method, *headers = sent
    hers = [] if anonymous else [alice[0]]
    occupying = request(method, "/api/x", *hers, *headers, body=b"1\r\na\r\n" if headers else b"")
    async with AsyncExitStack() as stack:
        for _ in range(SHARE):
            await opened(stack, app, occupying)
            call = await api.call()
            await call.head()
            for part in answers:
                pushing = asyncio.create_task(call.send(part))
                stack.callback(pushing.cancel)
        further = await opened(stack, app, request("GET", "/api/x", *hers))
        head = await further.head()

        assert (head.status, head.all("Retry-After")) == (429, ["1"])
        assert b'"too_many_requests"' in await further.body_of(head)
        assert await answered(app, api, request("GET", "/api/x", bob[0]))

    assert await answered(app, api, request("GET", "/api/x", *hers))  # the share is free again


async def test_a_user_who_signs_in_again_and_again_has_half_of_the_connections(
    app: RunningApp, api: StreamingApi, alice: User, bob: User
):
    sessions = [alice, *[await user(app, "alice") for _ in range(2)]]
    async with AsyncExitStack() as stack:
        for cookie, _ in sessions[:2]:
            for _ in range(SHARE):
                await opened(stack, app, request("GET", "/api/x", cookie))
                await api.call()
        further = await opened(stack, app, request("GET", "/api/x", sessions[2][0]))

        assert (await further.head()).status == 429
        assert await answered(app, api, request("GET", "/api/x", bob[0]))
    assert await answered(app, api, request("GET", "/api/x", sessions[2][0]))


async def test_a_request_beyond_the_share_waits_for_a_moment(app: RunningApp, api: StreamingApi, alice: User):
    async with AsyncExitStack() as stack:
        wires = [await opened(stack, app, request("GET", "/api/x", alice[0])) for _ in range(SHARE + 1)]
        for _ in wires:  # two connections, and a third one when the first is closed
            call = await api.call()
            await call.head()
            await call.send(OK)

        assert [await wire.answer() for wire in wires] == [(200, b"ok")] * (SHARE + 1)


async def test_a_retry_after_401_has_one_connection_at_a_time(
    app: RunningApp, api: StreamingApi, alice: User, clock: Clock
):
    clock.advance(60)
    async with AsyncExitStack() as stack:
        await opened(stack, app, request("GET", "/users/x", alice[0]))
        await api.call()  # which leaves one connection of the share
        wire = await opened(stack, app, request("GET", "/users/x", alice[0]))
        for said in (answer("401 Unauthorized", "Connection: close"), OK):
            call = await api.call()
            await call.head()
            await call.send(said)

        assert await wire.answer() == (200, b"ok")


async def test_clients_of_a_handler_wait_for_their_session_s_share(
    app: RunningApp, api: StreamingApi, alice: User, bob: User
):
    async def status(session: Session | None) -> int:
        async with app.services.clients.create("apiClient", session).get("x") as response:
            return int(response.status)

    hers = [asyncio.create_task(status(alice[1])) for _ in range(SHARE + 1)]
    held = [await api.call() for _ in range(SHARE)]
    nobodys = [None] * (SHARE + 1)  # the application's own calls have no share
    others = [asyncio.create_task(status(session)) for session in (bob[1], *nobodys)]
    for _ in others:
        await (await api.call()).send(OK)
    await asyncio.gather(*others)

    assert not any(task.done() for task in hers)
    await asyncio.gather(*(call.send(OK) for call in held))
    await (await api.call()).send(OK)
    assert await asyncio.gather(*hers) == [200] * (SHARE + 1)


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({}, (25, 50)),
        ({"max_connections": 10}, (2, 5)),
        ({"max_connections": 3}, (1, 1)),
        ({"max_connections": 1}, (1, 1)),
        ({"max_connections_per_session": 60}, (60, 60)),
        ({"max_connections_per_session": 10}, (10, 50)),
    ],
)
async def test_a_session_s_share_is_a_quarter_and_its_user_s_is_half(
    settings: dict[str, Any], sizes: tuple[int, int]
):
    pool = pool_of(HttpClientSettings(base_url="http://127.0.0.1/", **settings))

    assert pool.share_sizes == sizes
    await pool.http.close()
