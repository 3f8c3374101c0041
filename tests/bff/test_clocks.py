"""A wrong clock ends no session and is named where a login fails; lifetimes count from the request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.errors import SessionEnded, TokenUnavailable
from app.bff.sessions.memory import MemorySessions
from app.bff.sessions.session import Session
from tests.bff.harness import (
    CLIENT_ID,
    Browser,
    Clock,
    RunningApp,
    new_browser,
    running_app,
    sign_in,
    user_tokens_of_another_process,
    wait_until,
)

LIFETIME = 300  # of access tokens and ID tokens, in seconds


class World:
    """The application with a clock of its own; alice is signed in."""

    def __init__(self, app: RunningApp, browser: Browser, clock: Clock, provider: Provider) -> None:
        self.app, self.browser, self.clock, self.provider = app, browser, clock, provider

    def advance(self, seconds: float) -> None:
        """Let time pass, for both clocks alike."""
        self.clock.advance(seconds)
        assert isinstance(self.provider.clock, Clock)
        self.provider.clock.advance(seconds)

    async def calls_the_api(self) -> int:
        return (await self.browser.fetch("/api/echo")).status_code

    async def session(self) -> Session | None:
        return await self.app.session_of(self.browser)


def at_a_full_second(provider: Provider, *, ahead: int = 0) -> Clock:
    """Set the provider's clock so, since times in tokens have no fractions; return ours."""
    assert isinstance(provider.clock, Clock)
    provider.clock.now = float(int(provider.clock.now))
    return Clock(provider.clock.now + ahead)


@asynccontextmanager
async def a_world(provider: Provider, api: DemoApi, **settings: Any) -> AsyncIterator[World]:
    clock = at_a_full_second(provider)
    async with running_app(provider, api, clock=clock, **settings) as app, new_browser(app) as browser:
        await sign_in(app, browser)
        yield World(app, browser, clock, provider)


@pytest.fixture
async def world(provider: Provider, api: DemoApi) -> AsyncIterator[World]:
    async with a_world(provider, api) as world:
        yield world


def logged(caplog: pytest.LogCaptureFixture, message: str) -> logging.LogRecord:
    return next(record for record in caplog.records if record.getMessage() == message)


# Refresh


@pytest.mark.parametrize("seconds", [-1800, -90, 90, 600, 1800])
async def test_with_a_clock_that_is_off_nobody_is_signed_out_and_rotated_tokens_are_kept(
    seconds: int, world: World
):
    world.clock.advance(seconds)
    for _ in range(3):
        world.advance(max(LIFETIME, LIFETIME - seconds))
        assert await world.calls_the_api() == 200

    session = await world.session()
    assert session is not None
    assert world.provider.is_active(session.tokens.refresh_token or "")
    assert world.provider.counts["token:refresh_token"] == 3
    assert world.provider.counts["revoke"] == 0


@pytest.mark.parametrize("seconds", [-90, 600])
async def test_the_log_says_by_how_much_the_clocks_differ(
    seconds: int, world: World, caplog: pytest.LogCaptureFixture
):
    before = await world.session()
    world.clock.advance(seconds)
    world.advance(LIFETIME + 90)
    await world.calls_the_api()

    record = logged(caplog, "refreshed ID token ignored")
    side = "ahead of" if seconds > 0 else "behind"
    assert f"our clock is {abs(seconds)} s {side}" in record.__dict__["reason"]
    # Its `Date` is the machine's: that is behind the test's clocks by the time that has been let pass.
    assert abs(record.__dict__["seconds_ahead"] - (seconds + LIFETIME + 90)) <= 60
    after = await world.session()
    assert before
    assert after
    assert after.tokens.id_token == before.tokens.id_token


ANOTHER_LOGIN = [{"sub": "bob"}, {"aud": "other"}, {"iss": "https://other.example"}]


@pytest.mark.parametrize("about", ANOTHER_LOGIN, ids=lambda about: next(iter(about)))
async def test_a_token_of_another_login_ends_the_session_whatever_the_clock_says(
    about: dict[str, object], world: World
):
    session = await world.session()
    assert session
    world.provider.overrides["id_token"] = about
    world.clock.advance(600)

    with pytest.raises(SessionEnded):
        await world.app.services.tokens.get(session)
    assert await world.session() is None
    assert world.provider.counts["revoke"] == 2


HARMLESS: list[dict[str, object]] = [
    {"nonce": ""},
    {"nonce": "another"},
    {"exp": None},
    {"exp": 1},
    {"exp": "soon"},
    {"iat": None},
    {"iat": True},
    {"iat": 2**40},
    {"nbf": 2**40},
    {"azp": ""},
]


