"""GET /bff/events: an open page hears that its session is about to end, and that it has ended."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Provider
from app.bff.errors import StoreUnavailable
from app.bff.handlers.authenticated import authenticated
from app.bff.handlers.events import Events
from app.bff.handlers.socket import SocketHandler
from app.bff.sessions.events import SessionEvents
from app.bff.sessions.memory import MemorySessions
from app.bff.sessions.session import Lifetime, Reason, Session
from tests.bff.event_streams import listening
from tests.bff.harness import Browser, Clock, RunningApp, new_browser, running_app, sign_in
from tests.bff.websocket_clients import close_code_and_reason, no_requests_in_flight, open_websocket

IDLE, ABSOLUTE, WARNING = 3600, 43200, 120  # seconds


class Attentive(Events):
    """Looks at the clock all the time, so that a test can move it."""

    comment_every_seconds = 0.001


class Down(MemorySessions):
    async def get(self, ref: str) -> Session | None:
        raise StoreUnavailable


class WithoutItsStore(Attentive):
    """Its session store fails as soon as the stream is open."""

    @authenticated
    async def get(self) -> None:
        self.services = replace(self.services, sessions=Down())
        await super().get()


class Alone(Attentive):
    """It is never notified when its session has ended."""

    async def prepare(self) -> None:
        sessions = self.services.sessions
        assert isinstance(sessions, MemorySessions)
        events = SessionEvents(sessions, asyncio.Event())  # which does not run
        self.services = replace(self.services, session_events=events)
        await super().prepare()


ROUTES = [("/attentive", Attentive), ("/without", WithoutItsStore), ("/alone", Alone)]


@pytest.fixture
async def app(app: RunningApp) -> RunningApp:
    app.tornado.add_handlers(".*", ROUTES)
    return app


# Who may listen


async def test_our_page_hears_at_once_that_it_is_connected(browser: Browser, session: Session):
    async with listening(browser) as stream:
        assert stream.response.headers["Content-Type"] == "text/event-stream"
        assert stream.response.headers["Cache-Control"] == "no-store"
        assert stream.response.headers["X-Accel-Buffering"] == "no"
        assert stream.comments == 1


async def test_without_a_session_there_is_no_stream(browser: Browser):
    response = await browser.fetch("/bff/events")

    assert (response.status_code, response.json()["code"]) == (401, "no_session")


async def test_another_site_hears_nothing(browser: Browser, session: Session):
    response = await browser.fetch("/bff/events", csrf=False)

    assert (response.status_code, response.json()["code"]) == (403, "csrf_rejected")


# A change


async def test_all_windows_hear_that_a_refresh_has_changed_the_claims_and_the_session_stays(
    browser: Browser, session: Session, provider: Provider, clock: Clock
):
    async with listening(browser) as first, listening(browser) as second:
        for name in ("Alice Baker", "Alice Baker", "Alice Cook"):
            provider.overrides["id_token"] = {"name": name}
            clock.advance(301)
            assert (await browser.fetch("/api/echo")).status_code == 200
        heard = [[await stream.next() for _ in range(2)] for stream in (first, second)]
        await browser.logout()

        assert heard == [[("session_changed", {})] * 2] * 2
        assert await first.rest() == await second.rest() == [("session_ended", {"reason": "signed_out"})]


async def test_what_has_changed_before_the_page_began_to_listen_is_no_news(
    browser: Browser, session: Session, provider: Provider, clock: Clock
):
    provider.overrides["id_token"] = {"name": "Alice Baker"}
    clock.advance(301)
    await browser.fetch("/api/echo")
    async with listening(browser, "/attentive") as stream:
        await stream.says_nothing(comments=20)


# The end


async def test_signing_out_in_one_window_is_heard_in_the_other(browser: Browser, session: Session):
    async with listening(browser) as stream:
        await browser.logout()

        assert await stream.rest() == [("session_ended", {"reason": "signed_out"})]


async def test_after_a_repeated_login_the_page_only_has_to_reconnect(browser: Browser, session: Session):
    async with listening(browser) as stream:
        await browser.login("alice")

        assert await stream.rest() == []
    async with listening(browser):
        pass


async def test_a_login_of_another_user_in_this_browser_ends_the_session(browser: Browser, session: Session):
    async with listening(browser) as stream:
        await browser.get(await browser.choose(await browser.start_login(prompt="login"), "bob"))

        assert await stream.rest() == [("session_ended", {"reason": "signed_in_again"})]


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.RENEWED])
async def test_the_reason_is_said(app: RunningApp, browser: Browser, session: Session, reason: Reason):
    async with listening(browser) as stream:
        await app.services.tokens.end(session.ref, reason)

        assert await stream.rest() == [("session_ended", {"reason": reason.value})]


async def test_the_end_of_another_session_is_none_of_its_business(
    app: RunningApp, browser: Browser, session: Session
):
    async with listening(browser) as stream, new_browser(app) as other:
        await sign_in(app, other)
        async with listening(other) as others:
            await other.logout()

            assert await others.rest() == [("session_ended", {"reason": "signed_out"})]
        await browser.logout()

        assert await stream.rest() == [("session_ended", {"reason": "signed_out"})]


async def test_any_number_of_windows_may_hold_the_event_stream(browser: Browser, session: Session):
    async with listening(browser) as one, listening(browser) as two, listening(browser) as three:
        await browser.logout()

        ended = [("session_ended", {"reason": "signed_out"})]
        assert [await stream.rest() for stream in (one, two, three)] == [ended] * 3


# Trouble, and the end of the process


async def test_a_comment_comes_now_and_then_so_that_no_proxy_cuts_it(browser: Browser, session: Session):
    async with listening(browser, "/attentive") as stream:
        await stream.says_nothing(comments=5)

    assert Events.comment_every_seconds == 15


async def test_trouble_with_the_store_ends_nothing(browser: Browser, session: Session, clock: Clock):
    async with listening(browser, "/without") as stream:
        clock.advance(IDLE + 1)

        await stream.says_nothing(comments=3)


async def test_when_the_process_stops_it_ends_without_a_word(
    app: RunningApp, browser: Browser, session: Session
):
    async with listening(browser) as stream:
        app.services.stopping.set()

        assert await stream.rest() == []
        await no_requests_in_flight(app)


async def test_a_page_that_connects_again_does_not_meet_the_process_that_stops(
    app: RunningApp, browser: Browser, session: Session
):
    async with listening(browser) as stream:
        app.services.stopping.set()
        await stream.rest()

        assert stream.response.headers["Connection"] == "close"


async def test_a_request_while_the_process_stops_gets_no_events(
    app: RunningApp, browser: Browser, session: Session
):
    app.services.stopping.set()
    async with listening(browser) as stream:
        assert await stream.rest() == []


async def test_nothing_is_left_of_a_browser_that_leaves(
    app: RunningApp, browser: Browser, session: Session, caplog: pytest.LogCaptureFixture
):
    async with listening(browser):
        assert app.services.in_flight_requests
    await no_requests_in_flight(app)

    assert "request failed" not in caplog.messages


# The end by time


async def test_it_gets_an_event_before_the_session_expires_and_one_when_it_has_ended(
    browser: Browser, session: Session, clock: Clock
):
    async with listening(browser, "/alone") as stream:
        clock.advance(IDLE - WARNING)
        assert await stream.next() == ("session_ending", {"expires_in": WARNING})
        clock.advance(WARNING)

        assert await stream.rest() == [("session_ended", {"reason": "expired"})]


async def test_listening_does_not_keep_the_session_alive(
    app: RunningApp, browser: Browser, session: Session, clock: Clock
):
    clock.advance(IDLE / 2)
    async with listening(browser, "/attentive") as stream:
        clock.advance(IDLE / 2)

        assert [name for name, _ in await stream.rest()] == ["session_ended"]


async def test_no_warning_comes_for_an_end_that_another_window_has_put_off(
    browser: Browser, session: Session, clock: Clock
):
    async with listening(browser, "/attentive") as stream:
        clock.advance(IDLE / 2)
        await browser.fetch("/bff/user")
        clock.advance(IDLE / 2)
        await stream.says_nothing(comments=2)
        clock.advance(IDLE / 2 - WARNING)

        assert await stream.next() == ("session_ending", {"expires_in": WARNING})


async def test_after_a_warning_in_time_there_is_a_later_one(browser: Browser, session: Session, clock: Clock):
    async with listening(browser, "/attentive") as stream:
        clock.advance(IDLE - WARNING)
        assert await stream.next() == ("session_ending", {"expires_in": WARNING})
        await browser.fetch("/bff/user")
        clock.advance(IDLE - WARNING)

        assert await stream.next() == ("session_ending", {"expires_in": WARNING})


@pytest.mark.parametrize(("idle_seconds", "warning"), [(ABSOLUTE, 120), (1200, 120), (600, 60), (10, 1)])
def test_the_warning_comes_two_minutes_before_the_end_or_a_tenth_of_the_idle_time(
    idle_seconds: int, warning: float
):
    assert Lifetime(idle_seconds, ABSOLUTE).warning_seconds == warning


# Among processes


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_what_another_process_ends_is_heard_here(
    driver: str, provider: Provider, api: DemoApi, mongod: Mongod, clock: Clock
):
    store = {"session_store": f"{mongod.uri}/test-events", "mongodb_driver": driver}
    async with AsyncExitStack() as stack:
        start = stack.enter_async_context
        theirs, ours = [await start(running_app(provider, api, clock=clock, **store)) for _ in range(2)]
        browser = await start(new_browser(ours))
        session = await sign_in(ours, browser)
        ours.tornado.add_handlers(".*", [("/live", SocketHandler)])
        stream = await start(listening(browser))
        socket = await start(open_websocket(browser, "/live"))
        await theirs.services.tokens.end(session.ref, Reason.OPERATOR)

        assert await stream.rest() == [("session_ended", {"reason": "operator"})]
        assert await close_code_and_reason(socket) == (4401, "the session is over")
