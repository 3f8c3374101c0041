"""One bound for all that a request waits for the session store, while its tokens are refreshed too."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import copy_context
from dataclasses import replace

import pytest

from app.bff.dev.provider import Provider
from app.bff.errors import StoreUnavailable
from app.bff.sessions.memory import MemorySessions
from app.bff.sessions.session import Session
from app.bff.tokens.policy import TokenRequest
from app.bff.tokens.refresh import Refresher
from app.bff.tokens.store_time import StoreTime, session_waited_seconds
from tests.bff.harness import Browser, Clock, RunningApp, sign_in

LIFETIME = 300  # of the provider's access tokens, in seconds


class HangingSessions(MemorySessions):
    """The calls named in `hangs` are never answered, those in `late` after so many seconds."""

    hangs: tuple[str, ...] = ()
    late: Mapping[str, float] = {}

    async def _answers(self, name: str) -> None:
        answered = asyncio.Event()
        if name in self.hangs:
            await answered.wait()
        if name in self.late:
            asyncio.get_running_loop().call_later(self.late[name], answered.set)
            await answered.wait()

    async def get(self, ref: str) -> Session | None:
        await self._answers("get")
        return await super().get(ref)

    async def lease(self, ref: str, *, owner: str, seconds: float) -> Session | None:
        session = await super().lease(ref, owner=owner, seconds=seconds)
        await self._answers("lease")
        return session

    async def save(self, session: Session, *, lease: str | None = None) -> Session | None:
        await self._answers("save")
        return await super().save(session, lease=lease)


@pytest.fixture
async def store(session: Session, clock: Clock) -> HangingSessions:
    store = HangingSessions(clock=clock)
    await store.create(session)
    clock.advance(LIFETIME)
    return store


@pytest.fixture
def refresher(app: RunningApp, store: HangingSessions, clock: Clock) -> Refresher:
    services = app.services
    return Refresher(
        store, services.oidc, services.revocation, lease_seconds=60, store_seconds=0.2, clock=clock
    )


def request(clock: Clock) -> TokenRequest:
    return TokenRequest(60, clock)


def test_what_the_look_up_of_the_session_has_taken_is_not_there_any_more():
    def left() -> float:
        session_waited_seconds.set(3)
        return StoreTime(4).left

    assert copy_context().run(left) == 1
    assert StoreTime(4).left == 4


async def test_the_look_up_of_the_session_is_counted(
    app: RunningApp, browser: Browser, store: HangingSessions, clock: Clock
):
    await store.create(await sign_in(app, browser))
    store.late = {"get": 0.05}

    assert await replace(app.services, sessions=store).load_session(browser.cookie("bff"))
    assert session_waited_seconds.get() >= 0.05


async def test_operations_share_the_time():
    store = StoreTime(0.2)
    with pytest.raises(StoreUnavailable):
        async with store.limit():
            await asyncio.Event().wait()

    assert store.left <= 0
    async with store.limit(at_least=1):  # enough for what needs no time
        await asyncio.sleep(0)


@pytest.mark.parametrize("call", ["get", "lease"])
async def test_a_request_waits_no_longer_for_a_refresh_to_begin(
    call: str,
    refresher: Refresher,
    store: HangingSessions,
    session: Session,
    provider: Provider,
    clock: Clock,
):
    store.hangs = (call,)
    with pytest.raises(StoreUnavailable):
        await refresher.renew(session.ref, request(clock))

    assert provider.counts["token:refresh_token"] == 0


async def test_a_lease_whose_answer_is_not_waited_for_is_released(
    refresher: Refresher, store: HangingSessions, session: Session, clock: Clock
):
    store.hangs = ("lease",)
    with pytest.raises(StoreUnavailable):
        await refresher.renew(session.ref, request(clock))
    store.hangs = ()
    await refresher.drain()

    assert await store.lease(session.ref, owner="another process", seconds=60)


async def test_new_tokens_are_used_while_the_store_does_not_answer_their_save(
    refresher: Refresher, store: HangingSessions, session: Session, clock: Clock
):
    store.hangs = ("save",)
    renewed = await refresher.renew(session.ref, request(clock))
    store.hangs = ()
    await refresher.drain()

    saved = await store.get(session.ref)
    assert saved is not None
    assert saved.tokens.access_token == renewed.tokens.access_token
