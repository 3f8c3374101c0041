"""What every store tells of sessions that are over, and that whoever listens hears of it."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from app.bff.crypto import Vault
from app.bff.dev.mongod import Mongod, find_mongod
from app.bff.errors import StoreUnavailable
from app.bff.sessions.events import EndSignal, SessionEvents
from app.bff.sessions.interfaces import TOMBSTONE_SECONDS, SessionEndSource, SessionStore
from app.bff.sessions.memory import MemorySessions
from app.bff.sessions.mongo.connection import connect
from app.bff.sessions.mongo.events import MongoSessionEndSource
from app.bff.sessions.mongo.sessions import MongoSessions
from app.bff.sessions.session import Reason, Session, new_session_id, session_ref
from tests.bff.harness import KEY, Clock, wait_until
from tests.bff.replica_set import ReplicaSet
from tests.bff.test_session_store import a_session

DATABASE = "test-endings"
MINUTE, HOUR = 60, 3600
PATIENCE_SECONDS = 20
ELECTION_SECONDS = 1


@dataclass(frozen=True)
class Store:
    """What one process has: sessions, and what is known of those that are over."""

    sessions: SessionStore
    ended: SessionEndSource


def in_mongodb(uri: str, clock: Clock, driver: str) -> Store:
    client = connect(uri, driver=driver)
    return Store(MongoSessions(client, Vault([KEY]), clock=clock), MongoSessionEndSource(client, clock=clock))


def in_memory(clock: Clock) -> Store:
    sessions = MemorySessions(clock=clock)
    return Store(sessions, sessions)


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    binary = find_mongod()
    assert binary
    folder = tmp_path_factory.mktemp("replica-set")
    with ReplicaSet(binary, folder, election_seconds=ELECTION_SECONDS) as replica_set:
        yield replica_set


@pytest.fixture
def clock() -> Clock:
    return Clock(now=float(int(time.time())))  # MongoDB keeps milliseconds, and no less


STANDALONE = [f"{driver}, one mongod" for driver in ("motor", "pymongo")]
REPLICATED = [f"{driver}, a replica set" for driver in ("motor", "pymongo")]


@asynccontextmanager
async def opened(name: str, request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Store]:
    driver = name.partition(",")[0]
    if name in REPLICATED:
        uri = at(request.getfixturevalue("replica_set"))
    else:
        uri = f"{request.getfixturevalue('mongod').uri}/{DATABASE}"
    store = in_memory(clock) if name == "memory" else in_mongodb(uri, clock, driver)
    await store.sessions.open()
    yield store
    await store.sessions.close()


@pytest.fixture(params=["memory", *STANDALONE, *REPLICATED])
async def store(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Store]:
    async with opened(request.param, request, clock) as store:
        yield store


@pytest.fixture(params=["memory", *REPLICATED])
async def telling(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Store]:
    """A store that tells by itself."""
    async with opened(request.param, request, clock) as store:
        yield store


def at(replica_set: ReplicaSet) -> str:
    return replica_set.uri.replace("/?", f"/{DATABASE}?")


async def remove(replica_set: ReplicaSet, session: Session) -> None:
    client = connect(at(replica_set), driver="pymongo")
    await client.get_default_database()["sessions"].delete_one({"_id": session.ref})
    await client.close()


async def change_streams(replica_set: ReplicaSet) -> int:
    """How many the server has open."""
    client = connect(at(replica_set), driver="pymongo")
    ours = {"cursor.tailable": True, "ns": f"{DATABASE}.sessions"}
    cursors = await client.admin.aggregate([{"$currentOp": {"idleCursors": True}}, {"$match": ours}])
    number = len(await cursors.to_list(None))
    await client.close()
    return number


@asynccontextmanager
async def without_primary(replica_set: ReplicaSet) -> AsyncIterator[None]:
    killed = await asyncio.to_thread(replica_set.kill_primary)
    try:
        yield
    finally:
        await asyncio.to_thread(killed.start)


async def ended_at_last(store: Store, session: Session) -> None:
    """End it, as soon as there is a primary that takes it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await store.ended.reasons([session.ref]):
            with suppress(StoreUnavailable):
                await store.sessions.delete(session.ref, reason=Reason.OPERATOR)


async def soon(news: EndSignal) -> Reason | None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await news


async def a_kept_session(store: Store, clock: Clock, **changed: Any) -> Session:
    session = a_session(clock, **changed)
    await store.sessions.create(session)
    return session


# What every store knows


async def test_of_a_living_session_there_is_nothing_to_say(store: Store, clock: Clock):
    session = await a_kept_session(store, clock)

    assert await store.ended.reasons([session.ref]) == {}


