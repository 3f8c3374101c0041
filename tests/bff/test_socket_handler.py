"""SocketHandler, which an application's own WebSockets extend: who may open one, and when it ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from aiohttp import WSMsgType

from app.bff.errors import StoreUnavailable
from app.bff.handlers.socket import SocketHandler
from app.bff.sessions.events import SessionEvents
from app.bff.sessions.memory import MemorySessions
from app.bff.sessions.session import Reason, Session
from tests.bff.harness import Browser, Clock, RunningApp, wait_until
from tests.bff.websocket_clients import (
    HANDSHAKE,
    close_code_and_reason,
    no_requests_in_flight,
    open_websocket,
    refused_handshake,
)

IDLE = 3600  # seconds until a session ends that is not used


class Ours(SocketHandler):
    """Answers `token` with the user's access token, and everything else with itself."""

    look_again_seconds = 0.001
    max_message_size = 1000
    looks = 0

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(await self.get_user_access_token() if message == "token" else message)

    async def session_is_over(self) -> bool:
        is_over = await super().session_is_over()
        Ours.looks += 1
        return is_over


class Calm(Ours):
    look_again_seconds = 3600


class NotNotified(Ours):
    """It is never notified when its session has ended."""

    async def prepare(self) -> None:
        events = SessionEvents(self.services.sessions, asyncio.Event())  # which does not run
        self.services = replace(self.services, session_events=events)
        await super().prepare()


class Attentive(Ours):
    ping_interval = 0.01


class Public(Ours):
    wants_session = False


class Down(MemorySessions):
    """A session store that fails."""

    failure: Exception = StoreUnavailable()

    async def get(self, ref: str) -> Session | None:
        raise self.failure


class WithoutItsStore(Ours):
    """Its session store fails as soon as the socket is open."""

    failure: Exception = StoreUnavailable()

    def open(self) -> None:
        sessions = Down()
        sessions.failure = self.failure
        self.services = replace(self.services, sessions=sessions)


class BrokenStore(WithoutItsStore):
    failure = RuntimeError("a bug")


ROUTES = [
    ("/ours", Ours),
    ("/calm", Calm),
    ("/not-notified", NotNotified),
    ("/public", Public),
    ("/attentive", Attentive),
    ("/without", WithoutItsStore),
    ("/broken", BrokenStore),
]


@pytest.fixture
async def app(app: RunningApp) -> RunningApp:
    app.tornado.add_handlers(".*", ROUTES)
    return app


async def next_look() -> None:
    now = Ours.looks
    await wait_until(lambda: Ours.looks > now + 1)  # the first of them may have begun before


# The handshake


async def test_our_page_opens_it_and_the_user_s_token_is_at_hand(browser: Browser, session: Session):
    async with open_websocket(browser, "/ours") as socket:
        await socket.send_str("token")

        assert await socket.receive_str() == session.tokens.access_token


@pytest.mark.parametrize(
    "origin",
    [
        pytest.param(None, id="no origin"),
        pytest.param("null", id="a sandboxed frame"),
        pytest.param("https://evil.example", id="another site"),
        pytest.param("http://localhost:1", id="another port"),
    ],
)
async def test_it_is_not_opened_for(origin: str | None, browser: Browser, session: Session):
    response = await refused_handshake(browser, "/ours", Origin=origin)

    assert (response.status_code, response.json()["code"]) == (403, "csrf_rejected")


async def test_it_is_not_opened_without_a_session(browser: Browser):
    response = await refused_handshake(browser, "/ours")

    assert (response.status_code, response.json()["code"]) == (401, "no_session")


async def test_it_is_opened_without_a_session_if_the_handler_requires_none(browser: Browser):
    async with open_websocket(browser, "/public") as socket:
        await next_look()
        await socket.send_str("still there")

        assert await socket.receive_str() == "still there"


async def test_it_is_opened_behind_a_proxy_that_calls_us_by_another_name(browser: Browser, session: Session):
    async with open_websocket(browser, "/ours", headers={"Host": "bff.internal:8888"}) as socket:
        assert not socket.closed


async def test_a_browser_with_another_version_is_answered_with_the_supported_one(
    browser: Browser, session: Session
):
    response = await refused_handshake(browser, "/ours", **{"Sec-WebSocket-Version": "12"})

    assert (response.status_code, response.headers["Sec-WebSocket-Version"]) == (426, "13")


