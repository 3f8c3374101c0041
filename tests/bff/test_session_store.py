"""What every SessionStore promises. A new store is one more line in `STORES`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from app.bff.crypto import Vault
from app.bff.dev.mongod import Mongod
from app.bff.sessions.interfaces import SessionStore
from app.bff.sessions.memory import MemorySessions
from app.bff.sessions.mongo.connection import connect
from app.bff.sessions.mongo.sessions import MongoSessions
from app.bff.sessions.session import Reason, Session, TokenSet, session_ref
from tests.bff.harness import KEY, Clock, new_session_id


def in_mongodb(uri: str, clock: Clock, *, driver: str) -> SessionStore:
    return MongoSessions(connect(uri, driver=driver), Vault([KEY]), clock=clock)


# One for all tests: every session has a ref of its own, and a new database takes longer than its test.
DATABASE = "test-session-store"
STORES: dict[str, Callable[[str, Clock], SessionStore]] = {
    "memory": lambda uri, clock: MemorySessions(clock=clock),
    "MongoDB with Motor": lambda uri, clock: in_mongodb(uri, clock, driver="motor"),
    "MongoDB with PyMongo": lambda uri, clock: in_mongodb(uri, clock, driver="pymongo"),
}


@pytest.fixture
def clock() -> Clock:
    return Clock(now=float(int(time.time())))  # MongoDB keeps milliseconds, and no less


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, mongod: Mongod, clock: Clock) -> AsyncIterator[SessionStore]:
    store = STORES[request.param](f"{mongod.uri}/{DATABASE}", clock)
    await store.open()
    yield store
    await store.close()


def a_session(clock: Clock, **changed: Any) -> Session:
    """A session of an hour with a ref of its own."""
    now = clock()
    right = {
        "ref": session_ref(new_session_id()),
        "issuer": "https://provider.example",
        "subject": "alice",
        "sid": "sid-1",
        "session_state": "state.salt",
        "claims": {"sub": "alice", "name": "Zoë", "groups": ["a", "b"], "address": {"country": "NL"}},
        "tokens": TokenSet("at-1", now, now + 300, refresh_token="rt-1", id_token="id-1", scope="openid"),
        "created_at": now,
        "renewed_at": now,
        "expires_at": now + 3600,
    }
    return Session(**{**right, **changed})


def refreshed(session: Session, name: str) -> Session:
    """The session as a refresh would write it."""
    tokens = replace(session.tokens, access_token=f"at-{name}", refresh_token=f"rt-{name}")
    return replace(session, tokens=tokens)


@pytest.fixture
async def session(store: SessionStore, clock: Clock) -> Session:
    """A session that the store has."""
    session = a_session(clock)
    await store.create(session)
    return session


# What is there


async def test_an_unknown_ref_is_none_not_an_error(store: SessionStore):
    unknown = session_ref(new_session_id())

    assert await store.get(unknown) is None
    assert await store.delete(unknown, reason=Reason.SIGNED_OUT) is None


async def test_a_session_is_read_back_as_it_was_created(store: SessionStore, session: Session):
    assert await store.get(session.ref) == session


async def test_a_session_without_optional_fields_is_read_back(store: SessionStore, clock: Clock):
    session = a_session(clock, tokens=TokenSet("at-1", clock()), session_state=None, claims={})
    await store.create(session)

    assert await store.get(session.ref) == session


async def test_sessions_of_the_same_user_are_separate(store: SessionStore, session: Session, clock: Clock):
    other = a_session(clock)
    await store.create(other)
    await store.delete(session.ref, reason=Reason.SIGNED_OUT)

    assert await store.get(other.ref) == other


# Saving


async def test_saving_replaces_tokens_and_claims_and_raises_the_version(
    store: SessionStore, session: Session
):
    changed = replace(refreshed(session, "2"), claims={"sub": "alice", "name": "Alice"})

    saved = await store.save(changed)

    assert saved == replace(changed, version=session.version + 1)
    assert await store.get(session.ref) == saved


async def test_a_saved_session_can_be_saved_again(store: SessionStore, session: Session):
    second = await store.save(refreshed(session, "2"))
    third = await store.save(refreshed(second, "3"))

    assert third.version == session.version + 2
    assert await store.get(session.ref) == third


async def test_an_old_version_is_not_saved_over_a_newer_one(store: SessionStore, session: Session):
    newer = await store.save(refreshed(session, "newer"))

    assert await store.save(refreshed(session, "older")) is None
    assert await store.get(session.ref) == newer


async def test_an_unknown_version_is_not_saved(store: SessionStore, session: Session):
    assert await store.save(replace(session, version=session.version + 1)) is None
    assert await store.get(session.ref) == session


async def test_of_two_saves_at_once_exactly_one_wins(store: SessionStore, session: Session):
    saves = [store.save(refreshed(session, str(number))) for number in range(10)]

    won = [saved for saved in await asyncio.gather(*saves) if saved]

    assert len(won) == 1
    assert await store.get(session.ref) == won[0]


async def test_saving_does_not_bring_a_deleted_session_back(store: SessionStore, session: Session):
    await store.delete(session.ref, reason=Reason.SIGNED_OUT)

    assert await store.save(refreshed(session, "2")) is None
    assert await store.get(session.ref) is None


async def test_saving_a_session_that_was_never_created_writes_nothing(store: SessionStore, clock: Clock):
    session = a_session(clock)

    assert await store.save(session) is None
    assert await store.get(session.ref) is None


async def test_saving_does_not_undo_a_concurrent_touch(store: SessionStore, session: Session):
    later = session.expires_at + 600
    await store.touch(session.ref, renewed_at=session.renewed_at + 600, expires_at=later)

    saved = await store.save(refreshed(session, "2"))

    assert saved.expires_at == later
    assert (await store.get(session.ref)).expires_at == later


# Touching


async def test_touching_changes_the_expiry_and_nothing_else(store: SessionStore, session: Session):
    times = {"renewed_at": session.renewed_at + 60, "expires_at": session.expires_at + 60}

    await store.touch(session.ref, **times)

    assert await store.get(session.ref) == replace(session, **times)


async def test_touching_does_not_block_a_save_of_an_earlier_read(store: SessionStore, session: Session):
    await store.touch(session.ref, renewed_at=session.renewed_at, expires_at=session.expires_at + 60)

    assert await store.save(refreshed(session, "2")) is not None


async def test_touching_and_saving_at_once_loses_neither(store: SessionStore, session: Session):
    later = session.expires_at + 60
    touch = store.touch(session.ref, renewed_at=session.renewed_at, expires_at=later)

    await asyncio.gather(touch, store.save(refreshed(session, "2")))

    found = await store.get(session.ref)
    assert (found.expires_at, found.tokens.access_token) == (later, "at-2")


async def test_touching_does_not_bring_a_deleted_session_back(store: SessionStore, session: Session):
    await store.delete(session.ref, reason=Reason.SIGNED_OUT)

    await store.touch(session.ref, renewed_at=session.renewed_at, expires_at=session.expires_at)

    assert await store.get(session.ref) is None


# Expiring


async def test_a_session_is_live_until_it_expires(store: SessionStore, session: Session, clock: Clock):
    clock.advance(3599)
    assert await store.get(session.ref) == session

    clock.advance(1)
    assert await store.get(session.ref) is None


async def test_an_expired_session_cannot_be_saved(store: SessionStore, session: Session, clock: Clock):
    clock.advance(3600)

    assert await store.save(refreshed(session, "2")) is None


async def test_an_expired_session_cannot_be_touched_back_to_life(
    store: SessionStore, session: Session, clock: Clock
):
    clock.advance(3600)

    await store.touch(session.ref, renewed_at=clock(), expires_at=clock() + 3600)

    assert await store.get(session.ref) is None


async def test_an_expired_session_is_not_returned_by_delete(
    store: SessionStore, session: Session, clock: Clock
):
    clock.advance(3600)

    assert await store.delete(session.ref, reason=Reason.SIGNED_OUT) is None


async def test_a_touched_session_lives_longer(store: SessionStore, session: Session, clock: Clock):
    await store.touch(session.ref, renewed_at=clock(), expires_at=session.expires_at + 60)

    clock.advance(3601)

    assert await store.get(session.ref) is not None


# Leasing: the right to refresh


async def test_of_many_concurrent_owners_one_acquires_the_lease(
    store: SessionStore, session: Session, clock: Clock
):
    leases = [store.lease(session.ref, owner=f"process-{number}", seconds=30) for number in range(20)]

    assert [found for found in await asyncio.gather(*leases) if found] == [session]


async def test_a_lease_returns_the_current_session(store: SessionStore, session: Session, clock: Clock):
    saved = await store.save(refreshed(session, "2"))

    assert await store.lease(session.ref, owner="a", seconds=30) == saved


async def test_a_lease_is_exclusive_until_it_expires(store: SessionStore, session: Session):
    await store.lease(session.ref, owner="a", seconds=30)

    assert await store.lease(session.ref, owner="b", seconds=30) is None


async def test_an_expired_lease_passes_to_another_owner(store: SessionStore, session: Session):
    await store.lease(session.ref, owner="a", seconds=0)

    assert await store.lease(session.ref, owner="b", seconds=30) == session
    assert await store.lease(session.ref, owner="a", seconds=30) is None


async def test_the_owner_may_acquire_a_lease_again_and_extends_it(store: SessionStore, session: Session):
    await store.lease(session.ref, owner="a", seconds=0)

    assert await store.lease(session.ref, owner="a", seconds=30) == session
    assert await store.lease(session.ref, owner="b", seconds=30) is None


async def test_a_lease_in_memory_expires_by_the_clock_of_the_process(clock: Clock):
    store, session = MemorySessions(clock=clock), a_session(clock)
    await store.create(session)
    await store.lease(session.ref, owner="a", seconds=30)

    clock.advance(29)
    assert await store.lease(session.ref, owner="b", seconds=30) is None
    clock.advance(1)
    assert await store.lease(session.ref, owner="b", seconds=30) == session


async def test_a_lease_says_whether_it_was_taken_over(store: SessionStore, session: Session):
    leases = [await store.lease(session.ref, owner=owner, seconds=0) for owner in ("a", "a", "b", "a")]
    await store.release(session.ref, owner="a")
    leases.append(await store.lease(session.ref, owner="b", seconds=0))

    assert [lease and lease.lease_taken_over for lease in leases] == [False, False, True, True, False]
    saved = await store.save(refreshed(leases[2], "2"))
    assert not saved.lease_taken_over
    assert not (await store.get(session.ref)).lease_taken_over


async def test_a_released_lease_passes_to_another_owner(store: SessionStore, session: Session, clock: Clock):
    await store.lease(session.ref, owner="a", seconds=30)
    await store.release(session.ref, owner="a")

    assert await store.lease(session.ref, owner="b", seconds=30) == session


async def test_an_owner_cannot_release_the_lease_of_another(
    store: SessionStore, session: Session, clock: Clock
):
    await store.lease(session.ref, owner="a", seconds=30)
    await store.release(session.ref, owner="b")

    assert await store.lease(session.ref, owner="b", seconds=30) is None


async def test_saving_under_a_lease_releases_it(store: SessionStore, session: Session, clock: Clock):
    await store.lease(session.ref, owner="a", seconds=30)
    saved = await store.save(refreshed(session, "2"), lease="a")

    assert saved is not None
    assert await store.lease(session.ref, owner="b", seconds=30) == saved


async def test_a_late_holder_cannot_save_once_the_lease_has_passed_on(
    store: SessionStore, session: Session, clock: Clock
):
    await store.lease(session.ref, owner="late", seconds=0)
    await store.lease(session.ref, owner="next", seconds=30)

    assert await store.save(refreshed(session, "late"), lease="late") is None
    assert await store.save(refreshed(session, "next"), lease="next") is not None


async def test_a_deleted_session_cannot_be_leased(store: SessionStore, session: Session, clock: Clock):
    await store.delete(session.ref, reason=Reason.SIGNED_OUT)

    assert await store.lease(session.ref, owner="a", seconds=30) is None


async def test_touching_does_not_affect_a_lease(store: SessionStore, session: Session, clock: Clock):
    await store.lease(session.ref, owner="a", seconds=30)
    await store.touch(session.ref, renewed_at=clock(), expires_at=session.expires_at + 60)

    assert await store.save(refreshed(session, "2"), lease="a") is not None


# Deleting


async def test_deleting_returns_the_session(store: SessionStore, session: Session):
    saved = await store.save(refreshed(session, "2"))

    assert await store.delete(session.ref, reason=Reason.SIGNED_OUT) == saved
    assert await store.get(session.ref) is None


@pytest.mark.parametrize(
    ("condition", "deletes"),
    [
        pytest.param({"version": 1}, True, id="the version"),
        pytest.param({"version": 2}, False, id="another version"),
        pytest.param({"lease": "a"}, True, id="the owner of the lease"),
        pytest.param({"lease": "b"}, False, id="another owner"),
        pytest.param({"version": 1, "lease": "a"}, True, id="both"),
        pytest.param({"version": 2, "lease": "a"}, False, id="the owner, and another version"),
    ],
)
async def test_a_session_is_deleted_under_a_condition(
    store: SessionStore, session: Session, condition: dict[str, Any], deletes: bool
):
    await store.lease(session.ref, owner="a", seconds=30)

    deleted = await store.delete(session.ref, reason=Reason.PROVIDER, **condition)
    assert (deleted, await store.get(session.ref)) == ((session, None) if deletes else (None, session))


async def test_deleting_twice_is_harmless(store: SessionStore, session: Session):
    await store.delete(session.ref, reason=Reason.SIGNED_OUT)

    assert await store.delete(session.ref, reason=Reason.SIGNED_OUT) is None


async def test_of_many_deletes_at_once_one_gets_the_session(store: SessionStore, session: Session):
    deletes = [store.delete(session.ref, reason=Reason.SIGNED_OUT) for _ in range(10)]

    assert [found for found in await asyncio.gather(*deletes) if found] == [session]


# The store itself


# Whose they are.


async def test_the_sessions_of_a_user_are_found_the_oldest_first(store: SessionStore, clock: Clock):
    zoe = new_session_id()  # a name that no other test uses
    laptop = a_session(clock, subject=zoe, created_at=clock() - 10)
    phone = a_session(clock, subject=zoe, created_at=clock() - 20)
    for session in (laptop, phone, a_session(clock, subject="another user")):
        await store.create(session)

    assert await store.of_user("https://provider.example", zoe) == [phone, laptop]


async def test_a_user_of_another_issuer_is_another_user(store: SessionStore, clock: Clock):
    await store.create(a_session(clock, subject="yann"))

    assert await store.of_user("https://another.example", "yann") == []


async def test_the_sessions_of_a_sid_are_found(store: SessionStore, clock: Clock):
    session = a_session(clock, sid=new_session_id())
    await store.create(session)

    assert await store.of_sid("https://provider.example", session.sid) == [session]
    assert await store.of_sid("https://another.example", session.sid) == []


async def test_expired_and_deleted_sessions_are_not_found(store: SessionStore, clock: Clock):
    gone, expired = a_session(clock, subject="xena", sid="x"), a_session(clock, subject="xena", sid="x")
    await store.create(gone)
    await store.delete(gone.ref, reason=Reason.SIGNED_OUT)
    await store.create(expired)
    clock.advance(3601)

    assert await store.of_user("https://provider.example", "xena") == []
    assert await store.of_sid("https://provider.example", "x") == []
    assert expired.ref not in [session.ref async for session in store.every()]


async def test_all_sessions_can_be_iterated(store: SessionStore, clock: Clock):
    sessions = [a_session(clock) for _ in range(3)]
    for session in sessions:
        await store.create(session)

    assert {session.ref for session in sessions} <= {found.ref async for found in store.every()}


async def test_an_open_store_answers_a_ping(store: SessionStore):
    await store.ping()


async def test_opening_twice_is_harmless(store: SessionStore, session: Session):
    await store.open()

    assert await store.get(session.ref) == session
