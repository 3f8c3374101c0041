"""Ends of sessions: of many at once, and with a store that fails midway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import httpx2
import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Failure, Provider
from app.bff.errors import ReauthenticationRequired, SessionEnded, StoreUnavailable
from app.bff.services import Services
from app.bff.sessions.interfaces import Pending
from app.bff.sessions.memory import MemoryOutbox, MemorySessions
from app.bff.sessions.session import Reason, Session, session_ref
from app.bff.tokens.revocation import Revocation
from app.bff.tokens.user import UserTokens
from tests.bff.harness import (
    CLIENT_ID,
    Browser,
    Clock,
    RunningApp,
    new_browser,
    new_session_id,
    running_app,
    sign_in,
)
from tests.bff.test_session_store import a_session

LIFETIME = 300  # of the provider's access tokens, in seconds
MINUTE = 60
MANY = 600
ALWAYS = 1_000_000
AT_ONCE = 10


class Store(MemorySessions):
    """Refuses so many deletions and saves, `after` so many deletions; counts how many run at once."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.refuses = self.refuses_to_save = self.after = 0
        self.running = self.most = 0

    async def delete(self, ref: str, *, reason: Reason) -> Session | None:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        self.after -= 1
        if self.after < 0 < self.refuses:
            self.refuses -= 1
            raise StoreUnavailable
        return await super().delete(ref, reason=reason)

    async def save(self, session: Session, *, lease: str | None = None) -> Session | None:
        if self.refuses_to_save > 0:
            self.refuses_to_save -= 1
            raise StoreUnavailable
        return await super().save(session, lease=lease)


@dataclass(frozen=True)
class Ends:
    """An application on a `Store`, which has alice's session."""

    store: Store
    tokens: UserTokens
    revocation: Revocation
    provider: Provider
    clock: Clock

    async def drain_later(self) -> None:
        """Drain the outbox as any process does, when everything is due that waits for its turn."""
        self.clock.advance(MINUTE)
        await self.revocation.drain_due()

    def is_active(self, session: Session) -> bool:
        return self.provider.is_active(session.tokens.refresh_token or "")


@pytest.fixture
async def ends(app: RunningApp, session: Session, provider: Provider, clock: Clock) -> AsyncIterator[Ends]:
    store = Store(clock)
    await store.create(session)
    services = app.services
    revocation = Revocation(services.oidc, services.outbox, store, on_end=True, clock=clock)
    tokens = UserTokens(store, services.oidc, revocation, margin_seconds=60, lease_seconds=30, clock=clock)
    app.tornado.settings["services"] = replace(services, sessions=store, tokens=tokens, revocation=revocation)
    yield Ends(store, tokens, revocation, provider, clock)
    store.refuses = 0
    await tokens.drain()


async def others(services: Services, session: Session, number: int) -> list[str]:
    """Give the user of `session` so many others, in other browsers; return their refs."""
    refs = [session_ref(new_session_id()) for _ in range(number)]
    for ref in refs:
        await services.sessions.create(replace(session, ref=ref))
    return refs


def services_of(app: RunningApp) -> Services:
    services: Services = app.tornado.settings["services"]
    return services


async def left(services: Services, session: Session) -> list[str]:
    return [each.ref for each in await services.sessions.of_user(session.issuer, session.subject)]


# Many at once

End = Callable[[RunningApp, Browser, Provider], Awaitable[httpx2.Response]]


async def sign_out_everywhere(app: RunningApp, browser: Browser, provider: Provider) -> httpx2.Response:
    return await browser.fetch("/bff/sessions", "DELETE")


async def sign_out(app: RunningApp, browser: Browser, provider: Provider) -> httpx2.Response:
    return await browser.logout()


async def back_channel(app: RunningApp, browser: Browser, provider: Provider) -> httpx2.Response:
    form = {"logout_token": provider.logout_token(CLIENT_ID, sub="alice")}
    return await browser.http.post("/bff/backchannel", data=form)


ALL_AT_ONCE = {"sign out everywhere": sign_out_everywhere, "logout": sign_out, "back-channel": back_channel}


