"""Doctor: MongoDB. The probe asks the server what it is and can do; the check is pure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pymongo.errors import PyMongoError

from app.bff.crypto import Vault
from app.bff.doctor.report import Finding, info, ok, warning, wrong
from app.bff.errors import SettingsError, StoreUnavailable
from app.bff.sessions.interfaces import TOMBSTONE_SECONDS
from app.bff.sessions.mongo.causes import cause_of_driver_error
from app.bff.sessions.mongo.connection import (
    collection,
    connect,
    date,
    disconnect,
    translate_driver_errors,
)
from app.bff.sessions.mongo.outbox import MongoOutbox
from app.bff.sessions.mongo.reencrypt import sealed_by
from app.bff.sessions.mongo.replay import MongoReplayCache
from app.bff.sessions.mongo.return_paths import MongoReturnPaths
from app.bff.sessions.mongo.sessions import MongoSessions
from app.bff.settings.models import BffSettings

SEALED = ("sessions", "revocations")
EXPIRING = (*SEALED, "logout_tokens", "return_paths")
_TRIAL = "doctor"  # a collection that the probe writes to and drops


@dataclass(frozen=True)
class Sealed:
    """Live records of a collection by their encryption key; `by_none`: no key of the ring."""

    collection: str
    by_key: tuple[int, ...]
    by_none: int


@dataclass(frozen=True)
class Server:
    """The server. `members` is 0 for a standalone server and for a sharded cluster."""

    version: tuple[int, ...]
    replica_set: str
    members: int
    sharded: bool


@dataclass(frozen=True)
class MongoProbe:
    """What the probe found; each `…_problem` describes a failure and is empty on success.

    `expire_after_seconds` has for each index on `expires_at` how late it removes: None if it is no TTL index.
    """

    hosts: str = ""
    problem: str = ""
    server: Server | None = None
    index_problem: str = ""
    expire_after_seconds: tuple[tuple[str, float | None], ...] = ()
    write_problem: str = ""
    ahead_seconds: float | None = None  # of our clock, at least; negative if it is behind; None if unknown
    sealed: tuple[Sealed, ...] = ()
    sealed_problem: str = ""


async def probe_mongo(settings: BffSettings, *, clock: Callable[[], float]) -> MongoProbe:
    try:
        client = connect(settings.session_store, driver=settings.mongodb_driver)
    except (SettingsError, PyMongoError, TypeError):  # the message may quote part of the password
        return MongoProbe(problem="the driver does not understand the URI")
    try:
        return await _probe(client, Vault(settings.key_ring), hosts_of(settings.session_store), clock)
    finally:
        await disconnect(client)


def hosts_of(uri: str) -> str:
    """Return the host list of a MongoDB URI, without credentials and options.

    Empty for a password with an unencoded `/`, `?` or `@`, part of which would pass for a host.
    """
    before_options, _, options = uri.partition("://")[2].partition("?")
    authority, _, database = before_options.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    first_option = options.partition("=")[0]
    return "" if "@" in credentials + database + first_option else hosts


async def _probe(client: Any, vault: Vault, hosts: str, clock: Callable[[], float]) -> MongoProbe:
    server, problem = await _attempt(_server(client))
    if server is None:
        return MongoProbe(hosts, problem)
    (
        (odd, index_problem),
        (_, write_problem),
        (sealed, sealed_problem),
        (ahead, _),
    ) = await asyncio.gather(
        _attempt(_create_indexes(client, vault, clock)),
        _attempt(_write(client)),
        _attempt(_count_sealed(client, vault, clock)),
        _attempt(MongoSessions(client, vault, clock=clock).clock_ahead_seconds()),
    )
    expire_after_seconds, reading_problem = await _attempt(_expiry_indexes(client))
    return MongoProbe(
        hosts,
        server=server,
        index_problem=index_problem or "; ".join(odd or ()) or reading_problem,
        expire_after_seconds=expire_after_seconds or (),
        write_problem=write_problem,
        ahead_seconds=ahead,
        sealed=sealed or (),
        sealed_problem=sealed_problem,
    )


async def _attempt(work: Awaitable[Any]) -> tuple[Any, str]:
    """Return the result and "", or None and a description of the failure."""
    try:
        async with translate_driver_errors():
            return await work, ""
    except StoreUnavailable as error:
        return None, cause_of_driver_error(error.__cause__ or error)


async def _server(client: Any) -> Server:
    hello, built = await client.admin.command("hello"), await client.server_info()
    return Server(
        version=tuple(built["versionArray"][:3]),
        replica_set=hello.get("setName", ""),
        members=len(hello.get("hosts", ())),
        sharded=hello.get("msg") == "isdbgrid",
    )


async def _create_indexes(client: Any, vault: Vault, clock: Callable[[], float]) -> list[str]:
    """Create the indexes as a start does, and return what is wrong; existing ones stay unchanged."""
    found = {
        "sessions": await MongoSessions(client, vault, clock=clock).prepare(),
        "revocations": await MongoOutbox(client, vault, clock=clock).prepare(),
        "logout_tokens": await MongoReplayCache(client, clock=clock).prepare(),
        "return_paths": await MongoReturnPaths(client, vault, clock=clock).prepare(),
    }
    return [f"{name}: {problem}" for name, problems in found.items() for problem in problems]


async def _expiry_indexes(client: Any) -> tuple[tuple[str, float | None], ...]:
    found: list[tuple[str, float | None]] = []
    for name in EXPIRING:
        indexes = (await collection(client, name).index_information()).values()
        on_expiry = [index for index in indexes if [field for field, _ in index["key"]] == ["expires_at"]]
        meant = TOMBSTONE_SECONDS if name == "sessions" else 0  # 0 there, too, while earlier releases run
        seconds = [index.get("expireAfterSeconds") for index in on_expiry]
        found += [(name, each if each is None else max(each - meant, 0)) for each in seconds]
    return tuple(found)


async def _write(client: Any) -> None:
    """Write with the write concern of sessions (majority), then drop the collection."""
    trial = collection(client, _TRIAL)
    try:
        await trial.insert_one({})
    finally:
        with suppress(PyMongoError):
            await trial.drop()


async def _count_sealed(client: Any, vault: Vault, clock: Callable[[], float]) -> tuple[Sealed, ...]:
    counted = []
    for name in SEALED:
        records, living = (
            collection(client, name),
            {"expires_at": {"$gt": date(clock())}, "sealed": {"$type": "binData"}},
        )
        sealed_with = [{"sealed": sealed_by(key_id)} for key_id in vault.key_ids]
        by_key = [await records.count_documents({**living, **condition}) for condition in sealed_with]
        by_none = await records.count_documents({**living, "$nor": sealed_with})
        counted.append(Sealed(name, tuple(by_key), by_none))
    return tuple(counted)


_OLDEST = (4, 4)
NOTICEABLE_SECONDS = 5  # clocks that NTP keeps differ by less


def check_memory_store(settings: BffSettings) -> list[Finding]:
    if settings.debug:
        return [info("sessions are in memory and end with the process")]
    return [
        warning(
            "sessions are in memory: they end with the process, of which there can be only one",
            "Set BFF_SESSION_STORE to mongodb://...",
        )
    ]


def check_mongo(probe: MongoProbe) -> list[Finding]:
    if probe.server is None:
        where = f" at {probe.hosts}" if probe.hosts else ""
        return [
            wrong(
                f"MongoDB{where} does not answer: {probe.problem}",
                "Check BFF_SESSION_STORE (is the password percent-encoded?); the server must run, initiated.",
            )
        ]
    return [
        ok(f"MongoDB answers at {probe.hosts}"),
        _version(probe.server),
        _topology(probe.server),
        *([] if probe.ahead_seconds is None else [_clock(probe.ahead_seconds)]),
        *_indexes(probe),
        _writes(probe),
    ]


def _version(server: Server) -> Finding:
    version = ".".join(map(str, server.version))
    if server.version < _OLDEST:
        return wrong(f"it is MongoDB {version}", "Upgrade it: the drivers need 4.4 or newer.")
    return ok(f"it is MongoDB {version}")


def _clock(ahead: float) -> Finding:
    if abs(ahead) <= NOTICEABLE_SECONDS:
        return ok("our clock and its clock agree")
    return warning(
        f"our clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} its clock: "
        "sessions expire at the wrong time here",
        "Synchronise both machines by NTP.",
    )


def _topology(server: Server) -> Finding:
    if server.sharded:
        return info("it is a sharded cluster")
    if server.replica_set:
        return info(f"it is the replica set {server.replica_set}, with {server.members} data-bearing members")
    return info("it is a standalone server: no failover, and session events are polled")


def _indexes(probe: MongoProbe) -> list[Finding]:
    late = [_late(name, seconds) for name, seconds in probe.expire_after_seconds if seconds != 0]
    if late or not probe.index_problem:
        return late or [ok("the indexes exist, and expired records are removed")]
    return [
        wrong(
            f"the indexes cannot be created: {probe.index_problem}",
            "Grant the database user readWrite; drop what is in the collections and not ours, or name another"
            " database in BFF_SESSION_STORE.",
        )
    ]


def _late(collection: str, seconds: float | None) -> Finding:
    how = "never" if seconds is None else f"{seconds:g} s late"
    return wrong(
        f"{collection}: expired records are removed {how}: the index on expires_at has the wrong TTL",
        f"In mongosh: db.{collection}.dropIndex({{expires_at: {-1 if collection == 'sessions' else 1}}}). "
        "A start creates the right one.",
    )


def _writes(probe: MongoProbe) -> Finding:
    if probe.write_problem:
        return wrong(
            f"a write is not acknowledged by a majority: {probe.write_problem}",
            "Grant the database user readWrite and bring most members up; sessions cannot be saved.",
        )
    return ok("a majority acknowledges writes")
