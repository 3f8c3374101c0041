"""What is in the database already, and what its user may not do: the rest is done, and the log names it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import (
    AutoReconnect,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WriteError,
    WTimeoutError,
)

from app.bff.crypto import Vault
from app.bff.dev.mongod import Mongod, find_mongod
from app.bff.errors import StoreUnavailable
from app.bff.sessions.interfaces import TOMBSTONE_SECONDS
from app.bff.sessions.mongo.causes import cause_of_driver_error, is_outage
from app.bff.sessions.mongo.connection import connect, disconnect
from app.bff.sessions.mongo.events import MongoSessionEndSource
from app.bff.sessions.mongo.indexes import Index, conflict, harmful, kind_problem
from app.bff.sessions.mongo.outages import Outages
from app.bff.sessions.mongo.outbox import MongoOutbox
from app.bff.sessions.mongo.sessions import MongoSessions
from tests.bff.harness import KEY, Clock
from tests.bff.test_session_store import a_session

LATER = datetime.now(UTC) + timedelta(days=1)
DATABASES = iter(range(1000))


class LockedMongod(Mongod):
    """A mongod whose users have rights, and no others."""

    def _command(self) -> list[str]:
        return [*super()._command(), "--auth"]


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mongod, MongoClient[Any]]]:
    with LockedMongod(find_mongod(), tmp_path_factory.mktemp("locked")) as mongod:
        with MongoClient(mongod.uri) as first:
            first.admin.command("createUser", "root", pwd="root", roles=["root"])
        with MongoClient(mongod.uri, username="root", password="root") as root:
            yield mongod, root


@pytest.fixture
def clock() -> Clock:
    return Clock(now=float(int(time.time())))


@pytest.fixture
def name() -> str:
    return f"test-shared-{next(DATABASES)}-{os.getpid()}"


@pytest.fixture
def database(mongod: Mongod, name: str) -> Iterator[Any]:
    """As another application has left it."""
    with MongoClient(mongod.uri) as client:
        yield client[name]
        client.drop_database(name)


@pytest.fixture
async def client(mongod: Mongod, name: str) -> AsyncIterator[Any]:
    client = connect(f"{mongod.uri}/{name}", driver="motor")
    yield client
    await disconnect(client)


@pytest.fixture
def store(client: Any, clock: Clock) -> MongoSessions:
    return MongoSessions(client, Vault([KEY]), clock=clock)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log names; never an outage."""
    assert "session store did not answer" not in caplog.text
    return [
        vars(record)["reason"]
        for record in caplog.records
        if record.message in ("collection not as expected", "session store refused an operation")
    ]


# Indexes and collections that are there already


def index(key: Any, **options: Any) -> Callable[[Any], object]:
    return lambda database: database["sessions"].create_index(key, **options)


def made(**options: Any) -> Callable[[Any], object]:
    return lambda database: database.create_collection("sessions", **options)


HARMLESS = [
    pytest.param(index("user", name="by_user"), id="an index of another name"),
    pytest.param(index("forget_at", name="ttl", expireAfterSeconds=0), id="a TTL index of another name"),
    pytest.param(index("other"), id="an index of another application"),
    pytest.param(index("other", unique=True, sparse=True), id="a unique index that has no records of ours"),
    pytest.param(index("expires", expireAfterSeconds=0), id="a TTL index on another field"),
    pytest.param(made(validator={"x": 1}, validationAction="warn"), id="a validator that warns"),
]


@pytest.mark.parametrize("leave", HARMLESS)
async def test_what_harms_no_record_of_ours_is_not_mentioned(
    leave: Any, database: Any, store: MongoSessions, clock: Clock, caplog: pytest.LogCaptureFixture
):
    leave(database)
    await store.open()
    await store.create(a_session(clock))

    assert told(caplog) == []


WRONG = [
    pytest.param(
        index("user", unique=True),
        "no index on user: the index user_1 is unique",
        id="unique",
    ),
    pytest.param(
        index("sid", partialFilterExpression={"x": 1}),
        "no index on sid: the index sid_1 is partialFilterExpression",
        id="partial",
    ),
    pytest.param(
        index("forget_at", expireAfterSeconds=3600),
        "no index on forget_at: the index forget_at_1 has expireAfterSeconds 3600",
        id="another TTL",
    ),
    pytest.param(
        index("forget_at"),
        "no index on forget_at: the index forget_at_1 has expireAfterSeconds None",
        id="no TTL",
    ),
    pytest.param(index("x", name="sid_1"), "no index on sid: its name is that of another index", id="a name"),
    pytest.param(
        index("token", unique=True), "the unique index token_1 refuses our records", id="a unique index"
    ),
    pytest.param(
        index("created_at", expireAfterSeconds=60),
        "the TTL index created_at_1 removes our records",
        id="a TTL index on a date of ours",
    ),
    pytest.param(
        made(capped=True, size=100_000), "it is capped: it drops records, and lets none grow", id="capped"
    ),
    pytest.param(
        made(validator={"x": {"$exists": True}}),
        "it has a validator, which may refuse our records",
        id="a validator",
    ),
]