@pytest.mark.parametrize("end", ALL_AT_ONCE.values(), ids=ALL_AT_ONCE)
async def test_many_sessions_end_a_few_at_a_time(
    app: RunningApp, browser: Browser, session: Session, ends: Ends, end: End
):
    refs = await others(services_of(app), session, 50)

    assert (await end(app, browser, ends.provider)).status_code < 400
    assert not {*refs} & {*await left(services_of(app), session)}
    assert 1 < ends.store.most <= AT_ONCE


async def test_six_hundred_sessions_in_mongodb_end_in_one_request(
    provider: Provider, api: DemoApi, mongod: Mongod, clock: Clock
):
    store = {"session_store": f"{mongod.uri}/test-ends", "mongodb_driver": "pymongo"}
    async with running_app(provider, api, clock=clock, **store) as app, new_browser(app) as browser:
        session = await sign_in(app, browser)
        await others(app.services, session, MANY)

        assert (await browser.fetch("/bff/sessions", "DELETE")).status_code == 204
        assert await left(app.services, session) == [session.ref]


@pytest.mark.parametrize("end", ALL_AT_ONCE.values(), ids=ALL_AT_ONCE)
async def test_ends_that_fail_midway_are_told_and_go_on_by_themselves(
    app: RunningApp,
    browser: Browser,
    session: Session,
    ends: Ends,
    end: End,
    caplog: pytest.LogCaptureFixture,
):
    refs = {*await others(services_of(app), session, 50)}
    ends.store.after, ends.store.refuses = 20, 2 * AT_ONCE
    answer = await end(app, browser, ends.provider)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "sessions not ended yet" in caplog.messages

    await ends.tokens.drain()
    assert not refs & {*await left(services_of(app), session)}


async def test_a_store_that_is_down_is_waited_for_once(
    app: RunningApp, browser: Browser, session: Session, ends: Ends
):
    await others(services_of(app), session, 50)
    ends.store.refuses = ALWAYS
    assert (await browser.fetch("/bff/sessions", "DELETE")).status_code == 503

    assert ALWAYS - ends.store.refuses <= 2 * AT_ONCE  # and perhaps one more try in the background


class Slow(MemoryOutbox):
    """Counts how many postponements run at once."""

    running = most = 0

    async def postpone(self, pending_id: str, *, due_at: float) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1


async def test_revocations_that_fail_at_once_are_postponed_a_few_at_a_time(
    app: RunningApp, session: Session, ends: Ends
):
    outbox = Slow(clock=ends.clock)
    ends.provider.fails["revoke"] = Failure(503)
    revocation = Revocation(app.services.oidc, outbox, ends.store, on_end=True, clock=ends.clock)
    queued = await revocation.enqueue(*(replace(session, ref=str(number)) for number in range(50)))
    await asyncio.gather(*(revocation.attempt(pending) for pending in queued))

    assert 1 < outbox.most <= AT_ONCE


# A session without its refresh token, or a refresh token without its session: neither


ONE_BY_ONE = {"logout": sign_out, "back-channel": back_channel}


@pytest.mark.parametrize("end", ONE_BY_ONE.values(), ids=ONE_BY_ONE)
async def test_an_end_whose_delete_fails_is_made_up_for_when_the_store_answers(
    app: RunningApp, browser: Browser, session: Session, ends: Ends, end: End
):
    ends.store.refuses = 3
    assert (await end(app, browser, ends.provider)).status_code == 503
    assert ends.is_active(session)
    await ends.tokens.drain()

    assert await ends.store.get(session.ref) is None
    await ends.drain_later()
    assert not ends.is_active(session)


class Refusing(MemoryOutbox):
    """Refuses so many entries."""

    refuses = 1

    async def put(self, entries: Sequence[Pending], *, due_at: float) -> None:
        self.refuses -= 1
        if self.refuses >= 0:
            raise StoreUnavailable
        await super().put(entries, due_at=due_at)


async def test_an_end_that_fails_before_it_began_goes_on_by_itself_too(
    app: RunningApp, session: Session, ends: Ends
):
    outbox = Refusing(clock=ends.clock)
    revocation = Revocation(app.services.oidc, outbox, ends.store, on_end=True, clock=ends.clock)
    with pytest.raises(StoreUnavailable):
        await revocation.end([session], Reason.SIGNED_OUT)
    assert await ends.store.get(session.ref)
    await revocation.drain()

    assert await ends.store.get(session.ref) is None
    ends.clock.advance(MINUTE)
    await revocation.drain_due()
    assert not ends.is_active(session)