@pytest.mark.parametrize("about", HARMLESS, ids=str)
async def test_a_token_that_is_wrong_in_what_says_nothing_of_the_login_is_left_aside(
    about: dict[str, object], world: World
):
    before = await world.session()
    world.provider.overrides["id_token"] = about
    world.advance(LIFETIME)

    assert await world.calls_the_api() == 200
    after = await world.session()
    assert before
    assert after
    assert after.tokens.id_token == before.tokens.id_token
    assert world.provider.is_active(after.tokens.refresh_token or "")


@pytest.mark.parametrize("id_token", ["x.y", "not a token", "e30.e30.e30.e30.e30"])
async def test_a_token_that_cannot_be_read_is_left_aside(id_token: str, world: World):
    world.provider.overrides["token"] = {"id_token": id_token}
    world.advance(LIFETIME)

    assert await world.calls_the_api() == 200
    session = await world.session()
    assert session
    assert session.tokens.id_token != id_token


# Login and logout


@pytest.mark.parametrize(("seconds", "said"), [(-90, "90 seconds behind"), (600, "600 seconds ahead of")])
async def test_a_login_with_a_wrong_clock_says_so_on_the_page_and_in_the_log(
    seconds: int, said: str, provider: Provider, api: DemoApi, caplog: pytest.LogCaptureFixture
):
    clock = at_a_full_second(provider, ahead=seconds)
    async with running_app(provider, api, clock=clock) as app, new_browser(app) as browser:
        answer = await browser.get(await browser.choose(await browser.start_login()))

    assert answer.status_code == 400
    assert f"The clock of this site is {said} that of the sign-in service" in answer.text
    record = logged(caplog, "login refused")
    assert f"our clock is {abs(seconds)} s" in record.__dict__["reason"]
    assert abs(record.__dict__["seconds_ahead"] - seconds) <= 60


async def test_an_id_token_that_has_expired_although_the_clocks_agree_blames_no_clock(
    app: RunningApp, browser: Browser, provider: Provider
):
    provider.overrides["id_token"] = {"exp": 1}
    answer = await browser.get(await browser.choose(await browser.start_login()))

    assert answer.status_code == 400
    assert "could not be trusted" in answer.text
    assert "clock" not in answer.text


async def test_a_logout_token_that_a_wrong_clock_refuses_is_logged_with_the_difference(
    world: World, caplog: pytest.LogCaptureFixture
):
    token = world.provider.logout_token(CLIENT_ID, sub="alice")
    world.clock.advance(-90)
    url = f"{world.app.base_url}/bff/backchannel"
    answer = await world.browser.http.post(url, data={"logout_token": token})

    assert answer.status_code == 400
    assert "our clock is 90 s behind" in logged(caplog, "logout token refused").__dict__["reason"]


# Lifetimes


async def test_a_slow_response_is_part_of_the_lifetime(world: World):
    world.provider.access_token_seconds = 6
    held = world.provider.holds_answer["token"] = asyncio.Event()
    world.advance(LIFETIME)
    call = asyncio.create_task(world.calls_the_api())
    await wait_until(lambda: world.provider.counts["token:refresh_token"] == 1)
    world.advance(4)
    held.set()

    assert await call == 200
    session = await world.session()
    assert session
    assert session.tokens.expires_at == pytest.approx(world.clock() + 2, abs=0.5)


async def test_a_token_that_expires_on_the_way_is_saved_and_not_used(world: World):
    session = await world.session()
    assert session
    world.provider.access_token_seconds = 6
    held = world.provider.holds_answer["token"] = asyncio.Event()
    world.advance(LIFETIME)
    call = asyncio.create_task(world.app.services.tokens.get(session))
    await wait_until(lambda: world.provider.counts["token:refresh_token"] == 1)
    world.advance(7)
    held.set()

    with pytest.raises(TokenUnavailable):
        await call
    world.provider.holds_answer.clear()
    assert await world.calls_the_api() == 200  # with the refresh token that came with it


class SlowSessions(MemorySessions):
    """A store that takes 7 seconds to save."""

    advance: Callable[[float], None]

    async def save(self, session: Session, *, lease: str | None = None) -> Session | None:
        self.advance(7)
        return await super().save(session, lease=lease)


async def test_a_token_that_expires_during_a_slow_save_is_saved_and_not_used(world: World):
    session = await world.session()
    assert session
    slow = SlowSessions(clock=world.clock)
    slow.advance = world.advance
    await slow.create(session)
    users = user_tokens_of_another_process(world.app, world.clock, sessions=slow)
    world.provider.access_token_seconds = 6
    world.advance(LIFETIME)

    with pytest.raises(TokenUnavailable):
        await users.get(session)
    saved = await slow.get(session.ref)
    assert saved
    assert world.provider.is_active(saved.tokens.refresh_token or "")
