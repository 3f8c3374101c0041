"""What every SessionEndSource promises, and how SessionEvents notifies listeners."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Collection, Iterator, Mapping
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest

from app.bff.backoff import SESSION_SAFETY_POLL_SECONDS
from app.bff.crypto import Vault
from app.bff.dev.mongod import Mongod, find_mongod
from app.bff.errors import StoreUnavailable
from app.bff.sessions.events import EndSignal, SessionEvents
from app.bff.sessions.interfaces import TOMBSTONE_SECONDS, SessionEndSource, SessionStore
from app.bff.sessions.memory import MemorySessions
from app.bff.sessions.mongo.connection import connect
from app.bff.sessions.mongo.events import MongoSessionEndSource
from app.bff.sessions.mongo.sessions import MongoSessions
from app.bff.sessions.session import Reason, Session, session_ref
from tests.bff.harness import KEY, Clock, new_session_id, wait_until
from tests.bff.replica_set import ReplicaSet
from tests.bff.test_session_store import a_session

DATABASE = "test-session-ends"
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
    """A store with a change stream."""
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


async def soon(signal: EndSignal) -> Reason | None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await signal


async def a_stored_session(store: Store, clock: Clock, **changed: Any) -> Session:
    session = a_session(clock, **changed)
    await store.sessions.create(session)
    return session


# What every store knows


async def test_a_live_session_has_no_reason(store: Store, clock: Clock):
    session = await a_stored_session(store, clock)

    assert await store.ended.reasons([session.ref]) == {}


async def test_the_reason_of_a_deleted_session_is_known(store: Store, clock: Clock):
    ended, living = await a_stored_session(store, clock), await a_stored_session(store, clock)
    await store.sessions.delete(ended.ref, reason=Reason.OPERATOR)

    assert await store.ended.reasons([ended.ref, living.ref]) == {ended.ref: Reason.OPERATOR}


async def test_a_session_without_a_tombstone_has_expired(store: Store, clock: Clock):
    session = await a_stored_session(store, clock)
    clock.advance(session.expires_at - clock() - 1)
    assert await store.ended.reasons([session.ref]) == {}
    clock.advance(1)

    never_there = session_ref(new_session_id())
    expected = dict.fromkeys([session.ref, never_there], Reason.EXPIRED)
    assert await store.ended.reasons([session.ref, never_there]) == expected


async def test_the_first_reason_stays(store: Store, clock: Clock):
    session = await a_stored_session(store, clock)
    await store.sessions.delete(session.ref, reason=Reason.SIGNED_OUT)
    await store.sessions.delete(session.ref, reason=Reason.PROVIDER)

    assert await store.ended.reasons([session.ref]) == {session.ref: Reason.SIGNED_OUT}


async def test_deleting_an_expired_session_leaves_the_reason_expired(store: Store, clock: Clock):
    session = await a_stored_session(store, clock)
    clock.advance(session.expires_at - clock())
    await store.sessions.delete(session.ref, reason=Reason.SIGNED_OUT)

    assert await store.ended.reasons([session.ref]) == {session.ref: Reason.EXPIRED}


async def changed_claims(store: Store, session: Session, changes: int) -> Session:
    """Save it as a refresh does that has changed its claims."""
    saved = await store.sessions.save(replace(session, claims={"changes": changes}, changes=changes))
    assert saved is not None
    return saved


async def test_of_a_live_session_it_is_known_how_often_its_claims_have_changed(store: Store, clock: Clock):
    session = await changed_claims(store, await a_stored_session(store, clock), 1)
    assert await store.ended.reasons([session.ref]) == {session.ref: 1}
    await store.sessions.save(session)
    assert await store.ended.reasons([session.ref]) == {session.ref: 1}
    await store.sessions.delete(session.ref, reason=Reason.SIGNED_OUT)

    assert await store.ended.reasons([session.ref]) == {session.ref: Reason.SIGNED_OUT}


# What is left of a session is no session


async def test_a_tombstone_is_no_session_to_any_method(store: Store, clock: Clock):
    session = await a_stored_session(store, clock, subject=new_session_id(), sid=new_session_id())
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
async def test_in_mongodb_a_tombstone_is_a_reason_an_expiry_and_a_sealed_hint(
    mongod: Mongod, clock: Clock, driver: str
):
    client = connect(f"{mongod.uri}/{DATABASE}", driver=driver)
    store = Store(
        MongoSessions(client, Vault([KEY]), clock=clock), MongoSessionEndSource(client, clock=clock)
    )
    session = await a_stored_session(store, clock)
    await store.sessions.delete(session.ref, reason=Reason.SIGNED_OUT)
    await store.sessions.open()

    records = client.get_default_database()["sessions"]
    left = await records.find_one({"_id": session.ref})
    assert left.pop("forget_at").timestamp() == clock() + TOMBSTONE_SECONDS
    assert left.pop("hint")
    assert left == {"_id": session.ref, "ended": "signed_out"}
    assert (await records.index_information())["forget_at_1"]["expireAfterSeconds"] == 0
    await store.sessions.close()


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_an_unknown_reason_of_a_newer_release_is_read_as_expired(
    mongod: Mongod, clock: Clock, driver: str
):
    client = connect(f"{mongod.uri}/{DATABASE}", driver=driver)
    ref = session_ref(new_session_id())
    await client.get_default_database()["sessions"].insert_one({"_id": ref, "ended": "full moon"})

    assert await MongoSessionEndSource(client, clock=clock).reasons([ref]) == {ref: Reason.EXPIRED}
    await MongoSessions(client, Vault([KEY]), clock=clock).close()


# The feed of ends


async def test_the_feed_yields_ends_from_now_on(telling: Store, clock: Clock):
    before, after = await a_stored_session(telling, clock), await a_stored_session(telling, clock)
    await telling.sessions.delete(before.ref, reason=Reason.SIGNED_OUT)
    async with aclosing(telling.ended.watch()) as batches:
        assert await anext(batches) == {}
        await telling.sessions.touch(after.ref, renewed_at=clock(), expires_at=clock() + MINUTE)
        await telling.sessions.save(after)
        await telling.sessions.delete(after.ref, reason=Reason.TOO_MANY)

        assert await anext(batches) == {after.ref: Reason.TOO_MANY}


async def test_the_feed_yields_changes_of_claims_and_no_other_write(telling: Store, clock: Clock):
    session = await a_stored_session(telling, clock)
    async with aclosing(telling.ended.watch()) as batches:
        assert await anext(batches) == {}
        changed = await changed_claims(telling, session, 1)
        unchanged = await telling.sessions.save(changed)
        assert unchanged is not None
        await changed_claims(telling, unchanged, 2)

        assert [await anext(batches), await anext(batches)] == [{session.ref: 1}, {session.ref: 2}]


async def test_the_feed_yields_an_empty_heartbeat_every_second(telling: Store):
    async with aclosing(telling.ended.watch()) as batches, asyncio.timeout(5):
        assert [await anext(batches) for _ in range(2)] == [{}, {}]


@pytest.mark.parametrize("name", REPLICATED)
async def test_the_feed_yields_records_deleted_by_hand(
    name: str, request: pytest.FixtureRequest, clock: Clock
):
    async with opened(name, request, clock) as store:
        session = await a_stored_session(store, clock)
        async with aclosing(store.ended.watch()) as batches:
            await anext(batches)
            await remove(request.getfixturevalue("replica_set"), session)

            assert await anext(batches) == {session.ref: Reason.EXPIRED}


@pytest.mark.parametrize("name", STANDALONE)
async def test_a_database_without_change_streams_ends_the_feed(
    name: str, request: pytest.FixtureRequest, clock: Clock
):
    async with opened(name, request, clock) as store:
        assert [batch async for batch in store.ended.watch()] == []


# Listeners, without a feed


class Ended:
    """The SessionEndSource of a test: what is over, and what was polled."""

    def __init__(self) -> None:
        self.over: dict[str, Reason] = {}
        self.polls: list[list[str]] = []
        self.answers = True
        self.trouble: Exception | None = None
        self.has_feed = False
        self.feed = asyncio.Queue[dict[str, Reason]]()
        self.is_followed = False

    async def reasons(self, refs: Collection[str]) -> dict[str, Reason]:
        self.polls.append(sorted(refs))
        if not self.answers:
            raise StoreUnavailable
        if self.trouble:
            raise self.trouble
        return {ref: self.over[ref] for ref in refs if ref in self.over}

    async def watch(self) -> AsyncGenerator[dict[str, Reason]]:
        self.is_followed = self.has_feed
        try:
            while self.has_feed:
                yield {}
                yield await self.feed.get()
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
    """With a safety poll of an hour, if there is a feed."""
    events = SessionEvents(ended, stopping, poll_seconds=0.001, safety_poll_seconds=HOUR)
    async with events.running():
        yield events


async def test_a_listener_is_notified_with_the_reason(events: SessionEvents, ended: Ended):
    with events.watch("mine") as signal, events.watch("other") as others:
        ended.over["mine"] = Reason.PROVIDER

        assert await soon(signal) == Reason.PROVIDER
        assert not others.done()


async def test_all_watched_sessions_are_polled_in_one_query(events: SessionEvents, ended: Ended):
    with events.watch("a"), events.watch("b"), events.watch("b"), events.watch(None):
        await wait_until(lambda: len(ended.polls) > 2)

    assert ended.polls[-1] == ["a", "b"]


async def test_an_unexpected_exception_is_logged_and_stops_nothing(
    events: SessionEvents, ended: Ended, caplog: pytest.LogCaptureFixture
):
    ended.trouble = ValueError("a record of another kind")
    with events.watch("mine") as signal:
        await wait_until(lambda: len(ended.polls) > 2)
        ended.trouble = None
        ended.over["mine"] = Reason.SIGNED_OUT

        assert await soon(signal) == Reason.SIGNED_OUT
    assert {record.message for record in caplog.records} == {"ended sessions could not be looked up"}


async def test_an_unavailable_store_ends_nothing(events: SessionEvents, ended: Ended):
    ended.answers = False
    with events.watch("mine") as signal:
        await wait_until(lambda: len(ended.polls) > 5)
        assert not signal.done()
        ended.over["mine"] = Reason.SIGNED_OUT
        ended.answers = True

        assert await soon(signal) == Reason.SIGNED_OUT


# Listeners, with a feed


@pytest.fixture
async def listener(events: SessionEvents, ended: Ended) -> AsyncIterator[EndSignal]:
    """A listener whose session will not be polled again for an hour."""
    ended.has_feed = True
    with events.watch("listener") as listener:
        await wait_until(lambda: ended.is_followed)
        polls = len(ended.polls)
        await wait_until(lambda: len(ended.polls) > polls)
        yield listener


async def test_with_a_feed_only_new_listeners_are_polled(
    listener: EndSignal, events: SessionEvents, ended: Ended
):
    with events.watch("later"):
        await wait_until(lambda: ["later"] in ended.polls)


async def test_an_end_in_the_feed_notifies_the_listener(listener: EndSignal, ended: Ended):
    ended.feed.put_nowait({"listener": Reason.OPERATOR, "another": Reason.SIGNED_OUT})

    assert await soon(listener) == Reason.OPERATOR


async def test_an_end_before_the_listener_joined_is_found(
    listener: EndSignal, events: SessionEvents, ended: Ended
):
    ended.over["mine"] = Reason.SIGNED_OUT
    with events.watch("mine") as signal:
        assert await soon(signal) == Reason.SIGNED_OUT


async def test_an_end_before_the_listener_joined_is_found_after_the_store_has_recovered(
    listener: EndSignal, events: SessionEvents, ended: Ended
):
    ended.answers = False
    ended.over["mine"] = Reason.SIGNED_OUT
    with events.watch("mine") as signal:
        await wait_until(lambda: ["mine"] in ended.polls)
        ended.answers = True

        assert await soon(signal) == Reason.SIGNED_OUT


async def test_an_end_after_the_feed_has_stopped_is_found(listener: EndSignal, ended: Ended):
    ended.has_feed = False
    ended.feed.put_nowait({})
    await wait_until(lambda: not ended.is_followed)
    ended.over["listener"] = Reason.SIGNED_OUT

    assert await soon(listener) == Reason.SIGNED_OUT


async def test_an_end_that_the_feed_does_not_report_in_time_is_polled(ended: Ended):
    ended.has_feed = True
    events = SessionEvents(ended, asyncio.Event(), poll_seconds=0.001, safety_poll_seconds=0.02)
    async with events.running():
        with events.watch("mine") as signal:
            await wait_until(lambda: ended.is_followed and len(ended.polls) > 1)
            ended.over["mine"] = Reason.SIGNED_OUT

            assert await soon(signal) == Reason.SIGNED_OUT


def test_the_feed_is_checked_every_few_seconds():
    assert SESSION_SAFETY_POLL_SECONDS <= 5


class Flapping:
    """The SessionEndSource of a memory store; each feed ends after so many batches, or never (None)."""

    def __init__(self, sessions: MemorySessions, batches: int | None) -> None:
        self._sessions = sessions
        self._batches = batches

    async def reasons(self, refs: Collection[str]) -> Mapping[str, Reason]:
        await asyncio.sleep(0)
        found = await self._sessions.reasons(refs)
        await asyncio.sleep(0)  # what was found is out of date by now
        return found

    async def watch(self) -> AsyncGenerator[Mapping[str, Reason]]:
        await asyncio.sleep(0)
        seen = 0
        async with aclosing(self._sessions.watch()) as batches:
            async for batch in batches:
                if seen == self._batches:
                    return  # and this batch is lost
                seen += 1
                yield batch
                await asyncio.sleep(0)


@pytest.mark.parametrize("others", [0, 1], ids=["the first listener", "one listener more"])
@pytest.mark.parametrize("batches", [None, 0, 1, 2])
async def test_an_end_at_any_moment_around_the_joining_of_its_listener_is_heard(
    batches: int | None, others: int, clock: Clock
):
    for steps in range(25):
        sessions = MemorySessions(clock=clock)
        session = a_session(clock)
        await sessions.create(session)
        events = SessionEvents(
            Flapping(sessions, batches), asyncio.Event(), poll_seconds=0.001, safety_poll_seconds=HOUR
        )
        async with events.running():
            with ExitStack() as stack:
                for number in range(others):
                    stack.enter_context(events.watch(f"other {number}"))
                    await asyncio.sleep(0.002)
                end = asyncio.create_task(after(steps, sessions.delete(session.ref, reason=Reason.OPERATOR)))
                for _ in range(5):
                    await asyncio.sleep(0)  # so that the first ends come before the listener
                signal = stack.enter_context(events.watch(session.ref))

                assert await soon(signal) == Reason.OPERATOR, steps
                await end


async def after(steps: int, work: Awaitable[Any]) -> None:
    """Some steps are turns of the event loop, the others parts of the time between two polls."""
    for step in range(steps):
        await asyncio.sleep(0 if step < 10 else 0.0003)
    await work


async def test_without_listeners_the_store_is_not_queried(events: SessionEvents, ended: Ended):
    ended.has_feed = True
    with events.watch("a"):
        await wait_until(lambda: ended.is_followed)
    ended.feed.put_nowait({})
    await wait_until(lambda: not ended.is_followed)
    ended.polls.clear()
    with events.watch(None):
        for _ in range(1000):
            await asyncio.sleep(0)

    assert ended.polls == []


async def test_a_stop_notifies_all_listeners_without_a_reason(events: SessionEvents, stopping: asyncio.Event):
    with events.watch("a") as signal, events.watch(None) as without_session:
        stopping.set()

        assert await soon(signal) is None
        assert await soon(without_session) is None


async def test_a_listener_that_joins_during_a_stop_is_notified_at_once(
    events: SessionEvents, stopping: asyncio.Event
):
    stopping.set()
    with events.watch("a") as signal:
        assert signal.result() is None


async def test_a_listener_is_notified_once(events: SessionEvents, ended: Ended):
    ended.over["mine"] = Reason.SIGNED_OUT
    with events.watch("mine") as signal:
        assert await soon(signal) == Reason.SIGNED_OUT
        await wait_until(lambda: len(ended.polls) > 2)  # and is not notified again


# From process to process


@dataclass
class Followed:
    """A SessionEndSource that counts the batches of its feed."""

    ended: SessionEndSource
    batches: int = 0

    async def reasons(self, refs: Collection[str]) -> Mapping[str, Reason]:
        return await self.ended.reasons(refs)

    async def watch(self) -> AsyncGenerator[Mapping[str, Reason]]:
        async with aclosing(self.ended.watch()) as batches:
            async for batch in batches:
                self.batches += 1
                yield batch


@pytest.mark.parametrize("name", [*STANDALONE, *REPLICATED])
async def test_an_end_in_another_process_notifies_the_listener(
    name: str, request: pytest.FixtureRequest, clock: Clock
):
    async with opened(name, request, clock) as ours, opened(name, request, clock) as theirs:
        session = await a_stored_session(ours, clock)
        events = SessionEvents(ours.ended, asyncio.Event())
        async with events.running():
            with events.watch(session.ref) as signal:
                await theirs.sessions.delete(session.ref, reason=Reason.SIGNED_OUT_ELSEWHERE)

                assert await soon(signal) == Reason.SIGNED_OUT_ELSEWHERE


@pytest.mark.parametrize("name", REPLICATED)
async def test_a_hundred_ends_while_their_listeners_join_are_all_heard(
    name: str, request: pytest.FixtureRequest, clock: Clock
):
    async with opened(name, request, clock) as ours, opened(name, request, clock) as theirs:
        sessions = [await a_stored_session(ours, clock) for _ in range(100)]
        events = SessionEvents(ours.ended, asyncio.Event(), safety_poll_seconds=HOUR)

        async def heard(session: Session, seconds: float) -> Reason | None:
            await asyncio.sleep(seconds)
            with events.watch(session.ref) as signal:
                return await soon(signal)

        async with events.running(), asyncio.TaskGroup() as group:
            waits = [group.create_task(heard(each, number % 7 / 5)) for number, each in enumerate(sessions)]
            for session in sessions:
                await theirs.sessions.delete(session.ref, reason=Reason.OPERATOR)
        assert {wait.result() for wait in waits} == {Reason.OPERATOR}


@pytest.mark.parametrize("name", REPLICATED)
async def test_after_a_failover_of_the_primary_listeners_are_notified_again(
    name: str, request: pytest.FixtureRequest, replica_set: ReplicaSet, clock: Clock
):
    async with opened(name, request, clock) as store:
        session, other = await a_stored_session(store, clock), await a_stored_session(store, clock)
        events = SessionEvents(store.ended, asyncio.Event(), safety_poll_seconds=1)
        async with events.running():
            with events.watch(session.ref) as signal, events.watch(other.ref) as others:
                async with without_primary(replica_set):
                    await ended_at_last(store, session)

                    assert await soon(signal) == Reason.OPERATOR
                    assert not others.done()


@pytest.mark.parametrize("name", REPLICATED)
async def test_a_stop_is_immediate_and_leaves_no_task(
    name: str, request: pytest.FixtureRequest, replica_set: ReplicaSet, clock: Clock
):
    for _ in range(3):
        async with opened(name, request, clock) as store:
            followed = Followed(store.ended)
            events = SessionEvents(followed, asyncio.Event())
            async with asyncio.timeout(PATIENCE_SECONDS), events.running():
                with events.watch("another"):
                    await wait_until(lambda followed=followed: followed.batches > 0)

    gc.collect()  # a connection that was left open would warn now, and warnings are errors
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await change_streams(replica_set):
            pass
