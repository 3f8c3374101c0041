"""What MongoDB is like right now, found out with the client and in the ways that sessions have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pymongo.errors import PyMongoError

from app.bff.crypto import Vault
from app.bff.errors import SettingsError, StoreUnavailable
from app.bff.sessions.mongo.connection import (
    TIMEOUT_SECONDS,
    collection,
    connect,
    date,
    disconnect,
    translate_driver_errors,
)
from app.bff.sessions.mongo.outbox import MongoOutbox
from app.bff.sessions.mongo.reencrypt import sealed_by
from app.bff.sessions.mongo.replay import MongoReplayCache
from app.bff.sessions.mongo.sessions import MongoSessions
from app.bff.settings.load import BffSettings

SEALED = ("sessions", "revocations")
EXPIRING = (*SEALED, "logout_tokens")
_TRIAL = "doctor"  # the collection that is written to, and dropped


@dataclass(frozen=True)
class Sealed:
    """How many living records of a collection each key of the ring has sealed, and how many no key of it."""

    collection: str
    by_key: tuple[int, ...]
    by_none: int


@dataclass(frozen=True)
class Server:
    """Who answers. `members` is 0 for a standalone server, and for a sharded cluster."""

    version: tuple[int, ...]
    replica_set: str
    members: int
    sharded: bool


@dataclass(frozen=True)
class MongoFacts:
    """What there is; each `…_problem` says in words what did not work, and is empty if it did.

    `expire_after_seconds` is of each index on `expires_at` that is there; None if it clears nothing away.
    """

    hosts: str = ""
    problem: str = ""
    server: Server | None = None
    index_problem: str = ""
    expire_after_seconds: tuple[tuple[str, float | None], ...] = ()
    write_problem: str = ""
    sealed: tuple[Sealed, ...] = ()
    sealed_problem: str = ""


async def mongo_facts(settings: BffSettings, *, clock: Callable[[], float]) -> MongoFacts:
    try:
        client = connect(settings.session_store, driver=settings.mongodb_driver)
    except (SettingsError, PyMongoError, TypeError):  # not quoted: it may show a piece of the password
        return MongoFacts(problem="the driver does not understand the URI")
    try:
        return await _looked_at(client, Vault(settings.key_ring), hosts_in(settings.session_store), clock)
    finally:
        await disconnect(client)


def hosts_in(uri: str) -> str:
    """Return what the driver takes for the hosts in a URI: no user name, no password, no options."""
    authority = uri.partition("://")[2].partition("/")[0].partition("?")[0]
    return authority.rpartition("@")[2]


async def _looked_at(client: Any, vault: Vault, hosts: str, clock: Callable[[], float]) -> MongoFacts:
    server, problem = await _tried(_server(client))
    if server is None:
        return MongoFacts(hosts, problem)
    (_, index_problem), (_, write_problem), (sealed, sealed_problem) = await asyncio.gather(
        _tried(_with_indexes(client, vault, clock)),
        _tried(_written(client)),
        _tried(_sealed(client, vault, clock)),
    )
    expire_after_seconds, reading_problem = await _tried(_expiries(client))
    return MongoFacts(
        hosts,
        server=server,
        index_problem=index_problem or reading_problem,
        expire_after_seconds=expire_after_seconds or (),
        write_problem=write_problem,
        sealed=sealed or (),
        sealed_problem=sealed_problem,
    )


async def _tried(work: Awaitable[Any]) -> tuple[Any, str]:
    """Return what the work returns and "", or None and what went wrong, in words."""
    try:
        async with translate_driver_errors():
            return await work, ""
    except StoreUnavailable as error:
        return None, in_words(error.__cause__ or error)


async def _server(client: Any) -> Server:
    hello, built = await client.admin.command("hello"), await client.server_info()
    return Server(
        version=tuple(built["versionArray"][:3]),
        replica_set=hello.get("setName", ""),
        members=len(hello.get("hosts", ())),
        sharded=hello.get("msg") == "isdbgrid",
    )


async def _with_indexes(client: Any, vault: Vault, clock: Callable[[], float]) -> None:
    """Make them as a start of the application does, which changes nothing where they are right."""
    await MongoSessions(client, vault, clock=clock).open()
    await MongoOutbox(client, vault, clock=clock).open()
    await MongoReplayCache(client, clock=clock).open()


async def _expiries(client: Any) -> tuple[tuple[str, float | None], ...]:
    found: list[tuple[str, float | None]] = []
    for name in EXPIRING:
        indexes = (await collection(client, name).index_information()).values()
        on_expiry = [index for index in indexes if [field for field, _ in index["key"]] == ["expires_at"]]
        found += [(name, index.get("expireAfterSeconds")) for index in on_expiry]
    return tuple(found)


async def _written(client: Any) -> None:
    """Write as sessions are written, acknowledged by a majority, and clear it away."""
    trial = collection(client, _TRIAL)
    try:
        await trial.insert_one({})
    finally:
        with suppress(PyMongoError):
            await trial.drop()


async def _sealed(client: Any, vault: Vault, clock: Callable[[], float]) -> tuple[Sealed, ...]:
    counted = []
    for name in SEALED:
        records, living = collection(client, name), {"expires_at": {"$gt": date(clock())}}
        sealed_with = [{"sealed": sealed_by(key_id)} for key_id in vault.key_ids]
        by_key = [await records.count_documents({**living, **condition}) for condition in sealed_with]
        by_none = await records.count_documents({**living, "$nor": sealed_with})
        counted.append(Sealed(name, tuple(by_key), by_none))
    return tuple(counted)


def in_words(error: BaseException) -> str:
    details = getattr(error, "details", None)
    if isinstance(details, dict) and "codeName" in details:
        return f"it answers {details['codeName']}"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS} s"
    said = str(error).partition(" (configured")[0].partition(", ")[0]
    return "there is no primary" if said.startswith("No ") else said
