"""Sessions in MongoDB: a stolen database, a wrong key, leases by its clock, and a dead server."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.lock import _async_cond_wait, _async_create_condition, _async_create_lock

from app.bff.crypto import Vault
from app.bff.dev.mongod import Mongod
from app.bff.errors import StoreUnavailable
from app.bff.sessions.interfaces import TOMBSTONE_SECONDS
from app.bff.sessions.mongo.connection import TIMEOUT_SECONDS, connect, disconnect
from app.bff.sessions.mongo.events import MongoSessionEndSource
from app.bff.sessions.mongo.outages import GRACE_SECONDS, Outages
from app.bff.sessions.mongo.sessions import MongoSessions, to_bytes
from app.bff.sessions.session import Reason, Session, TokenSet, session_ref
from tests.bff.harness import KEY, Clock, new_session_id, wait_until

DATABASE = "test-mongo-sessions"  # one for all tests: every session has a ref of its own
DRIVERS = ["motor", "pymongo"]
OTHER_KEY = os.urandom(32)

Open = Callable[..., MongoSessions]


@pytest.fixture
def clock() -> Clock:
    return Clock(now=float(int(time.time())))  # MongoDB keeps milliseconds, and no less


@pytest.fixture(params=DRIVERS)
async def store_with(
    request: pytest.FixtureRequest, mongod: Mongod, clock: Clock
) -> AsyncIterator[Callable[..., MongoSessions]]:
    """Opens the store with a ring of keys, as a process with that ring would."""
    async with AsyncExitStack() as stack:

        def store_with(*keys: bytes, clock: Clock = clock, outages: Outages | None = None) -> MongoSessions:
            client = connect(f"{mongod.uri}/{DATABASE}", driver=request.param)
            store = MongoSessions(client, Vault(keys), clock=clock, outages=outages)
            stack.push_async_callback(store.close)
            return store

        yield store_with


@pytest.fixture
async def store(store_with: Open) -> MongoSessions:
    return store_with(KEY)


@pytest.fixture
async def records(mongod: Mongod) -> AsyncIterator[Any]:
    """The collection, read from the database, without a key."""
    client = connect(f"{mongod.uri}/{DATABASE}", driver="pymongo")
    yield client.get_default_database().get_collection("sessions")
    await client.close()


def a_session(clock: Clock, session_id: str | None = None) -> Session:
    now = clock()
    return Session(
        ref=session_ref(session_id or new_session_id()),
        issuer="https://provider.example",
        subject="subject-in-plain",
        sid="sid-in-plain",
        session_state="state-in-plain",
        claims={"sub": "subject-in-plain", "name": "name-in-plain", "email": "email-in-plain"},
        tokens=TokenSet("at-in-plain", now, now + 300, "rt-in-plain", "id-token-in-plain", "scope-in-plain"),
        created_at=now,
        renewed_at=now,
        expires_at=now + 3600,
    )


# What a stolen database shows


async def test_a_record_shows_no_token_no_claim_and_no_cookie(
    store: MongoSessions, records: Any, clock: Clock
):
    session_id = new_session_id()
    session = a_session(clock, session_id)
    await store.create(session)
    await store.save(session)

    raw = records.with_options(CodecOptions(document_class=RawBSONDocument))
    record = (await raw.find_one({"_id": session.ref})).raw
    assert b"in-plain" not in record
    assert session_id.encode() not in record


async def test_a_record_has_the_documented_fields(store: MongoSessions, records: Any, clock: Clock):
    session = a_session(clock)
    await store.create(session)

    record = await records.find_one({"_id": session.ref})
    names = {"_id", "user", "sid", "sealed", "version", "created_at", "renewed_at", "expires_at"}
    assert set(record) == names
    assert record["expires_at"].timestamp() == session.expires_at


async def test_a_record_is_found_under_the_sha_256_of_what_the_cookie_holds(
    store: MongoSessions, records: Any, clock: Clock
):
    await store.create(a_session(clock, "abc"))

    sha_256_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    deleted = await records.delete_one({"_id": sha_256_of_abc})
    assert deleted.deleted_count == 1
    assert await store.get(session_ref("abc")) is None


async def test_the_same_content_is_never_sealed_to_the_same_bytes(
    store: MongoSessions, records: Any, clock: Clock
):
    session = a_session(clock)
    await store.create(session)
    first = (await records.find_one({"_id": session.ref}))["sealed"]
    await store.save(session)
    second = (await records.find_one({"_id": session.ref}))["sealed"]

    assert first != second


async def test_sessions_of_one_user_have_the_same_tag_and_another_ring_gives_another(
    store_with: Open, records: Any, clock: Clock
):
    one, two, three = (a_session(clock) for _ in range(3))
    for session, key in ((one, KEY), (two, KEY), (three, OTHER_KEY)):
        await store_with(key).create(session)

    tags = [(await records.find_one({"_id": session.ref}))["user"] for session in (one, two, three)]
    assert tags[0] == tags[1] != tags[2]


# What does not open


async def test_a_record_with_the_content_of_another_does_not_open(
    store: MongoSessions, records: Any, clock: Clock, caplog: pytest.LogCaptureFixture
):
    mine, theirs = a_session(clock), a_session(clock)
    await store.create(mine)
    await store.create(theirs)
    stolen = await records.find_one({"_id": theirs.ref})
    await records.update_one({"_id": mine.ref}, {"$set": {"sealed": stolen["sealed"]}})

    assert await store.get(mine.ref) is None
    assert "session could not be decrypted" in caplog.messages
    assert await records.find_one({"_id": mine.ref}) is not None


@pytest.mark.parametrize("sealed", [b"", b"short", b"x" * 500], ids=["nothing", "too short", "nonsense"])
async def test_a_record_that_was_tampered_with_does_not_open(
    store: MongoSessions, records: Any, clock: Clock, sealed: bytes
):
    session = a_session(clock)
    await store.create(session)
    await records.update_one({"_id": session.ref}, {"$set": {"sealed": sealed}})

    assert await store.get(session.ref) is None


async def test_with_a_wrong_key_nothing_is_decrypted_and_nothing_is_deleted(
    store_with: Open, clock: Clock, caplog: pytest.LogCaptureFixture
):
    session = a_session(clock)
    await store_with(KEY).create(session)

    assert await store_with(OTHER_KEY).get(session.ref) is None
    assert ("session could not be decrypted", logging.ERROR) in [
        (r.message, r.levelno) for r in caplog.records
    ]
    assert await store_with(KEY).get(session.ref) == session


async def test_an_undecryptable_session_is_logged_without_its_ref(
    store_with: Open, clock: Clock, caplog: pytest.LogCaptureFixture
):
    session = a_session(clock)
    await store_with(KEY).create(session)
    await store_with(OTHER_KEY).get(session.ref)

    logged = str([vars(record) for record in caplog.records])
    assert session.ref[:8] in logged
    assert session.ref not in logged


# Key rotation


async def test_an_old_key_in_second_place_still_opens(store_with: Open, clock: Clock):
    session = a_session(clock)
    await store_with(OTHER_KEY).create(session)

    assert await store_with(KEY, OTHER_KEY).get(session.ref) == session


async def test_a_session_is_found_by_user_and_sid_under_an_old_key_too(store_with: Open, clock: Clock):
    session = a_session(clock)
    await store_with(OTHER_KEY).create(session)
    store = store_with(KEY, OTHER_KEY)

    assert session in await store.of_user(session.issuer, session.subject)
    assert session in await store.of_sid(session.issuer, session.sid)


async def test_saving_encrypts_with_the_first_key(store_with: Open, clock: Clock):
    session = a_session(clock)
    await store_with(OTHER_KEY).create(session)
    saved = await store_with(KEY, OTHER_KEY).save(session)

    assert await store_with(KEY).get(session.ref) == saved
    assert await store_with(OTHER_KEY).get(session.ref) is None


# Leases: by the clock of the database, whatever the clocks of the processes say


@pytest.fixture(params=[-10, 10], ids=["ten minutes slow", "ten minutes fast"])
async def skewed(request: pytest.FixtureRequest, store_with: Open, clock: Clock) -> MongoSessions:
    """The store of a process whose clock is wrong."""
    return store_with(KEY, clock=Clock(clock() + request.param * 60))


@pytest.fixture
async def session(store: MongoSessions, clock: Clock) -> Session:
    session = a_session(clock)
    await store.create(session)
    return session


async def test_a_skewed_clock_does_not_take_a_lease_over(
    store: MongoSessions, skewed: MongoSessions, session: Session
):
    assert await store.lease(session.ref, owner="right", seconds=30)
    assert await skewed.lease(session.ref, owner="skewed", seconds=30) is None


async def test_a_skewed_clock_acquires_a_lease_that_others_respect(
    store: MongoSessions, skewed: MongoSessions, session: Session
):
    assert await skewed.lease(session.ref, owner="skewed", seconds=30)
    assert await store.lease(session.ref, owner="right", seconds=30) is None


async def test_an_expired_lease_passes_on_whatever_the_clocks_say(
    store: MongoSessions, skewed: MongoSessions, session: Session
):
    await store.lease(session.ref, owner="right", seconds=0)
    assert await skewed.lease(session.ref, owner="skewed", seconds=0)
    assert await store.lease(session.ref, owner="right", seconds=30)


async def test_after_an_outage_no_lease_of_another_process_is_taken_over_for_some_seconds(
    store: MongoSessions, store_with: Open, session: Session, clock: Clock
):
    elapsed = Clock()
    outages = Outages(elapsed)
    witness = store_with(KEY, outages=outages)
    await store.lease(session.ref, owner="right", seconds=0)
    outages.failed()

    assert await witness.lease(session.ref, owner="witness", seconds=30) is None  # the store answers again
    elapsed.advance(GRACE_SECONDS - 0.1)
    assert await witness.lease(session.ref, owner="witness", seconds=30) is None
    assert await witness.lease(session.ref, owner="right", seconds=0)
    elapsed.advance(0.1)
    assert await witness.lease(session.ref, owner="witness", seconds=30)


async def test_after_an_outage_a_free_session_is_leased_at_once(store_with: Open, session: Session):
    outages = Outages()
    outages.failed()

    assert await store_with(KEY, outages=outages).lease(session.ref, owner="witness", seconds=30)


async def test_the_sealed_content_does_not_say_how_the_lease_was_acquired(clock: Clock):
    content = json.loads(to_bytes(replace(a_session(clock), lease_taken_over=True)))

    assert "lease_taken_over" not in content


async def test_a_lease_has_the_stored_format_of_earlier_releases(
    store: MongoSessions, records: Any, session: Session
):
    await store.lease(session.ref, owner="$me", seconds=30)
    lease = (await records.find_one({"_id": session.ref}))["lease"]

    assert lease.keys() == {"owner", "until"}
    assert lease["owner"] == "$me"
    assert 0 < lease["until"].timestamp() - time.time() <= 30.1


@pytest.mark.parametrize(("seconds", "passes"), [(30, False), (-1, True)], ids=["held", "expired"])
async def test_a_lease_of_an_earlier_release_counts_by_the_clock_of_the_database(
    store: MongoSessions, records: Any, session: Session, seconds: int, passes: bool
):
    lease = {"owner": "earlier", "until": datetime.fromtimestamp(time.time() + seconds, UTC)}
    await records.update_one({"_id": session.ref}, {"$set": {"lease": lease}})

    assert (await store.lease(session.ref, owner="me", seconds=30) is not None) == passes


# The database


async def test_mongodb_purges_expired_records(store: MongoSessions, records: Any):
    await store.open()

    indexes = await records.index_information()
    assert indexes["expires_at_-1"]["expireAfterSeconds"] == TOMBSTONE_SECONDS  # it has the logout hint


async def test_an_existing_ref_is_not_overwritten(store: MongoSessions, clock: Clock):
    session = a_session(clock)
    await store.create(session)

    with pytest.raises(StoreUnavailable):
        await store.create(replace(session, subject="mallory"))
    assert await store.get(session.ref) == session


@pytest.mark.parametrize("driver", DRIVERS)
async def test_the_default_database_is_bff(mongod: Mongod, clock: Clock, driver: str):
    client = connect(mongod.uri, driver=driver)
    store = MongoSessions(client, Vault([KEY]), clock=clock)
    session = a_session(clock)
    await store.create(session)

    assert await client["bff"]["sessions"].find_one({"_id": session.ref}) is not None
    await store.close()


# A database that is down


def every_operation_of(store: MongoSessions, session: Session) -> list[Any]:
    return [
        store.open(),
        store.ping(),
        store.create(session),
        store.get(session.ref),
        store.save(session),
        store.touch(session.ref, renewed_at=session.renewed_at, expires_at=session.expires_at),
        store.delete(session.ref, reason=Reason.SIGNED_OUT),
    ]


@pytest.fixture
def hanging_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield silent.getsockname()[1]


async def test_a_database_that_is_down_or_hangs_raises_store_unavailable_in_time(
    clock: Clock, hanging_port: int
):
    """All at once, since it takes as long as the time-out; Motor has fewer threads than this asks for."""
    uris = [f"mongodb://127.0.0.1:{port}/x" for port in (1, hanging_port)]  # no server listens on port 1
    clients = [connect(uri, driver=driver) for uri in uris for driver in DRIVERS]
    stores = [MongoSessions(client, Vault([KEY]), clock=clock) for client in clients]

    async with asyncio.timeout(TIMEOUT_SECONDS + 3):
        operations = [
            operation for store in stores for operation in every_operation_of(store, a_session(clock))
        ]
        for ended in (MongoSessionEndSource(client, clock=clock) for client in clients):
            operations += [ended.reasons(["any"]), anext(ended.watch())]
        results = await asyncio.gather(*operations, return_exceptions=True)

    assert [type(result) for result in results] == [StoreUnavailable] * len(operations)
    for store in stores:
        await store.close()


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_store_closes_without_a_warning_and_raises_afterwards(
    mongod: Mongod, clock: Clock, driver: str
):
    store = MongoSessions(connect(f"{mongod.uri}/{DATABASE}", driver=driver), Vault([KEY]), clock=clock)
    await store.ping()

    await store.close()
    await store.close()

    gc.collect()  # a connection that was left open would warn now, and warnings are errors
    with pytest.raises(StoreUnavailable):
        await store.ping()


async def test_operations_that_are_cancelled_twice_leave_the_driver_s_lock_free():
    client = connect("mongodb://127.0.0.1:1/bff", driver="pymongo")
    lock = _async_create_lock()
    condition = _async_create_condition(lock)

    async def operation() -> None:
        async with lock:
            await _async_cond_wait(condition, 60)

    operations = [asyncio.create_task(operation()) for _ in range(5)]
    await wait_until(lambda: len(condition._waiters) == 5)
    async with lock:
        for _ in range(2):  # two time-outs at the same moment
            for each in operations:
                each.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    ended = await asyncio.gather(*operations, return_exceptions=True)

    assert {type(each) for each in ended} == {asyncio.CancelledError}
    async with asyncio.timeout(5), lock:
        await disconnect(client)