async def test_why_a_session_was_ended_is_known(store: Store, clock: Clock):
    ended, living = await a_kept_session(store, clock), await a_kept_session(store, clock)
    await store.sessions.delete(ended.ref, reason=Reason.OPERATOR)

    assert await store.ended.reasons([ended.ref, living.ref]) == {ended.ref: Reason.OPERATOR}


async def test_a_session_that_nobody_has_ended_is_over_by_time(store: Store, clock: Clock):
    session = await a_kept_session(store, clock)
    clock.advance(session.expires_at - clock() - 1)
    assert await store.ended.reasons([session.ref]) == {}
    clock.advance(1)

    never_there = session_ref(new_session_id())
    expected = dict.fromkeys([session.ref, never_there], Reason.EXPIRED)
    assert await store.ended.reasons([session.ref, never_there]) == expected


async def test_the_first_reason_counts(store: Store, clock: Clock):
    session = await a_kept_session(store, clock)
    await store.sessions.delete(session.ref, reason=Reason.SIGNED_OUT)
    await store.sessions.delete(session.ref, reason=Reason.PROVIDER)

    assert await store.ended.reasons([session.ref]) == {session.ref: Reason.SIGNED_OUT}


async def test_a_session_that_had_expired_was_not_ended_by_anybody(store: Store, clock: Clock):
    session = await a_kept_session(store, clock)
    clock.advance(session.expires_at - clock())
    await store.sessions.delete(session.ref, reason=Reason.SIGNED_OUT)

    assert await store.ended.reasons([session.ref]) == {session.ref: Reason.EXPIRED}


# What is left of a session is no session


async def test_what_is_left_of_a_session_is_found_by_nobody(store: Store, clock: Clock):
    session = await a_kept_session(store, clock, subject=new_session_id(), sid=new_session_id())
    await store.sessions.delete(session.ref, reason=Reason.SIGNED_OUT)
    sessions, now = store.sessions, clock()

    assert await sessions.get(session.ref) is None
    assert await sessions.save(session) is None
    assert await sessions.lease(session.ref, owner="me", seconds=MINUTE) is None
    assert await sessions.of_user(session.issuer, session.subject) == []
    assert await sessions.of_sid(session.issuer, session.sid) == []
    assert session.ref not in [found.ref async for found in sessions.every()]
    await sessions.touch(session.ref, renewed_at=now, expires_at=now + MINUTE)
    assert await sessions.get(session.ref) is None


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_in_mongodb_it_is_a_reason_that_is_forgotten(mongod: Mongod, clock: Clock, driver: str):
    client = connect(f"{mongod.uri}/{DATABASE}", driver=driver)
    store = Store(
        MongoSessions(client, Vault([KEY]), clock=clock), MongoSessionEndSource(client, clock=clock)
    )
    session = await a_kept_session(store, clock)
    await store.sessions.delete(session.ref, reason=Reason.SIGNED_OUT)
    await store.sessions.open()

    records = client.get_default_database()["sessions"]
    left = await records.find_one({"_id": session.ref})
    assert left.pop("forget_at").timestamp() == clock() + TOMBSTONE_SECONDS
    assert left == {"_id": session.ref, "ended": "signed_out"}
    assert (await records.index_information())["forget_at_1"]["expireAfterSeconds"] == 0
    await store.sessions.close()


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_a_reason_that_only_a_newer_version_knows_is_taken_for_the_usual_one(
    mongod: Mongod, clock: Clock, driver: str
):
    client = connect(f"{mongod.uri}/{DATABASE}", driver=driver)
    ref = session_ref(new_session_id())
    await client.get_default_database()["sessions"].insert_one({"_id": ref, "ended": "full moon"})

    assert await MongoSessionEndSource(client, clock=clock).reasons([ref]) == {ref: Reason.EXPIRED}
    await MongoSessions(client, Vault([KEY]), clock=clock).close()


# A store that tells


async def test_a_store_tells_what_ends_from_now_on(telling: Store, clock: Clock):
    before, after = await a_kept_session(telling, clock), await a_kept_session(telling, clock)
    await telling.sessions.delete(before.ref, reason=Reason.SIGNED_OUT)
    async with aclosing(telling.ended.watch()) as batches:
        assert await anext(batches) == {}
        await telling.sessions.touch(after.ref, renewed_at=clock(), expires_at=clock() + MINUTE)
        await telling.sessions.save(after)
        await telling.sessions.delete(after.ref, reason=Reason.TOO_MANY)

        assert await anext(batches) == {after.ref: Reason.TOO_MANY}


async def test_a_store_says_every_second_that_nothing_has_ended(telling: Store):
    async with aclosing(telling.ended.watch()) as batches, asyncio.timeout(5):
        assert [await anext(batches) for _ in range(2)] == [{}, {}]


