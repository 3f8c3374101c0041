"""A store that fails midway: no refreshed token is lost, no caller waits in vain or loses the session."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from app.bff.dev.provider import Failure, Provider
from app.bff.errors import AppError, NoSession, StoreUnavailable
from app.bff.sessions.memory import MemorySessions
from app.bff.sessions.session import Reason, Session, session_ref
from app.bff.tokens.user import UserTokens
from tests.bff.harness import Browser, Clock, RunningApp, user_tokens_of_another_process

LIFETIME = 300  # of the provider's access tokens, in seconds
MINUTE = 60  # longer than any lease
ALWAYS = 1_000_000


class FailingSessions(MemorySessions):
    """So many calls by `refuses` are not done; so many by `loses` are done, and their answer is lost."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.refuses: Counter[str] = Counter()
        self.loses: Counter[str] = Counter()

    async def create(self, session: Session) -> None:
        self._refuse("create")
        await super().create(session)

    async def lease(self, ref: str, *, owner: str, seconds: float) -> Session | None:
        return self._answered("lease", await super().lease(ref, owner=owner, seconds=seconds))

    async def release(self, ref: str, *, owner: str) -> None:
        self._refuse("release")
        await super().release(ref, owner=owner)

    async def save(self, session: Session, *, lease: str | None = None) -> Session | None:
        self._refuse("save")
        return self._answered("save", await super().save(session, lease=lease))

    async def touch(self, ref: str, *, renewed_at: float, expires_at: float) -> None:
        self._refuse("touch")

    def _refuse(self, name: str) -> None:
        if self.refuses[name] > 0:
            self.refuses[name] -= 1
            raise StoreUnavailable

    def _answered(self, name: str, answer: Any) -> Any:
        if self.loses[name] > 0:
            self.loses[name] -= 1
            raise StoreUnavailable
        return answer


@pytest.fixture
async def store(session: Session, clock: Clock) -> FailingSessions:
    """Has alice's session, and her access token has just expired."""
    store = FailingSessions(clock)
    await store.create(session)
    clock.advance(LIFETIME)
    return store


@pytest.fixture
def users(app: RunningApp, store: FailingSessions, clock: Clock) -> UserTokens:
    return user_tokens_of_another_process(app, clock, sessions=store)


def refreshes(provider: Provider) -> int:
    return provider.counts["token:refresh_token"]


async def saved(store: FailingSessions, session: Session) -> str:
    found = await store.get(session.ref)
    assert found
    return found.tokens.access_token


# Saving


async def test_refreshed_tokens_are_served_from_memory_until_they_are_saved(
    users: UserTokens, session: Session, store: FailingSessions, provider: Provider
):
    store.refuses["save"] = ALWAYS
    async with asyncio.timeout(5):
        token, again = await users.get(session), await users.get(session)
    store.refuses.clear()
    await users.drain()

    assert token == again == await saved(store, session)
    assert refreshes(provider) == 1


async def test_a_save_whose_answer_was_lost_is_recognised(
    users: UserTokens, session: Session, store: FailingSessions, provider: Provider
):
    store.loses["save"] = 1
    token = await users.get(session)
    await users.drain()

    assert token == await saved(store, session)
    assert (refreshes(provider), provider.counts["revoke"]) == (1, 0)


async def test_a_used_refresh_token_is_not_sent_again_however_long_the_store_is_down(
    users: UserTokens, session: Session, store: FailingSessions, provider: Provider, clock: Clock
):
    store.refuses["save"] = ALWAYS
    await users.get(session)
    clock.advance(LIFETIME)  # what we have in memory has expired, too, and our lease has long run out
    with pytest.raises(StoreUnavailable):
        await users.get(session)
    store.refuses.clear()
    await users.drain()

    assert provider.is_active(await users.get(session))
    assert refreshes(provider) == 2


async def test_refreshed_tokens_are_saved_also_after_the_lease_has_passed_on(
    users: UserTokens, session: Session, store: FailingSessions, clock: Clock
):
    store.refuses["save"] = ALWAYS
    token = await users.get(session)
    clock.advance(MINUTE)
    assert await store.lease(session.ref, owner="another", seconds=MINUTE)
    store.refuses.clear()
    await users.drain()

    assert await saved(store, session) == token


async def test_a_logout_while_the_store_fails_revokes_the_refreshed_token(
    app: RunningApp,
    users: UserTokens,
    session: Session,
    store: FailingSessions,
    provider: Provider,
    clock: Clock,
):
    store.refuses["save"] = 1
    token = await users.get(session)
    await store.delete(session.ref, reason=Reason.SIGNED_OUT)
    await users.drain()
    clock.advance(MINUTE)  # the browser may be at the provider's logout
    await app.services.revocation.drain_due()

    assert not provider.is_active(token)
    with pytest.raises(NoSession):
        await users.get(session)


# Leases


async def test_a_lease_whose_answer_was_lost_blocks_no_caller(
    users: UserTokens, session: Session, store: FailingSessions, provider: Provider
):
    store.loses["lease"] = 1
    with pytest.raises(StoreUnavailable):
        await users.get(session)

    async with asyncio.timeout(5):
        assert provider.is_active(await users.get(session))


async def test_a_failed_release_blocks_no_caller(
    users: UserTokens, session: Session, store: FailingSessions, provider: Provider, clock: Clock
):
    provider.fails["token"] = Failure(503)
    store.refuses["release"] = 1
    with pytest.raises(AppError, match="sign-in service"):
        await users.get(session)
    provider.fails.clear()

    async with asyncio.timeout(5):
        assert provider.is_active(await users.get(session))


async def test_an_unexpired_token_is_used_when_the_store_fails(
    app: RunningApp, session: Session, clock: Clock
):
    clock.advance(LIFETIME - 1)
    store = FailingSessions(clock)
    await store.create(session)
    store.loses["lease"] = 1

    users = user_tokens_of_another_process(app, clock, sessions=store)
    assert await users.get(session) == session.tokens.access_token


# Requests


async def test_a_session_that_cannot_be_touched_is_still_served(
    app: RunningApp, browser: Browser, store: FailingSessions
):
    store.refuses["touch"] = 1
    cookie = browser.cookie(app.services.cookies.session_name) or ""

    found = await replace(app.services, sessions=store).load_session(cookie)
    assert found
    assert found.ref == session_ref(cookie)


async def test_a_login_that_cannot_be_stored_leaves_no_valid_token_at_the_provider(
    app: RunningApp, browser: Browser, provider: Provider, clock: Clock
):
    full = FailingSessions(clock)
    full.refuses["create"] = 1
    app.tornado.settings["services"] = replace(app.services, sessions=full)
    response = await browser.get(await browser.choose(await browser.start_login()))

    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert not provider.is_active(provider.last_request["revoke"]["token"])
