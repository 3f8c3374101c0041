"""Is MongoDB as sessions need it? Pure."""

from __future__ import annotations

from app.bff.doctor.probe_mongo import MongoFacts, Server
from app.bff.doctor.report import Finding, info, ok, warning, wrong
from app.bff.settings.load import BffSettings

_OLDEST = (4, 4)


def memory_findings(settings: BffSettings) -> list[Finding]:
    if settings.debug:
        return [info("sessions are kept in memory, and end with the process")]
    return [
        warning(
            "sessions are kept in memory: they end with the process, and there can be only one",
            "Set BFF_SESSION_STORE to mongodb://...",
        )
    ]


def mongo_findings(facts: MongoFacts) -> list[Finding]:
    if facts.server is None:
        where = f" at {facts.hosts}" if facts.hosts else ""
        return [
            wrong(
                f"MongoDB{where} does not answer: {facts.problem}",
                "Check BFF_SESSION_STORE (is the password percent-encoded?), that it runs, and is initiated.",
            )
        ]
    return [
        ok(f"MongoDB answers at {facts.hosts}"),
        _version(facts.server),
        _topology(facts.server),
        *_indexes(facts),
        _writes(facts),
    ]


def _version(server: Server) -> Finding:
    version = ".".join(map(str, server.version))
    if server.version < _OLDEST:
        return wrong(f"it is MongoDB {version}", "Upgrade it: the drivers need 4.4 or newer.")
    return ok(f"it is MongoDB {version}")


def _topology(server: Server) -> Finding:
    if server.sharded:
        return info("it is a sharded cluster")
    if server.replica_set:
        return info(f"it is the replica set {server.replica_set}, with data on {server.members}")
    return info("it is a standalone server: nothing takes over when it fails, and live events are polled for")


def _indexes(facts: MongoFacts) -> list[Finding]:
    late = [_late(name, seconds) for name, seconds in facts.expire_after_seconds if seconds != 0]
    if late or not facts.index_problem:
        return late or [ok("the indexes are there, and what has expired is cleared away")]
    return [
        wrong(
            f"the indexes cannot be made: {facts.index_problem}",
            "Let our user create indexes (role readWrite); drop one that is there with other options.",
        )
    ]


def _late(collection: str, seconds: float | None) -> Finding:
    how = "never" if seconds is None else f"{seconds:g} s late"
    return wrong(
        f"{collection}: what has expired is cleared away {how}, as the index on expires_at says",
        f"In mongosh: db.{collection}.dropIndex({{expires_at: 1}}). We make the right one when we start.",
    )


def _writes(facts: MongoFacts) -> Finding:
    if facts.write_problem:
        return wrong(
            f"a write is not acknowledged by a majority: {facts.write_problem}",
            "Let our user write (role readWrite), and most members be up: no session is saved without.",
        )
    return ok("a majority acknowledges writes")
