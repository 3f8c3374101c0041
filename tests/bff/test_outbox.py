"""What every Outbox promises; and MongoDB's when stolen, killed, dead, or opened with a wrong key."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import signal
import socket
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from app.bff.crypto import Vault
from app.bff.dev.mongod import Mongod, find_mongod
from app.bff.errors import StoreUnavailable
from app.bff.sessions.interfaces import Outbox, Pending, new_pending
from app.bff.sessions.memory import MemoryOutbox
from app.bff.sessions.mongo.connection import TIMEOUT_SECONDS, connect, disconnect
from app.bff.sessions.mongo.outbox import MongoOutbox
from app.bff.sessions.session import Reason
from tests.bff.harness import KEY, Clock

DATABASE = "test-outbox"  # one for all tests, emptied before each: a new one takes longer than its test
DRIVERS = ["motor", "pymongo"]
OTHER_KEY = os.urandom(32)
ISSUER = "https://provider.example"

Open = Callable[..., MongoOutbox]


@pytest.fixture
def clock() -> Clock:
    return Clock(now=float(int(time.time())))  # MongoDB keeps milliseconds, and no less


@asynccontextmanager
async def connected(uri: str, driver: str) -> AsyncIterator[Any]:
    client = connect(uri, driver=driver)
    yield client
    await disconnect(client)


@pytest.fixture
async def records(mongod: Mongod) -> AsyncIterator[Any]:
    """The collection, read from the database, without a key."""
    async with connected(f"{mongod.uri}/{DATABASE}", "pymongo") as client:
        records = client.get_default_database().get_collection("revocations")
        await records.delete_many({})
        yield records


@pytest.fixture(params=["memory", *DRIVERS])
async def outbox(
    request: pytest.FixtureRequest, mongod: Mongod, records: Any, clock: Clock
) -> AsyncIterator[Outbox]:
    if request.param == "memory":
        yield MemoryOutbox(clock=clock)
        return
    async with connected(f"{mongod.uri}/{DATABASE}", request.param) as client:
        outbox = MongoOutbox(client, Vault([KEY]), clock=clock)
        await outbox.open()
        yield outbox


@pytest.fixture(params=DRIVERS)
async def outbox_with(
    request: pytest.FixtureRequest, mongod: Mongod, records: Any, clock: Clock
) -> AsyncIterator[Open]:
    """Opens the outbox with a ring of keys, as a process with that ring would."""
    async with AsyncExitStack() as stack:

        async def outbox_with(*keys: bytes, clock: Callable[[], float] = clock) -> MongoOutbox:
            client = await stack.enter_async_context(connected(f"{mongod.uri}/{DATABASE}", request.param))
            outbox = MongoOutbox(client, Vault(keys), clock=clock)
            await outbox.open()
            return outbox

        yield outbox_with


async def an_entry(
    outbox: Outbox, clock: Clock, token: str = "rt-in-plain", *, due: float = 0, lasts: float = 3600
) -> Pending:
    """Put a token into the outbox that is due, and over, so many seconds from now."""
    pending = new_pending(ISSUER, token, expires_at=clock() + lasts)
    await outbox.put([pending], due_at=clock() + due)
    return pending


async def claimed(outbox: Outbox, clock: Clock, *, seconds: float = 30) -> str | None:
    """Claim for so long, and say which token it was."""
    pending = await outbox.claim(until=clock() + seconds)
    return pending.refresh_token if pending else None


# Putting


async def test_nothing_is_due_in_an_empty_outbox(outbox: Outbox, clock: Clock):
    assert await claimed(outbox, clock) is None


async def test_an_entry_is_claimed_unchanged(outbox: Outbox, clock: Clock):
    pending = await an_entry(outbox, clock, "rt-1")
    of_a_session = replace(pending, id="2", client_id="app", ref="ref-1", reason=Reason.PROVIDER)
    await outbox.put([of_a_session], due_at=clock() + 1)

    assert replace(pending, id="") == Pending("", ISSUER, "rt-1", clock() + 3600, tries=0)
    assert await outbox.claim(until=clock() + 30) == replace(pending, tries=1)
    clock.advance(1)
    assert await outbox.claim(until=clock() + 30) == replace(of_a_session, tries=1)


async def test_an_entry_is_claimed_by_its_id_before_it_is_due(outbox: Outbox, clock: Clock):
    _, one = await an_entry(outbox, clock, "due"), await an_entry(outbox, clock, "one", due=60)

    assert await outbox.claim(until=clock() + 30, pending_id=one.id) == replace(one, tries=1)
    clock.advance(60)
    assert await claimed(outbox, clock) == "due"
    assert await claimed(outbox, clock) == "one"


async def test_an_id_that_is_gone_or_expired_claims_nothing(outbox: Outbox, clock: Clock):
    one, other = await an_entry(outbox, clock, lasts=60), await an_entry(outbox, clock)
    await outbox.remove(other.id)
    clock.advance(60)

    assert [await outbox.claim(until=clock() + 9, pending_id=each.id) for each in (one, other)] == [None] * 2


async def test_an_id_is_random_and_contains_nothing_of_the_token(outbox: Outbox, clock: Clock):
    ids = {(await an_entry(outbox, clock)).id for _ in range(10)}

    assert len(ids) == 10
    assert {len(id_) for id_ in ids} == {32}


async def test_a_refresh_token_shows_in_no_repr(outbox: Outbox, clock: Clock):
    assert "rt-in-plain" not in repr(await an_entry(outbox, clock))


# What is due


async def test_nothing_is_claimed_before_it_is_due(outbox: Outbox, clock: Clock):
    await an_entry(outbox, clock, "rt-1", due=60)

    clock.advance(59)
    assert await claimed(outbox, clock) is None
    clock.advance(1)
    assert await claimed(outbox, clock) == "rt-1"


async def test_the_entry_that_is_due_for_longest_comes_first(outbox: Outbox, clock: Clock):
    for token, due in (("second", -20), ("not yet", 1), ("third", -10), ("first", -30)):
        await an_entry(outbox, clock, token, due=due)

    order = [await claimed(outbox, clock) for _ in range(4)]

    assert order == ["first", "second", "third", None]


async def test_an_expired_entry_is_not_claimed(outbox: Outbox, clock: Clock):
    await an_entry(outbox, clock, "rt-1", lasts=3600)
    await an_entry(outbox, clock, "rt-2", lasts=3601)

    clock.advance(3600)

    assert [await claimed(outbox, clock) for _ in range(2)] == ["rt-2", None]


# Claiming


async def test_a_claim_is_exclusive_until_its_time_has_passed(outbox: Outbox, clock: Clock):
    await an_entry(outbox, clock, "rt-1")
    await claimed(outbox, clock, seconds=30)

    clock.advance(29)
    assert await claimed(outbox, clock) is None
    clock.advance(1)
    assert await claimed(outbox, clock) == "rt-1"


async def test_each_claim_counts_as_a_try(outbox: Outbox, clock: Clock):
    await an_entry(outbox, clock)

    tries = []
    for _ in range(3):
        tries.append((await outbox.claim(until=clock() + 30)).tries)
        clock.advance(30)

    assert tries == [1, 2, 3]


async def test_a_claimed_entry_goes_behind_those_that_are_due(outbox: Outbox, clock: Clock):
    await an_entry(outbox, clock, "first", due=-20)
    await claimed(outbox, clock, seconds=30)
    await an_entry(outbox, clock, "second", due=10)
    clock.advance(30)

    assert [await claimed(outbox, clock) for _ in range(2)] == ["second", "first"]


async def test_a_claim_does_not_extend_the_expiry(outbox: Outbox, clock: Clock):
    await an_entry(outbox, clock, lasts=60)
    await claimed(outbox, clock, seconds=60)

    clock.advance(60)

    assert await claimed(outbox, clock) is None


async def test_of_many_claims_at_once_each_gets_another_entry_or_none(outbox: Outbox, clock: Clock):
    entries = {(await an_entry(outbox, clock)).id for _ in range(10)}

    claims = await asyncio.gather(*(outbox.claim(until=clock() + 30) for _ in range(20)))

    assert sorted(pending.id for pending in claims if pending) == sorted(entries)


# Postponing


async def test_a_postponed_entry_is_claimed_when_it_is_due_again(outbox: Outbox, clock: Clock):
    await an_entry(outbox, clock)
    pending = await outbox.claim(until=clock() + 30)

    await outbox.postpone(pending.id, due_at=clock() + 600)

    clock.advance(599)
    assert await outbox.claim(until=clock() + 30) is None
    clock.advance(1)
    assert await outbox.claim(until=clock() + 30) == replace(pending, tries=2)


async def test_postponing_ends_a_claim_early(outbox: Outbox, clock: Clock):
    pending = await an_entry(outbox, clock, "rt-1")
    await claimed(outbox, clock, seconds=30)

    await outbox.postpone(pending.id, due_at=clock() + 1)

    clock.advance(1)
    assert await claimed(outbox, clock) == "rt-1"


async def test_postponing_one_leaves_the_others(outbox: Outbox, clock: Clock):
    _, one = await an_entry(outbox, clock, "other"), await an_entry(outbox, clock, "one")

    await outbox.postpone(one.id, due_at=clock() + 60)

    assert [await claimed(outbox, clock) for _ in range(2)] == ["other", None]


async def test_postponing_does_not_restore_a_removed_entry(outbox: Outbox, clock: Clock):
    pending = await an_entry(outbox, clock)
    await outbox.remove(pending.id)

    await outbox.postpone(pending.id, due_at=clock())

    assert await claimed(outbox, clock) is None


# Removing


async def test_a_removed_entry_is_never_claimed_again(outbox: Outbox, clock: Clock):
    pending = await an_entry(outbox, clock)
    await claimed(outbox, clock, seconds=30)

    await outbox.remove(pending.id)

    clock.advance(30)
    assert await claimed(outbox, clock) is None


async def test_removing_one_leaves_the_others(outbox: Outbox, clock: Clock):
    _, one = await an_entry(outbox, clock, "other"), await an_entry(outbox, clock, "one")

    await outbox.remove(one.id)

    assert [await claimed(outbox, clock) for _ in range(2)] == ["other", None]


async def test_removing_twice_is_harmless(outbox: Outbox, clock: Clock):
    pending = await an_entry(outbox, clock)

    await outbox.remove(pending.id)
    await outbox.remove(pending.id)


# The outbox itself


async def test_opening_twice_is_harmless(outbox: Outbox, clock: Clock):
    await an_entry(outbox, clock, "rt-1")

    await outbox.open()
    await outbox.open()

    assert await claimed(outbox, clock) == "rt-1"


@pytest.mark.parametrize("using_it", [an_entry, claimed])
async def test_memory_purges_expired_entries_at_each_use(clock: Clock, using_it: Callable[..., Any]):
    outbox = MemoryOutbox(clock=clock)
    still_there = weakref.ref(await an_entry(outbox, clock, lasts=60))
    assert still_there() is not None

    clock.advance(60)
    await using_it(outbox, clock)

    assert still_there() is None


# What a stolen database shows


async def test_a_record_shows_neither_the_token_nor_its_issuer(outbox_with: Open, records: Any, clock: Clock):
    outbox = await outbox_with(KEY)
    pending = await an_entry(outbox, clock, "rt-in-plain")
    await outbox.claim(until=clock() + 30)
    await outbox.postpone(pending.id, due_at=clock() + 60)

    raw = records.with_options(CodecOptions(document_class=RawBSONDocument))
    record = (await raw.find_one({"_id": pending.id})).raw
    assert b"rt-in-plain" not in record
    assert b"provider.example" not in record


async def test_a_record_has_these_members(outbox_with: Open, records: Any, clock: Clock):
    pending = await an_entry(await outbox_with(KEY), clock, due=10, lasts=60)

    record = await records.find_one({"_id": pending.id})

    assert set(record) == {"_id", "sealed", "due_at", "expires_at", "tries"}
    assert record["due_at"].timestamp() == clock() + 10
    assert record["expires_at"].timestamp() == clock() + 60
    assert record["tries"] == 0


async def test_an_entry_of_an_earlier_release_is_read(outbox_with: Open, records: Any, clock: Clock):
    pending = await an_entry(outbox := await outbox_with(KEY), clock)
    earlier = json.dumps({"issuer": ISSUER, "refresh_token": "rt-1"}).encode()
    sealed = Vault([KEY]).seal(earlier, place=f"revocation {pending.id}")
    await records.update_one({"_id": pending.id}, {"$set": {"sealed": sealed}})

    assert await outbox.claim(until=clock() + 30) == replace(pending, refresh_token="rt-1", tries=1)


async def test_the_same_token_is_never_sealed_to_the_same_bytes(
    outbox_with: Open, records: Any, clock: Clock
):
    outbox = await outbox_with(KEY)
    for _ in range(2):
        await an_entry(outbox, clock, "rt-in-plain")

    assert len(await records.distinct("sealed")) == 2


# What does not open


async def test_a_record_with_the_content_of_another_does_not_open(
    outbox_with: Open, records: Any, clock: Clock, caplog: pytest.LogCaptureFixture
):
    outbox = await outbox_with(KEY)
    mine, theirs = await an_entry(outbox, clock, "mine"), await an_entry(outbox, clock, "theirs")
    stolen = await records.find_one({"_id": theirs.id})
    await records.update_one({"_id": mine.id}, {"$set": {"sealed": stolen["sealed"]}})

    assert [await claimed(outbox, clock) for _ in range(2)] == ["theirs", None]
    assert caplog.messages == ["revocation could not be decrypted"]


@pytest.mark.parametrize("sealed", [b"", b"short", b"x" * 500], ids=["nothing", "too short", "nonsense"])
async def test_a_record_that_was_tampered_with_does_not_open(
    outbox_with: Open, records: Any, clock: Clock, sealed: bytes
):
    outbox = await outbox_with(KEY)
    pending = await an_entry(outbox, clock)
    await records.update_one({"_id": pending.id}, {"$set": {"sealed": sealed}})

    assert await claimed(outbox, clock) is None


async def test_an_undecryptable_entry_does_not_block_others(outbox_with: Open, clock: Clock):
    for _ in range(3):
        await an_entry(await outbox_with(OTHER_KEY), clock, "not ours", due=-60)
    outbox = await outbox_with(KEY)
    await an_entry(outbox, clock, "ours")

    assert [await claimed(outbox, clock) for _ in range(2)] == ["ours", None]


async def test_an_undecryptable_entry_stays_for_the_process_with_its_key(outbox_with: Open, clock: Clock):
    right, wrong = await outbox_with(KEY), await outbox_with(OTHER_KEY)
    await an_entry(right, clock, "rt-1")

    assert await claimed(wrong, clock, seconds=30) is None
    clock.advance(30)
    assert await claimed(right, clock) == "rt-1"


async def test_an_undecryptable_entry_is_logged_as_an_error_with_its_id(
    outbox_with: Open, clock: Clock, caplog: pytest.LogCaptureFixture
):
    pending = await an_entry(await outbox_with(KEY), clock)
    await claimed(await outbox_with(OTHER_KEY), clock)

    [logged] = caplog.records
    assert (logged.levelno, logged.revocation) == (logging.ERROR, pending.id)
    assert logged.reason == "sealed with a key that is not in the ring"


async def test_an_undecryptable_entry_is_claimed_once_per_call_however_long_that_takes(
    outbox_with: Open, clock: Clock, caplog: pytest.LogCaptureFixture
):
    minutes = itertools.count(clock(), 60)  # each look at the clock is a minute after the last
    outbox = await outbox_with(OTHER_KEY, clock=lambda: next(minutes))
    await an_entry(await outbox_with(KEY), clock)

    assert await claimed(outbox, clock, seconds=30) is None
    assert caplog.messages == ["revocation could not be decrypted"]


async def test_an_old_key_in_second_place_still_opens(outbox_with: Open, clock: Clock):
    await an_entry(await outbox_with(OTHER_KEY), clock, "rt-1")

    assert await claimed(await outbox_with(KEY, OTHER_KEY), clock) == "rt-1"


# The database


async def test_mongodb_has_indexes_for_expiry_and_due_time(outbox_with: Open, records: Any):
    await records.drop_indexes()
    await outbox_with(KEY)

    indexes = await records.index_information()
    assert indexes["expires_at_1"]["expireAfterSeconds"] == 0
    assert "expireAfterSeconds" not in indexes["due_at_1"]


async def test_postponing_a_removed_entry_creates_no_record(outbox_with: Open, records: Any, clock: Clock):
    await (await outbox_with(KEY)).postpone("0" * 32, due_at=clock())

    assert await records.count_documents({}) == 0


async def test_of_the_claims_of_two_processes_at_once_each_gets_another_entry_or_none(
    outbox_with: Open, clock: Clock
):
    processes = [await outbox_with(KEY), await outbox_with(KEY)]
    entries = {(await an_entry(processes[0], clock)).id for _ in range(10)}

    claims = [processes[number % 2].claim(until=clock() + 30) for number in range(20)]
    got = [pending.id for pending in await asyncio.gather(*claims) if pending]

    assert sorted(got) == sorted(entries)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_an_entry_survives_a_kill_of_the_database(tmp_path: Path, clock: Clock, driver: str):
    with Mongod(find_mongod(), tmp_path) as mongod:
        async with connected(mongod.uri, driver) as client:
            pid = (await client.admin.command("serverStatus"))["pid"]
            await an_entry(MongoOutbox(client, Vault([KEY]), clock=clock), clock, "rt-1")
            os.kill(pid, signal.SIGKILL)
        mongod.stop()
        mongod.start()
        async with connected(mongod.uri, driver) as client:
            assert await claimed(MongoOutbox(client, Vault([KEY]), clock=clock), clock) == "rt-1"


# A database that is down


def every_operation_of(outbox: Outbox, clock: Clock) -> list[Any]:
    return [
        outbox.open(),
        an_entry(outbox, clock),
        outbox.claim(until=clock() + 30),
        outbox.postpone("0" * 32, due_at=clock()),
        outbox.remove("0" * 32),
    ]


async def test_a_database_that_is_down_or_hangs_raises_store_unavailable_in_time(clock: Clock):
    """All at once, since it takes as long as the time-out."""
    async with AsyncExitStack() as stack:
        hanging = stack.enter_context(socket.create_server(("127.0.0.1", 0)))  # and never says a word
        ports = (1, hanging.getsockname()[1])  # no server listens on port 1
        uris = [f"mongodb://127.0.0.1:{port}/x" for port in ports]
        connections = [connected(uri, driver) for uri in uris for driver in DRIVERS]
        clients = [await stack.enter_async_context(connection) for connection in connections]

        async with asyncio.timeout(TIMEOUT_SECONDS + 3):
            outboxes = [MongoOutbox(client, Vault([KEY]), clock=clock) for client in clients]
            operations = [operation for outbox in outboxes for operation in every_operation_of(outbox, clock)]
            results = await asyncio.gather(*operations, return_exceptions=True)

        assert [type(result) for result in results] == [StoreUnavailable] * len(operations)