@pytest.mark.parametrize(("leave", "reason"), WRONG)
async def test_what_is_wrong_is_named_and_the_other_indexes_are_created(
    leave: Any, reason: str, database: Any, store: MongoSessions, caplog: pytest.LogCaptureFixture
):
    leave(database)
    await store.open()
    keys = {tuple(each["key"]) for each in database["sessions"].index_information().values()}

    assert reason in told(caplog)
    assert len({(("user", 1),), (("sid", 1),), (("forget_at", 1),)} & keys) >= 2


@pytest.mark.parametrize(
    "options", [{"viewOn": "other"}, {"timeseries": {"timeField": "at"}}], ids=["a view", "a time series"]
)
async def test_a_collection_of_another_kind_is_named_once_and_refuses_sessions_without_an_outage(
    options: Any, database: Any, store: MongoSessions, clock: Clock, caplog: pytest.LogCaptureFixture
):
    database.create_collection("sessions", **options)
    await store.open()
    [kind] = told(caplog)
    with pytest.raises(StoreUnavailable, match="refused"):
        await store.create(a_session(clock))

    assert "which holds no records of ours" in kind
    assert len(told(caplog)) == 2


async def test_where_the_late_index_is_in_the_way_expired_sessions_are_purged_at_once(
    database: Any, store: MongoSessions, caplog: pytest.LogCaptureFixture
):
    database["sessions"].create_index([("expires_at", -1)], expireAfterSeconds=TOMBSTONE_SECONDS + 5)
    await store.open()

    assert database["sessions"].index_information()["expires_at_1"]["expireAfterSeconds"] == 0
    assert told(caplog) == ["no index on expires_at: the index expires_at_-1 has expireAfterSeconds 605"]


async def test_a_write_that_a_unique_index_or_a_validator_refuses_is_named_without_its_data(
    database: Any, store: MongoSessions, clock: Clock, caplog: pytest.LogCaptureFixture
):
    session = a_session(clock)
    database["sessions"].create_index("user", unique=True)
    await store.create(session)
    with pytest.raises(StoreUnavailable, match="refused"):
        await store.create(a_session(clock))
    database["sessions"].drop_indexes()
    database.command("collMod", "sessions", validator={"x": 1})
    with pytest.raises(StoreUnavailable, match="refused"):
        await store.create(a_session(clock))

    assert told(caplog) == ["a unique index on user refuses it", "the validator of the collection refuses it"]
    assert database["sessions"].find_one()["user"] not in caplog.text


async def test_a_refusal_is_no_outage_for_the_leases_of_others(database: Any, client: Any, clock: Clock):
    outages = Outages()
    database.create_collection("sessions", validator={"x": 1})
    with pytest.raises(StoreUnavailable):
        await MongoSessions(client, Vault([KEY]), clock=clock, outages=outages).create(a_session(clock))

    assert outages.may_take_over


# Documents of another shape

STRANGE = [
    {"_id": 17, "expires_at": LATER},
    {"_id": {"a": 1}, "expires_at": LATER, "sealed": b"x", "version": 1},
    {"_id": "express", "expires": LATER, "session": "{}"},
    {"_id": "text", "expires_at": "tomorrow", "sealed": "x", "version": "1"},
    {"_id": "null", "expires_at": LATER, "sealed": None},
    {"_id": "short", "expires_at": LATER, "sealed": b"x"},
    {"_id": "undated", "expires_at": LATER, "sealed": b"x", "version": 1, "renewed_at": "now"},
    {"_id": "ended", "ended": 17, "forget_at": "now", "hint": "x"},
]


async def test_documents_of_another_shape_are_no_sessions_and_in_nobodys_way(
    database: Any, client: Any, store: MongoSessions, clock: Clock
):
    database["sessions"].insert_many(STRANGE)
    session = a_session(clock)
    await store.open()
    await store.create(session)
    ids = [each["_id"] for each in STRANGE if isinstance(each["_id"], str)]

    assert [each.ref async for each in store.every()] == [session.ref]
    assert [await store.get(ref) for ref in ids] == [None] * len(ids)
    assert [await store.logout_hint(ref) for ref in ids] == [None] * len(ids)
    assert (await store.of_user(session.issuer, session.subject))[0].ref == session.ref
    assert (await store.reencrypt()).done == 0
    news = await MongoSessionEndSource(client, clock=clock).reasons([*ids, session.ref])
    assert session.ref not in news
    assert database["sessions"].count_documents({}) == len(STRANGE) + 1