async def test_it_is_nothing_but_a_websocket(browser: Browser, session: Session):
    assert (await refused_handshake(browser, "/ours", **dict.fromkeys(HANDSHAKE))).status_code == 400
    assert (await browser.fetch("/ours", "POST", headers={"Origin": browser.app.base_url})).status_code == 405


# The end


async def test_it_is_closed_when_the_user_has_signed_out(browser: Browser, session: Session):
    async with open_websocket(browser, "/ours") as socket:
        await browser.logout()

        assert await close_code_and_reason(socket) == (4401, "the session is over")


async def test_when_the_user_signs_in_once_more_it_only_has_to_be_opened_again(
    browser: Browser, session: Session
):
    async with open_websocket(browser, "/ours") as socket:
        await browser.login("alice")

        assert await close_code_and_reason(socket) == (1001, "a new session has taken its place")


async def test_a_poll_that_is_faster_than_the_event_reads_the_reason_too(browser: Browser, session: Session):
    async with open_websocket(browser, "/not-notified") as socket:
        await browser.login("alice")

        assert await close_code_and_reason(socket) == (1001, "a new session has taken its place")


async def test_for_that_it_does_not_have_to_look(app: RunningApp, browser: Browser, session: Session):
    async with open_websocket(browser, "/calm") as socket:
        await app.services.tokens.end(session.ref, Reason.SIGNED_OUT_ELSEWHERE)

        assert await close_code_and_reason(socket) == (4401, "the session is over")


async def test_it_is_closed_when_the_session_has_ended_by_time_and_looking_did_not_keep_it(
    app: RunningApp, browser: Browser, session: Session, clock: Clock
):
    async with open_websocket(browser, "/ours") as socket:
        clock.advance(IDLE - 1)
        await next_look()
        clock.advance(2)

        assert await close_code_and_reason(socket) == (4401, "the session is over")


async def test_it_is_not_closed_while_the_store_does_not_answer(browser: Browser, session: Session):
    async with open_websocket(browser, "/without") as socket:
        await next_look()
        await socket.send_str("still there")

        assert await socket.receive_str() == "still there"


async def test_it_is_closed_when_the_store_stays_unavailable(
    browser: Browser, session: Session, caplog: pytest.LogCaptureFixture
):
    async with open_websocket(browser, "/broken") as socket:
        assert await close_code_and_reason(socket) == (1011, "something went wrong")

    assert "request failed" in caplog.messages


async def test_it_is_closed_when_the_process_stops_which_waits_for_it(
    app: RunningApp, browser: Browser, session: Session
):
    async with open_websocket(browser, "/ours") as socket:
        assert app.services.in_flight_requests
        app.services.stopping.set()

        assert await close_code_and_reason(socket) == (1001, "the server is about to stop")
    await no_requests_in_flight(app)


async def test_a_message_that_is_too_large_closes_it(browser: Browser, session: Session):
    async with open_websocket(browser, "/ours") as socket:
        await socket.send_str("x" * 1000)
        assert await socket.receive_str() == "x" * 1000
        await socket.send_str("x" * 1001)

        assert await close_code_and_reason(socket) == (1009, "message too big")


async def test_a_browser_that_answers_no_ping_is_gone(app: RunningApp, browser: Browser, session: Session):
    async with open_websocket(browser, "/attentive", autoping=False) as socket:
        assert [message.type async for message in socket] == [WSMsgType.PING]
    await no_requests_in_flight(app)


async def test_nothing_of_it_stays_behind(app: RunningApp, browser: Browser, session: Session):
    before = asyncio.all_tasks()
    async with open_websocket(browser, "/ours") as socket:
        await socket.send_str("x")
        await socket.receive()
    await no_requests_in_flight(app)

    await wait_until(lambda: asyncio.all_tasks() <= before)


async def test_the_log_has_a_line_for_its_beginning_and_one_for_its_end(
    app: RunningApp, browser: Browser, session: Session, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    async with open_websocket(browser, "/ours?secret") as socket:
        await socket.send_str("secret")
        await socket.close(code=4000, message=b"secret")
        await no_requests_in_flight(app)
    began, ended = (vars(record) for record in caplog.records[-2:])

    assert (began["message"], began["path"], began["status"]) == ("request answered", "/ours", 101)
    assert (ended["message"], ended["path"], ended["close_code"]) == ("socket closed", "/ours", 4000)
    assert "secret" not in str([began, ended])
