"""The session of one request follows each refresh, whether its handler or one of its clients caused it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from app.bff import ApiHandler
from app.bff.clients.registry import HttpClientFactory
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.sessions.memory import MemorySessions
from app.bff.sessions.session import Session
from app.bff.settings.apis import HttpClientSettings
from app.bff.tokens.application import ApplicationTokens
from app.bff.tokens.user import UserTokens
from tests.bff.harness import Browser, Clock, RunningApp, user_tokens_of_another_process

EXPIRED, ABOUT_TO_EXPIRE = 301, 272  # seconds, of a lifetime of 300 and a margin of 30


class ForcedThreeTimes(ApiHandler):
    async def get(self) -> None:
        self.finish_json([await self.get_user_access_token(force_renewal=True) for _ in range(3)])


class OneTokenForAll(ApiHandler):
    """Two clients and the handler itself, all made or used before the refresh."""

    async def get(self) -> None:
        first, second = self.create_client("apiClient"), self.create_client("apiClient")
        async with first.get("echo"), second.get("echo"):
            own = await self.get_user_access_token()
        assert self.session is not None
        self.finish_json([own, self.session.tokens.access_token])


@pytest.fixture
async def app(app: RunningApp) -> RunningApp:
    app.tornado.add_handlers(".*", [("/forced", ForcedThreeTimes), ("/one", OneTokenForAll)])
    return app


async def test_three_forced_renewals_in_one_handler_give_three_tokens(
    app: RunningApp, browser: Browser, session: Session, provider: Provider
):
    tokens = (await browser.fetch("/forced")).json()
    now = await app.session_of(browser)

    assert len({*tokens, session.tokens.access_token}) == 4
    assert provider.counts["token:refresh_token"] == 3
    assert now is not None
    assert tokens[-1] == now.tokens.access_token


async def test_a_handler_and_its_clients_share_one_refresh(
    browser: Browser, session: Session, provider: Provider, clock: Clock
):
    clock.advance(EXPIRED)
    own, held = (await browser.fetch("/one")).json()

    assert own == held != session.tokens.access_token
    assert provider.counts["token:refresh_token"] == 1


# How often the store is read


class CountingSessions(MemorySessions):
    reads = 0

    async def get(self, ref: str) -> Session | None:
        self.reads += 1
        return await super().get(ref)


@dataclass
class Holder:
    session: Session | None


@pytest.fixture
async def store(session: Session, clock: Clock) -> CountingSessions:
    """A store of its own, which has alice's session."""
    store = CountingSessions(clock=clock)
    await store.create(session)
    return store


@pytest.fixture
def users(app: RunningApp, store: CountingSessions, clock: Clock) -> UserTokens:
    return user_tokens_of_another_process(app, clock, sessions=store)


@pytest.fixture
async def factory(
    app: RunningApp, api: DemoApi, users: UserTokens, clock: Clock
) -> AsyncIterator[HttpClientFactory]:
    application = ApplicationTokens(app.services.oidc, margin_seconds=60)
    settings = {"apiClient": HttpClientSettings(base_url=api.base_url, token="user")}
    factory = HttpClientFactory(settings, users, application, clock=clock)
    yield factory
    await factory.close()


@pytest.mark.parametrize("seconds", [EXPIRED, ABOUT_TO_EXPIRE])
async def test_a_client_made_before_a_refresh_reads_the_store_for_the_first_of_five_calls_only(
    factory: HttpClientFactory,
    users: UserTokens,
    session: Session,
    store: CountingSessions,
    clock: Clock,
    seconds: int,
):
    client = factory.create("apiClient", session)
    clock.advance(seconds)

    reads = []
    for _ in range(5):
        async with client.get("echo") as response:
            assert response.status == 200
        await users.drain()  # a refresh in the background has ended before the next call
        reads.append(store.reads)

    assert reads == [reads[0]] * 5
    assert reads[0]


async def test_a_token_that_an_api_refused_is_not_presented_again(
    factory: HttpClientFactory, session: Session, api: DemoApi
):
    client = factory.create("apiClient", Holder(session))
    api.rejects = {session.tokens.access_token}

    for _ in range(3):
        async with client.get("echo") as response:
            assert response.status == 200

    assert api.counts["echo"] == 4  # the first call was repeated


async def test_a_refresh_that_fails_leaves_the_session_as_it_is(
    factory: HttpClientFactory, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    holder = Holder(session)
    clock.advance(ABOUT_TO_EXPIRE)
    provider.end_all_grants()

    async with factory.create("apiClient", holder).get("echo"):
        await users.drain()

    assert holder.session is session