async def test_documents_of_another_shape_are_no_revocations_and_stay_as_they_are(
    database: Any, client: Any, clock: Clock
):
    past = datetime(2020, 1, 1, tzinfo=UTC)
    database["revocations"].insert_many([{**each, "due_at": past, "tries": 0} for each in STRANGE[:1]])
    outbox = MongoOutbox(client, Vault([KEY]), clock=clock)

    assert await outbox.claim(until=clock() + 60) is None
    assert database["revocations"].find_one()["tries"] == 0


# Users without rights

RIGHTS = {
    "no index": (["find", "insert", "update", "remove"], "no index on user: it answers Unauthorized"),
    "read only": (["find"], "no index on user: it answers Unauthorized"),
}


@pytest.mark.parametrize("rights", RIGHTS)
async def test_a_user_without_a_right_does_what_it_may_and_the_log_names_the_rest(
    rights: str,
    name: str,
    locked: tuple[Mongod, MongoClient[Any]],
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
):
    mongod, root = locked
    actions, reason = RIGHTS[rights]
    privilege = {"resource": {"db": name, "collection": ""}, "actions": actions}
    root[name].command("createRole", "few", privileges=[privilege], roles=[])
    root[name].command("createUser", "bff", pwd="few", roles=["few"])
    client = connect(mongod.uri.replace("//", "//bff:few@") + f"/{name}", driver="motor")
    store, session = MongoSessions(client, Vault([KEY]), clock=clock), a_session(clock)
    await store.open()
    assert reason in told(caplog)
    if "insert" in actions:
        await store.create(session)
        assert await store.get(session.ref) == session
    else:
        with pytest.raises(StoreUnavailable, match="refused"):
            await store.create(session)
        assert told(caplog)[-1] == "it answers Unauthorized"
    assert [batch async for batch in MongoSessionEndSource(client, clock=clock).watch()] == []
    await disconnect(client)


async def test_a_wrong_password_is_a_refusal(
    locked: tuple[Mongod, MongoClient[Any]], clock: Clock, caplog: pytest.LogCaptureFixture
):
    client = connect(locked[0].uri.replace("//", "//bff:wrong@") + "/bff", driver="motor")
    store = MongoSessions(client, Vault([KEY]), clock=clock)
    with pytest.raises(StoreUnavailable, match="refused"):
        await store.get(a_session(clock).ref)

    assert told(caplog) == ["it answers AuthenticationFailed"]
    await disconnect(client)


# Rules


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (TimeoutError(), True),
        (ServerSelectionTimeoutError("no"), True),
        (AutoReconnect("no"), True),
        (NetworkTimeout("no"), True),
        (NotPrimaryError("no"), True),
        (ExecutionTimeout("no", 50), True),
        (WTimeoutError("no", 64), True),
        (OperationFailure("no", 189, {"codeName": "PrimarySteppedDown"}), True),
        (OperationFailure("no", 11600, {"codeName": "InterruptedAtShutdown"}), True),
        (OperationFailure("no", 1, {"errorLabels": ["RetryableWriteError"]}), True),
        (OperationFailure("no", 13, {"codeName": "Unauthorized"}), False),
        (OperationFailure("no", 18, {"codeName": "AuthenticationFailed"}), False),
        (OperationFailure("no", 85, {"codeName": "IndexOptionsConflict"}), False),
        (OperationFailure("no", 166, {"codeName": "CommandNotSupportedOnView"}), False),
        (DuplicateKeyError("no", 11000, {"keyPattern": {"user": 1}}), False),
        (WriteError("no", 121, {}), False),
    ],
)
def test_an_outage_passes_by_itself_and_a_refusal_does_not(error: Exception, is_one: bool):
    assert is_outage(error) is is_one


def test_the_reason_of_a_refused_write_has_no_value():
    error = DuplicateKeyError(
        "dup key: { user: 'secret' }", 11000, {"keyPattern": {"user": 1}, "keyValue": {"user": "secret"}}
    )

    assert cause_of_driver_error(error) == "a unique index on user refuses it"


def test_an_index_that_is_there_under_another_name_does_its_work():
    ttl = {"key": [("expires_at", 1)], "expireAfterSeconds": 0}

    assert conflict({"mine": ttl}, Index("expires_at", expire_after_seconds=0)) == ""
    assert harmful({"mine": ttl, "_id_": {"key": [("_id", 1)]}}, [Index("expires_at", 1, 0)]) == []
    assert kind_problem({"type": "collection", "options": {}}) == ("", True)