async def test_while_a_session_cannot_be_deleted_its_refresh_token_is_not_revoked(
    browser: Browser, session: Session, ends: Ends
):
    ends.store.refuses = ALWAYS
    assert (await browser.logout()).status_code == 503
    with pytest.raises(StoreUnavailable):
        await ends.drain_later()

    assert await ends.store.get(session.ref)
    assert ends.is_active(session)


@pytest.mark.parametrize("refreshed", [False, True], ids=["unchanged", "refreshed since"])
async def test_the_next_process_ends_the_session_that_a_dead_one_was_about_to_delete(
    session: Session, ends: Ends, refreshed: bool
):
    await ends.revocation.enqueue(session, reason=Reason.SIGNED_OUT)  # and then it died
    if refreshed:
        ends.clock.advance(LIFETIME - 20)
        await ends.tokens.get(session, rejected=session.tokens.access_token)
    current = await ends.store.get(session.ref)
    assert current
    for _ in range(2):
        await ends.drain_later()

    assert await ends.store.reasons([session.ref]) == {session.ref: Reason.SIGNED_OUT}
    assert not ends.is_active(current)


async def test_a_login_whose_last_step_fails_leaves_the_session_that_it_was_to_replace(
    browser: Browser, session: Session, ends: Ends
):
    callback = await browser.choose(await browser.start_login())
    ends.store.refuses = 1
    assert (await browser.get(callback)).status_code == 503
    await ends.tokens.drain()

    assert await ends.store.get(session.ref)
    assert ends.is_active(session)


async def test_a_revocation_by_hand_that_fails_midway_takes_the_token_from_the_session(
    session: Session, ends: Ends
):
    ends.store.refuses_to_save = 1
    with pytest.raises(StoreUnavailable):
        await ends.tokens.revoke(session)
    await ends.drain_later()

    current = await ends.store.get(session.ref)
    assert current
    assert current.tokens.refresh_token is None
    assert not ends.is_active(session)


async def test_a_forged_refresh_whose_delete_fails_ends_the_session_in_the_end(session: Session, ends: Ends):
    ends.provider.overrides["id_token"] = {"sub": "bob"}
    ends.clock.advance(LIFETIME)
    ends.store.refuses = 2
    with pytest.raises((StoreUnavailable, SessionEnded)):
        await ends.tokens.get(session)
    await ends.tokens.drain()

    assert await ends.store.get(session.ref) is None
    await ends.drain_later()
    assert not ends.is_active(session)


# A session of another registration


REGISTRATIONS = [
    pytest.param({"issuer": "https://former.example"}, {}, "provider", id="of another provider"),
    pytest.param({}, {"aud": "former"}, "client", id="of another client"),
    pytest.param({}, {"aud": ["former"]}, "client", id="of another client, in a list"),
    pytest.param({}, {"aud": [CLIENT_ID, "former"], "azp": "former"}, "client", id="authorized for another"),
]


@pytest.mark.parametrize(("changed", "claims", "other"), REGISTRATIONS)
async def test_no_token_is_sent_for_a_session(
    session: Session,
    ends: Ends,
    changed: dict[str, str],
    claims: dict[str, str],
    other: str,
    caplog: pytest.LogCaptureFixture,
):
    former = replace(session, ref="former", claims={**session.claims, **claims}, **changed)
    await ends.store.create(former)
    ends.clock.advance(LIFETIME)
    with pytest.raises(ReauthenticationRequired):
        await ends.tokens.get(former)
    assert await ends.store.get("former")
    await ends.tokens.end("former", Reason.SIGNED_OUT)

    assert f"refresh token of another {other} not revoked" in caplog.messages
    assert ends.provider.counts["token:refresh_token"] == ends.provider.counts["revoke"] == 0


@pytest.mark.parametrize(
    ("claims", "client_id"),
    [
        ({"aud": "app"}, "app"),
        ({"aud": ["app"]}, "app"),
        ({"aud": ["app", "api"], "azp": "app"}, "app"),
        ({"aud": ["app", "api"]}, None),
        ({"aud": []}, None),
        ({"aud": 1}, None),
        ({}, None),
    ],
)
def test_a_login_was_for(claims: dict[str, object], client_id: str | None, clock: Clock):
    assert a_session(clock, claims=claims).client_id == client_id
