"""A store that fails midway: no refreshed token is lost, no caller waits in vain or loses the session."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from app.bff.backoff import LEASE_WAIT_SECONDS
from app.bff.dev.grants import Ledger, TokenRecord
from app.bff.dev.provider import Failure, Provider
from app.bff.errors import AppError, NoSession, SessionEnded, StoreUnavailable, TokenUnavailable
from app.bff.sessions.memory import MemorySessions
from app.bff.sessions.session import Reason, Session, session_ref
from app.bff.tokens.policy import TokenRequest
from app.bff.tokens.refresh import Refresher
from app.bff.tokens.user import UserTokens
from tests.bff.harness import Browser, Clock, RunningApp, user_tokens_of_another_process, wait_until

LIFETIME = 300  # of the provider's access tokens, in seconds
MINUTE = 60  # longer than any lease
ALWAYS = 1_000_000


class FailingSessions(MemorySessions):
    """So many calls by `refuses` are not done; so many by `loses` are done, and their answer is lost.

    So many by `delays` are done by `arrive`. With `shared` it is another way to the sessions of that store.
    """

    def __init__(self, clock: Clock, *, shared: MemorySessions | None = None) -> None:
        super().__init__(clock=clock)
        if shared is not None:
            self._sessions, self._leases = shared._sessions, shared._leases
        self.refuses: Counter[str] = Counter()
        self.loses: Counter[str] = Counter()
        self.delays: Counter[str] = Counter()
        self.releases = 0
        self._on_the_way: list[Coroutine[Any, Any, object]] = []

    async def arrive(self) -> None:
        for call in self._on_the_way:
            await call

    async def create(self, session: Session) -> None:
        self._refuse("create")
        await super().create(session)

    async def lease(self, ref: str, *, owner: str, seconds: float) -> Session | None:
        if self.delays["lease"] > 0:
            self.delays["lease"] -= 1
            self._on_the_way.append(super().lease(ref, owner=owner, seconds=seconds))
            raise StoreUnavailable
        return self._answered("lease", await super().lease(ref, owner=owner, seconds=seconds))

    async def release(self, ref: str, *, owner: str) -> None:
        self._refuse("release")
        await super().release(ref, owner=owner)
        self.releases += 1

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


# Two processes, of which one could not save before its lease expired


@dataclass(frozen=True)
class TwoProcesses:
    """Both share `store`; the writes of the first one fail while `cut_off.refuses` says so."""

    store: MemorySessions
    cut_off: FailingSessions
    first: UserTokens
    second: UserTokens

    @asynccontextmanager
    async def unsaved(self, session: Session, clock: Clock) -> AsyncIterator[str]:
        """The first has new tokens, which it can save at the end; its lease has expired."""
        self.cut_off.refuses["save"] = ALWAYS
        token = await self.first.get(session)
        clock.advance(MINUTE)
        try:
            yield token
        finally:
            self.cut_off.refuses.clear()
            await self.first.drain()


class LenientLedger(Ledger):
    """That of a provider which refuses a one-time token that comes again, and does not end the grant."""

    def usable_refresh_token(self, value: str) -> TokenRecord | None:
        return self.alive(value)


@pytest.fixture
def lenient(provider: Provider, clock: Clock) -> None:
    provider.ledger = LenientLedger(clock)


@pytest.fixture
async def two(lenient: None, app: RunningApp, session: Session, clock: Clock) -> TwoProcesses:
    store = MemorySessions(clock=clock)
    cut_off = FailingSessions(clock, shared=store)
    await store.create(session)
    clock.advance(LIFETIME)
    processes = [user_tokens_of_another_process(app, clock, sessions=each) for each in (cut_off, store)]
    return TwoProcesses(store, cut_off, *processes)


@pytest.mark.parametrize("moment", ["during the wait", "when the refusal arrives"])
async def test_a_refusal_deletes_nothing_while_another_process_may_save(
    two: TwoProcesses, session: Session, provider: Provider, clock: Clock, moment: str
):
    async with two.unsaved(session, clock) as token:
        held = provider.holds_answer["token"] = asyncio.Event()
        second = asyncio.create_task(two.second.get(session))
        await wait_until(lambda: refreshes(provider) == 2)  # with the refresh token that the first has used
        if moment == "during the wait":
            held.set()
            await asyncio.sleep(0.2)
            assert not second.done()
    held.set()

    assert await second == token == await saved(two.store, session)


async def test_the_saved_refresh_token_is_used_where_the_saved_access_token_cannot_be(
    two: TwoProcesses, session: Session, provider: Provider, clock: Clock
):
    async with two.unsaved(session, clock):
        held = provider.holds_answer["token"] = asyncio.Event()
        second = asyncio.create_task(two.second.get(session))
        await wait_until(lambda: refreshes(provider) == 2)
        clock.advance(LIFETIME)  # what the first is about to save has expired, too
    held.set()

    assert provider.is_active(await second)
    assert refreshes(provider) == 3


async def test_a_refusal_ends_the_session_when_nothing_is_saved_for_some_seconds(
    two: TwoProcesses, session: Session, provider: Provider, clock: Clock
):
    provider.end_all_grants()
    await two.store.lease(session.ref, owner="dead", seconds=MINUTE)
    clock.advance(MINUTE)

    with pytest.raises(SessionEnded):
        await two.second.get(session)
    assert await two.store.get(session.ref) is None


async def test_a_process_that_has_lost_its_lease_ends_no_session(
    two: TwoProcesses, session: Session, provider: Provider, clock: Clock
):
    held = provider.holds["token"] = asyncio.Event()
    first = asyncio.create_task(two.first.get(session))
    await wait_until(lambda: refreshes(provider) == 1)
    clock.advance(MINUTE)
    answered = provider.holds_answer["token"] = asyncio.Event()
    del provider.holds["token"]
    second = asyncio.create_task(two.second.get(session))
    await wait_until(lambda: refreshes(provider) == 2)  # its answer is under way
    held.set()
    del provider.holds_answer["token"]
    await asyncio.sleep(0.2)  # the first one's refresh is refused meanwhile
    assert not first.done()
    answered.set()

    assert await first == await second == await saved(two.store, session)


# Leases


async def test_a_lease_whose_answer_was_lost_makes_no_other_process_wait(
    two: TwoProcesses, session: Session, provider: Provider
):
    two.cut_off.loses["lease"] = 1
    two.cut_off.refuses["release"] = 2
    with pytest.raises(StoreUnavailable):
        await two.first.get(session)

    async with asyncio.timeout(5):
        assert provider.is_active(await two.second.get(session))


async def test_a_lease_that_arrives_after_its_release_is_released_too(
    two: TwoProcesses, session: Session, provider: Provider
):
    two.cut_off.delays["lease"] = 1
    with pytest.raises(StoreUnavailable):
        await two.first.get(session)
    await wait_until(lambda: two.cut_off.releases)
    await two.cut_off.arrive()

    async with asyncio.timeout(5):
        assert provider.is_active(await two.second.get(session))


async def test_the_wait_for_the_lease_of_another_process_is_bounded(
    app: RunningApp, session: Session, store: FailingSessions, clock: Clock
):
    await store.lease(session.ref, owner="another", seconds=MINUTE)
    services = app.services
    refresher = Refresher(
        store, services.oidc, services.revocation, lease_seconds=MINUTE, wait_seconds=0.1, clock=clock
    )

    async with asyncio.timeout(5):
        with pytest.raises(TokenUnavailable) as raised:
            await refresher.renew(session.ref, TokenRequest(MINUTE, clock))
    assert raised.value.retry_after_seconds
    assert LEASE_WAIT_SECONDS <= 10


async def test_a_race_that_was_lost_to_tokens_that_are_over_by_now_is_no_reason_to_sign_in(
    two: TwoProcesses, session: Session, provider: Provider, clock: Clock
):
    provider.rotates = False
    held = provider.holds_answer["token"] = asyncio.Event()
    first = asyncio.create_task(two.first.get(session))
    await wait_until(lambda: refreshes(provider) == 1)
    del provider.holds_answer["token"]
    clock.advance(MINUTE)
    await two.second.get(session)
    clock.advance(LIFETIME)
    held.set()

    assert provider.is_active(await first)


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
