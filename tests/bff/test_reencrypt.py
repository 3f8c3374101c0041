"""Re-encryption: old keys fall out of use, and no concurrent write is lost."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from pymongo import MongoClient

from app.bff.crypto import Vault
from app.bff.dev.mongod import Mongod
from app.bff.sessions.interfaces import ReencryptResult, new_pending
from app.bff.sessions.memory import MemoryOutbox, MemorySessions
from app.bff.sessions.mongo.connection import connect, date, disconnect
from app.bff.sessions.mongo.outbox import MongoOutbox
from app.bff.sessions.mongo.reencrypt import reencrypt
from app.bff.sessions.mongo.sessions import MongoSessions, to_bytes
from app.bff.sessions.session import Reason, Session, TokenSet, session_ref
from tests.bff.harness import Clock, new_session_id

OLD, NEW, LOST = (os.urandom(32) for _ in range(3))
ISSUER = "https://provider.example"


@pytest.fixture
def clock() -> Clock:
    return Clock(now=float(int(time.time())))  # MongoDB keeps milliseconds, and no less


class Database:
    """A database of its own, and what processes with different rings of keys see of it."""

    def __init__(self, client: Any, records: Any, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self.records = records  # the sessions, read without a key

    def sessions(self, *keys: bytes) -> MongoSessions:
        return MongoSessions(self._client, Vault(keys), clock=self._clock)

    def outbox(self, *keys: bytes) -> MongoOutbox:
        return MongoOutbox(self._client, Vault(keys), clock=self._clock)

    async def with_session(self, key: bytes, **changed: Any) -> Session:
        session = a_session(self._clock, **changed)
        await self.sessions(key).create(session)
        return session

    def sealed(self, session: Session) -> bytes:
        return bytes(self.records.find_one({"_id": session.ref})["sealed"])


@pytest.fixture(params=["motor", "pymongo"])
async def database(request: pytest.FixtureRequest, mongod: Mongod, clock: Clock) -> AsyncIterator[Database]:
    uri = f"{mongod.uri}/test-reencrypt-{secrets.token_hex(4)}"
    client = connect(uri, driver=request.param)
    with MongoClient(uri) as other:
        yield Database(client, other.get_default_database().get_collection("sessions"), clock)
        other.drop_database(other.get_default_database())
    await disconnect(client)


def a_session(clock: Clock, **changed: Any) -> Session:
    now = clock()
    right = {
        "ref": session_ref(new_session_id()),
        "issuer": ISSUER,
        "subject": "alice",
        "sid": "sid-1",
        "claims": {"sub": "alice", "name": "Zoë"},
        "tokens": TokenSet("at-1", now, now + 300, refresh_token="rt-1"),
        "created_at": now,
        "renewed_at": now,
        "expires_at": now + 3600,
    }
    return Session(**{**right, **changed})


async def test_in_memory_nothing_is_encrypted(clock: Clock):
    assert await MemorySessions(clock=clock).reencrypt() == ReencryptResult()
    assert await MemoryOutbox(clock=clock).reencrypt() == ReencryptResult()


# The old key can go


async def test_a_reencrypted_session_opens_and_is_found_without_the_old_key(database: Database):
    session = await database.with_session(OLD)

    assert await database.sessions(NEW, OLD).reencrypt() == ReencryptResult(done=1)

    with_the_new_one = database.sessions(NEW)
    assert await with_the_new_one.get(session.ref) == session
    assert await with_the_new_one.of_user(ISSUER, "alice") == [session]
    assert await with_the_new_one.of_sid(ISSUER, "sid-1") == [session]


async def test_a_reencrypted_revocation_opens_without_the_old_key(database: Database, clock: Clock):
    pending = new_pending(ISSUER, "rt-1", expires_at=clock() + 60)
    await database.outbox(OLD).put([pending], due_at=clock())

    assert await database.outbox(NEW, OLD).reencrypt() == ReencryptResult(done=1)
    claimed = await database.outbox(NEW).claim(until=clock() + 30)
    assert claimed
    assert (claimed.issuer, claimed.refresh_token, claimed.tries) == (ISSUER, "rt-1", 1)


async def test_records_of_the_first_key_are_not_rewritten(database: Database):
    session = await database.with_session(NEW)
    sealed = database.sealed(session)

    assert await database.sessions(NEW, OLD).reencrypt() == ReencryptResult()
    assert database.sealed(session) == sealed


async def test_all_batches_are_reencrypted(database: Database):
    sessions = [await database.with_session(OLD) for _ in range(450)]
    lost = await database.with_session(LOST)

    assert await database.sessions(NEW, OLD).reencrypt() == ReencryptResult(done=450, undecryptable=1)
    opened = {session.ref async for session in database.sessions(NEW).every()}
    assert opened == {session.ref for session in sessions}
    assert lost.ref not in opened


async def test_fields_of_a_newer_release_stay(database: Database):
    session = a_session(database._clock)
    content = {**json.loads(to_bytes(session)), "from_the_future": 1}
    await database.sessions(OLD).create(session)
    sealed = Vault([OLD]).seal(json.dumps(content).encode(), place=f"session {session.ref}")
    database.records.update_one({"_id": session.ref}, {"$set": {"sealed": sealed}})

    await database.sessions(NEW, OLD).reencrypt()

    opened = json.loads(Vault([NEW]).open(database.sealed(session), place=f"session {session.ref}"))
    assert opened == content


# What is left alone


@pytest.mark.parametrize("sealed", [b"", b"x", b"x" * 500])
async def test_undecryptable_records_are_counted_and_not_changed(database: Database, sealed: bytes):
    lost, broken = await database.with_session(LOST), await database.with_session(OLD)
    database.records.update_one({"_id": broken.ref}, {"$set": {"sealed": sealed}})
    before = list(database.records.find())

    assert await database.sessions(NEW, OLD).reencrypt() == ReencryptResult(undecryptable=2)
    assert list(database.records.find()) == before
    assert await database.sessions(LOST).get(lost.ref) == lost


async def test_expired_records_and_tombstones_are_not_changed(database: Database, clock: Clock):
    await database.with_session(OLD)
    clock.advance(3600)
    session = a_session(clock)
    database.records.insert_one({"_id": session.ref, "expires_at": date(session.expires_at)})

    assert await database.sessions(NEW, OLD).reencrypt() == ReencryptResult()


# Others go on working


async def test_a_refresh_in_flight_still_saves_its_tokens(database: Database):
    session = await database.with_session(OLD)
    process = database.sessions(NEW, OLD)
    leased = await process.lease(session.ref, owner="refresh", seconds=60)
    assert leased

    assert await process.reencrypt() == ReencryptResult(done=1)

    saved = await process.save(
        replace(leased, tokens=replace(leased.tokens, access_token="at-2")), lease="refresh"
    )
    assert saved
    assert saved.version == session.version + 1
    assert await database.sessions(NEW).get(session.ref) == saved


async def reencrypted_while(
    database: Database, clock: Clock, happens: Callable[[], object]
) -> ReencryptResult:
    """Something happens after a record was read, and before it is written."""
    sessions = database.sessions(NEW, OLD)

    def reencrypted(record: dict[str, Any]) -> dict[str, Any]:
        happens()
        return sessions._reencrypted(record)

    return await reencrypt(sessions._sessions, Vault([NEW, OLD]), reencrypted, now=clock())


async def test_tokens_saved_concurrently_are_not_overwritten(database: Database, clock: Clock):
    session = await database.with_session(OLD)
    newer = replace(session, tokens=replace(session.tokens, access_token="at-2"), version=2)
    sealed = database.sessions(NEW)._sealed(newer, to_bytes(newer))

    def refreshed() -> None:
        database.records.update_one({"_id": session.ref}, {"$set": {**sealed, "version": 2}})

    assert await reencrypted_while(database, clock, refreshed) == ReencryptResult(conflicts=1)
    assert await database.sessions(NEW).get(session.ref) == newer


async def test_a_session_deleted_concurrently_does_not_come_back(database: Database, clock: Clock):
    session = await database.with_session(OLD)

    def ended() -> None:
        database.records.delete_one({"_id": session.ref})

    assert await reencrypted_while(database, clock, ended) == ReencryptResult(conflicts=1)
    assert await database.sessions(NEW, OLD).delete(session.ref, reason=Reason.SIGNED_OUT) is None


async def test_a_concurrent_touch_is_not_lost(database: Database, clock: Clock):
    session = await database.with_session(OLD)
    later = session.expires_at + 60

    def touched() -> None:
        database.records.update_one({"_id": session.ref}, {"$set": {"expires_at": date(later)}})

    assert await reencrypted_while(database, clock, touched) == ReencryptResult(done=1)
    found = await database.sessions(NEW).get(session.ref)
    assert found
    assert found.expires_at == later