@pytest.mark.parametrize("name", REPLICATED)
async def test_a_record_that_somebody_has_removed_is_told_too(
    name: str, request: pytest.FixtureRequest, clock: Clock
):
    async with opened(name, request, clock) as store:
        session = await a_kept_session(store, clock)
        async with aclosing(store.ended.watch()) as batches:
            await anext(batches)
            await remove(request.getfixturevalue("replica_set"), session)

            assert await anext(batches) == {session.ref: Reason.EXPIRED}


@pytest.mark.parametrize("name", STANDALONE)
async def test_a_store_that_cannot_tell_says_so(name: str, request: pytest.FixtureRequest, clock: Clock):
    async with opened(name, request, clock) as store:
        assert [batch async for batch in store.ended.watch()] == []


# Whoever listens


class Ended:
    """The SessionEndSource of a test: what is over, and what was asked."""

    def __init__(self) -> None:
        self.over: dict[str, Reason] = {}
        self.asked: list[list[str]] = []
        self.answers = True
        self.trouble: Exception | None = None
        self.tells = False
        self.told = asyncio.Queue[dict[str, Reason]]()
        self.is_followed = False

    async def reasons(self, refs: Collection[str]) -> dict[str, Reason]:
        self.asked.append(sorted(refs))
        if not self.answers:
            raise StoreUnavailable
        if self.trouble:
            raise self.trouble
        return {ref: self.over[ref] for ref in refs if ref in self.over}

    async def watch(self) -> AsyncGenerator[dict[str, Reason]]:
        self.is_followed = self.tells
        try:
            while self.tells:
                yield {}
                yield await self.told.get()
        finally:
            self.is_followed = False


@pytest.fixture
def ended() -> Ended:
    return Ended()


@pytest.fixture
def stopping() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
async def events(ended: Ended, stopping: asyncio.Event) -> AsyncIterator[SessionEvents]:
    """In no hurry to look at anything twice, if the store tells."""
    events = SessionEvents(ended, stopping, poll_seconds=0.001, safety_poll_seconds=HOUR)
    async with events.running():
        yield events


async def test_whoever_listens_hears_the_reason(events: SessionEvents, ended: Ended):
    with events.watch("mine") as news, events.watch("other") as others:
        ended.over["mine"] = Reason.PROVIDER

        assert await soon(news) == Reason.PROVIDER
        assert not others.done()


async def test_all_who_listen_are_asked_for_with_one_question(events: SessionEvents, ended: Ended):
    with events.watch("a"), events.watch("b"), events.watch("b"), events.watch(None):
        await wait_until(lambda: len(ended.asked) > 2)

    assert ended.asked[-1] == ["a", "b"]


async def test_an_answer_that_nobody_has_thought_of_is_logged_and_stops_nothing(
    events: SessionEvents, ended: Ended, caplog: pytest.LogCaptureFixture
):
    ended.trouble = ValueError("a record of another kind")
    with events.watch("mine") as news:
        await wait_until(lambda: len(ended.asked) > 2)
        ended.trouble = None
        ended.over["mine"] = Reason.SIGNED_OUT

        assert await soon(news) == Reason.SIGNED_OUT
    assert {record.message for record in caplog.records} == {"ended sessions could not be looked up"}


async def test_trouble_with_the_store_ends_nothing(events: SessionEvents, ended: Ended):
    ended.answers = False
    with events.watch("mine") as news:
        await wait_until(lambda: len(ended.asked) > 5)
        assert not news.done()
        ended.over["mine"] = Reason.SIGNED_OUT
        ended.answers = True

        assert await soon(news) == Reason.SIGNED_OUT


# Whoever listens, and the store tells by itself


@pytest.fixture
async def told(events: SessionEvents, ended: Ended) -> AsyncIterator[EndSignal]:
    """Somebody who listens, whose session will not be looked at again for an hour."""
    ended.tells = True
    with events.watch("told") as told:
        await wait_until(lambda: ended.is_followed)
        looks = len(ended.asked)
        await wait_until(lambda: len(ended.asked) > looks)
        yield told


async def test_only_those_who_have_just_come_are_asked_for(
    told: EndSignal, events: SessionEvents, ended: Ended
):
    with events.watch("later"):
        await wait_until(lambda: ["later"] in ended.asked)


async def test_what_the_store_tells_is_heard(told: EndSignal, ended: Ended):
    ended.told.put_nowait({"told": Reason.OPERATOR, "somebody": Reason.SIGNED_OUT})

    assert await soon(told) == Reason.OPERATOR


