"""The limit of sessions per user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.errors import StoreUnavailable
from app.bff.sessions.memory import MemorySessions
from app.bff.sessions.session import Reason, Session, excess_sessions
from app.bff.settings.models import TooMany
from tests.bff.harness import (
    Browser,
    Clock,
    RunningApp,
    new_browser,
    running_app,
    sign_in,
    user_tokens_of_another_process,
)


@pytest.mark.parametrize(
    ("too_many", "sessions", "ended"),
    [
        ("end_oldest", "abc", ""),
        ("end_oldest", "abcd", "a"),
        ("end_oldest", "abcdef", "abc"),
        ("refuse", "abc", ""),
        ("refuse", "abcd", "d"),
        ("refuse", "abcdef", "def"),
    ],
)
def test_with_a_limit_of_three_there_end(too_many: TooMany, sessions: str, ended: str):
    named: list[Any] = [SimpleNamespace(ref=letter) for letter in sessions]

    assert "".join(session.ref for session in excess_sessions(3, named, too_many)) == ended


@asynccontextmanager
async def browsers(app: RunningApp, number: int) -> AsyncIterator[list[Browser]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(new_browser(app)) for _ in range(number)]


def allowing(
    number: int, provider: Provider, api: DemoApi, clock: Clock, too_many: TooMany = "end_oldest"
) -> AbstractAsyncContextManager[RunningApp]:
    return running_app(provider, api, clock=clock, max_sessions_per_user=number, too_many_sessions=too_many)


def refusing(
    number: int, provider: Provider, api: DemoApi, clock: Clock
) -> AbstractAsyncContextManager[RunningApp]:
    return allowing(number, provider, api, clock, too_many="refuse")


async def test_a_login_beyond_the_limit_ends_the_oldest_session(
    provider: Provider, api: DemoApi, clock: Clock
):
    async with allowing(2, provider, api, clock) as app, browsers(app, 3) as (oldest, middle, newest):
        for browser in (oldest, middle, newest):
            session = await sign_in(app, browser)
            clock.advance(1)

        assert await app.session_of(oldest) is None
        assert await app.session_of(middle)
        assert await app.session_of(newest) == session


async def test_a_login_beyond_the_limit_is_refused_and_its_token_revoked(
    provider: Provider, api: DemoApi, clock: Clock
):
    async with refusing(1, provider, api, clock) as app, browsers(app, 2) as (first, second):
        await sign_in(app, first)
        clock.advance(1)
        response = await second.get(await second.choose(await second.start_login()))

        assert (response.status_code, "too many other places" in response.text) == (400, True)
        assert await app.session_of(second) is None
        assert await app.session_of(first)
        assert provider.counts["revoke"] == 1


async def test_a_refused_login_leaves_the_earlier_session_of_the_browser(
    provider: Provider, api: DemoApi, clock: Clock
):
    async with refusing(1, provider, api, clock) as app, browsers(app, 2) as (alices, bobs):
        await alices.login("alice")
        await bobs.login("bob")
        clock.advance(1)
        await bobs.get(await bobs.choose(await bobs.start_login(prompt="login"), "alice"))

        session = await app.session_of(bobs)
        assert session
        assert session.subject == "bob"


async def test_a_repeated_login_in_the_same_browser_does_not_count(
    provider: Provider, api: DemoApi, clock: Clock
):
    async with refusing(1, provider, api, clock) as app, new_browser(app) as browser:
        first = await sign_in(app, browser)
        clock.advance(1)

        assert (await sign_in(app, browser)).ref != first.ref


async def test_sessions_of_other_users_do_not_count(provider: Provider, api: DemoApi, clock: Clock):
    async with allowing(1, provider, api, clock) as app, browsers(app, 2) as (alices, bobs):
        await alices.login("alice")
        await bobs.login("bob")

        assert await app.session_of(alices)


async def test_many_concurrent_logins_leave_as_many_sessions_as_allowed(
    provider: Provider, api: DemoApi, clock: Clock
):
    async with allowing(2, provider, api, clock) as app, browsers(app, 6) as at_once:
        await asyncio.gather(*(browser.login("alice") for browser in at_once))

        assert len([browser for browser in at_once if await app.session_of(browser)]) == 2


class Forgetful(MemorySessions):
    """A store whose `of_user` fails."""

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.reasons_of_deletions: list[Reason] = []

    async def delete(self, ref: str, *, reason: Reason) -> Session | None:
        self.reasons_of_deletions.append(reason)
        return await super().delete(ref, reason=reason)

    async def of_user(self, issuer: str, subject: str) -> list[Session]:
        raise StoreUnavailable


async def test_a_login_that_fails_halfway_leaves_no_session(provider: Provider, api: DemoApi, clock: Clock):
    async with allowing(2, provider, api, clock) as app, new_browser(app) as browser:
        sessions = Forgetful(clock=clock)
        tokens = user_tokens_of_another_process(app, clock, sessions=sessions)
        app.tornado.settings["services"] = replace(app.services, sessions=sessions, tokens=tokens)
        response = await browser.get(await browser.choose(await browser.start_login()))

        assert response.status_code == 503
        assert [session async for session in sessions.every()] == []
        assert sessions.reasons_of_deletions == [Reason.EXPIRED]  # not one too many: the limit is unknown
        assert provider.counts["revoke"] == 1
