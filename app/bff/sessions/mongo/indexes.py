"""Indexes, and what a collection has already that is not ours: what can be done is, the rest is named."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo.errors import PyMongoError

from app.bff.sessions.mongo.causes import cause_of_driver_error, is_outage

log = logging.getLogger(__name__)

_DATES = frozenset({"created_at", "renewed_at", "expires_at", "forget_at", "due_at"})
_CONFLICTS = (85, 86)  # IndexOptionsConflict, IndexKeySpecsConflict


@dataclass(frozen=True)
class Index:
    """An index on one field; `expire_after_seconds` makes it a TTL index, which removes records.

    `replaces` is the index of an earlier release, which is dropped, or stays if this one cannot be created.
    """

    field: str
    direction: int = 1
    expire_after_seconds: int | None = None
    replaces: Index | None = None

    @property
    def key(self) -> list[tuple[str, int]]:
        return [(self.field, self.direction)]

    @property
    def options(self) -> dict[str, int]:
        return {} if self.expire_after_seconds is None else {"expireAfterSeconds": self.expire_after_seconds}


async def prepare(records: Any, indexes: Sequence[Index]) -> list[str]:
    """Create the indexes of a collection, and return what is wrong with it, without data of its records.

    Raises the driver's error for an outage, and for nothing else: an index that cannot be created makes
    nothing wrong, only slow or large.
    """
    kind, can_have_indexes = kind_problem(await _described(records))
    if not can_have_indexes:
        return [kind]
    problems = [kind, *[problem for index in indexes for problem in await _in_place(records, index)]]
    existing = await _permitted(records.index_information()) or {}
    return [*filter(None, problems), *harmful(existing, indexes)]


def report(collection: str, problems: Iterable[str]) -> None:
    for problem in problems:
        log.error("collection not as expected", extra={"collection": collection, "reason": problem})


async def _in_place(records: Any, index: Index) -> list[str]:
    problem = await _created(records, index)
    if index.replaces is None:
        return [problem]
    if problem:
        return [problem, await _created(records, index.replaces)]
    await _permitted(records.drop_index(index.replaces.key))  # it may not be there
    return []


async def _created(records: Any, index: Index) -> str:
    """Create the index; return what is in the way, or ""."""
    try:
        await records.create_index(index.key, **index.options)
    except PyMongoError as error:
        if is_outage(error):
            raise
        cause = cause_of_driver_error(error)
        existing = await _permitted(records.index_information()) or {}
        if getattr(error, "code", None) in _CONFLICTS:
            cause = conflict(existing, index)
        return f"no index on {index.field}: {cause}" if cause else ""
    return ""


async def _described(records: Any) -> Mapping[str, Any]:
    """Return what the server says of the collection; nothing if it is not there, or may not be listed."""
    command = {"listCollections": 1, "filter": {"name": records.name}}
    found = await _permitted(records.database.command(command)) or {}
    batch = found.get("cursor", {}).get("firstBatch", [])
    return dict(batch[0]) if batch else {}


async def _permitted(work: Awaitable[Any]) -> Any | None:
    """Return the result, or None if the server refuses it: a user may have few rights."""
    try:
        return await work
    except PyMongoError as error:
        if is_outage(error):
            raise
        return None


def kind_problem(described: Mapping[str, Any]) -> tuple[str, bool]:
    """Return why such a collection cannot hold our records, or "", and whether it has indexes. Pure."""
    options = described.get("options", {})
    if described.get("type") in ("view", "timeseries"):
        return f"it is a {described['type']}, which holds no records of ours", False
    if options.get("capped"):
        return "it is capped: it drops records, and lets none grow", True
    if options.get("validator") and options.get("validationAction", "error") != "warn":
        return "it has a validator, which may refuse our records", True
    return "", True


def conflict(existing: Mapping[str, Mapping[str, Any]], index: Index) -> str:
    """Return what is in the way of the index; empty if one of another name does its work. Pure."""
    for name, info in existing.items():
        if list(map(tuple, info["key"])) == index.key:
            expires = info.get("expireAfterSeconds")
            if expires != index.expire_after_seconds:
                return f"the index {name[:100]} has expireAfterSeconds {expires}"
            special = [option for option in _NARROWING if info.get(option)]
            return f"the index {name[:100]} is {special[0]}" if special else ""
    return "its name is that of another index"


_NARROWING = ("unique", "partialFilterExpression", "sparse", "collation")


def harmful(existing: Mapping[str, Mapping[str, Any]], indexes: Sequence[Index]) -> list[str]:
    """Return the indexes, not ours, that refuse records of ours or remove them early. Pure."""
    ours = [index.key for index in indexes]
    problems = []
    for name, info in existing.items():
        key = list(map(tuple, info["key"]))
        if name == "_id_" or key in ours:
            continue
        if info.get("unique") and not (info.get("sparse") or info.get("partialFilterExpression")):
            problems.append(f"the unique index {name[:100]} refuses our records")
        elif "expireAfterSeconds" in info and key[0][0] in _DATES - {"expires_at"}:
            problems.append(f"the TTL index {name[:100]} removes our records")
    return problems