async def test_an_end_before_anybody_listened_is_heard(told: EndSignal, events: SessionEvents, ended: Ended):
    ended.over["mine"] = Reason.SIGNED_OUT
    with events.watch("mine") as news:
        assert await soon(news) == Reason.SIGNED_OUT


async def test_it_is_heard_as_well_when_the_store_has_not_answered_at_first(
    told: EndSignal, events: SessionEvents, ended: Ended
):
    ended.answers = False
    ended.over["mine"] = Reason.SIGNED_OUT
    with events.watch("mine") as news:
        await wait_until(lambda: ["mine"] in ended.asked)
        ended.answers = True

        assert await soon(news) == Reason.SIGNED_OUT


async def test_what_ends_when_the_store_does_not_tell_any_more_is_found(told: EndSignal, ended: Ended):
    ended.tells = False
    ended.told.put_nowait({})
    await wait_until(lambda: not ended.is_followed)
    ended.over["told"] = Reason.SIGNED_OUT

    assert await soon(told) == Reason.SIGNED_OUT


async def test_while_nobody_listens_nothing_is_asked(events: SessionEvents, ended: Ended):
    ended.tells = True
    with events.watch("a"):
        await wait_until(lambda: ended.is_followed)
    ended.told.put_nowait({})
    await wait_until(lambda: not ended.is_followed)
    ended.asked.clear()
    with events.watch(None):
        for _ in range(1000):
            await asyncio.sleep(0)

    assert ended.asked == []


async def test_when_the_process_stops_all_who_listen_hear_that_and_no_reason(
    events: SessionEvents, stopping: asyncio.Event
):
    with events.watch("a") as news, events.watch(None) as for_nobody:
        stopping.set()

        assert await soon(news) is None
        assert await soon(for_nobody) is None


async def test_who_begins_to_listen_then_hears_it_at_once(events: SessionEvents, stopping: asyncio.Event):
    stopping.set()
    with events.watch("a") as news:
        assert news.result() is None


async def test_a_session_that_is_over_is_told_once(events: SessionEvents, ended: Ended):
    ended.over["mine"] = Reason.SIGNED_OUT
    with events.watch("mine") as news:
        assert await soon(news) == Reason.SIGNED_OUT
        await wait_until(lambda: len(ended.asked) > 2)  # and nobody is told again


# From process to process


@dataclass
class Followed:
    """An SessionEndSource of which a test knows how often it has told something."""

    ended: SessionEndSource
    told: int = 0

    async def reasons(self, refs: Collection[str]) -> Mapping[str, Reason]:
        return await self.ended.reasons(refs)

    async def watch(self) -> AsyncGenerator[Mapping[str, Reason]]:
        async with aclosing(self.ended.watch()) as batches:
            async for batch in batches:
                self.told += 1
                yield batch


@pytest.mark.parametrize("name", [*STANDALONE, *REPLICATED])
async def test_what_another_process_ends_is_heard(name: str, request: pytest.FixtureRequest, clock: Clock):
    async with opened(name, request, clock) as ours, opened(name, request, clock) as theirs:
        session = await a_kept_session(ours, clock)
        events = SessionEvents(ours.ended, asyncio.Event())
        async with events.running():
            with events.watch(session.ref) as news:
                await theirs.sessions.delete(session.ref, reason=Reason.SIGNED_OUT_ELSEWHERE)

                assert await soon(news) == Reason.SIGNED_OUT_ELSEWHERE


@pytest.mark.parametrize("name", REPLICATED)
async def test_after_the_primary_has_gone_ends_are_heard_again(
    name: str, request: pytest.FixtureRequest, replica_set: ReplicaSet, clock: Clock
):
    async with opened(name, request, clock) as store:
        session, other = await a_kept_session(store, clock), await a_kept_session(store, clock)
        events = SessionEvents(store.ended, asyncio.Event(), safety_poll_seconds=1)
        async with events.running():
            with events.watch(session.ref) as news, events.watch(other.ref) as others:
                async with without_primary(replica_set):
                    await ended_at_last(store, session)

                    assert await soon(news) == Reason.OPERATOR
                    assert not others.done()


@pytest.mark.parametrize("name", REPLICATED)
async def test_a_stop_waits_for_nothing_and_leaves_nothing_behind(
    name: str, request: pytest.FixtureRequest, replica_set: ReplicaSet, clock: Clock
):
    for _ in range(3):
        async with opened(name, request, clock) as store:
            followed = Followed(store.ended)
            events = SessionEvents(followed, asyncio.Event())
            async with asyncio.timeout(PATIENCE_SECONDS), events.running():
                with events.watch("somebody"):
                    await wait_until(lambda followed=followed: followed.told > 0)

    gc.collect()  # a connection that was left open would warn now, and warnings are errors
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await change_streams(replica_set):
            pass
