"""Ends of sessions and changes of their claims in MongoDB: tombstones, a replica set's change stream."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from typing import Any

from bson.binary import Binary
from pymongo.errors import OperationFailure

from app.bff.errors import StoreUnavailable
from app.bff.sessions.interfaces import HEARTBEAT_SECONDS, TOMBSTONE_SECONDS, News
from app.bff.sessions.mongo.causes import cause_of_driver_error, is_outage
from app.bff.sessions.mongo.connection import collection, date, translate_driver_errors, uncancelled
from app.bff.sessions.session import Reason, known_reason

log = logging.getLogger(__name__)

_STANDALONE = 40573  # "The $changeStream stage is only supported on replica sets"

# A record is replaced by its tombstone only, and deleted by the TTL index or by hand. Of the updates (the
# touches, leases and refreshes of all sessions) only changes of claims are news.
_CHANGES = "updateDescription.updatedFields.changes"
_NEWS = [{"$match": {"$or": [{"operationType": {"$in": ["replace", "delete"]}}, {_CHANGES: {"$gt": 0}}]}}]


def tombstone(reason: Reason, *, now: float, hint: bytes | None = None) -> dict[str, Any]:
    """Return the tombstone that replaces the record of a deleted session for TOMBSTONE_SECONDS.

    It has no `expires_at`, so no query for live sessions matches it. `hint` is the sealed LogoutHint.
    """
    left = {"ended": reason.value, "forget_at": date(now + TOMBSTONE_SECONDS)}
    return {**left, "hint": Binary(hint)} if hint else left


def news_in(record: Mapping[str, Any] | None, *, now: float) -> News:
    """Return why a session is over, by its record or tombstone; while it is live its `changes`."""
    if record is not None and "ended" in record:
        return known_reason(record["ended"])
    expires_at = record.get("expires_at") if record is not None else None
    if record is not None and isinstance(expires_at, datetime) and now < expires_at.timestamp():
        return int(record.get("changes", 0))
    return Reason.EXPIRED


class MongoSessionEndSource:
    """The SessionEndSource of MongoSessions. Does not close the client."""

    def __init__(self, client: Any, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._sessions = collection(client, "sessions")
        self._is_told = False  # that there is no change stream

    async def reasons(self, refs: Collection[str]) -> Mapping[str, News]:
        records = await uncancelled(self._found(refs))
        now = self._clock()
        return {ref: news for ref in refs if (news := news_in(records.get(ref), now=now))}

    async def _found(self, refs: Collection[str]) -> dict[str, dict[str, Any]]:
        query = {"_id": {"$in": list(refs)}}
        async with translate_driver_errors():
            records = await self._sessions.find(query, {"ended": 1, "expires_at": 1, "changes": 1}).to_list(
                None
            )
        return {record["_id"]: record for record in records}

    async def watch(self) -> AsyncGenerator[Mapping[str, News]]:
        async with AsyncExitStack() as closing:
            stream = await uncancelled(self._open_stream(closing))
            if stream is None:
                return
            yield {}
            while True:
                change = await uncancelled(_next_in(stream))
                yield self._news_in(change) if change else {}

    async def _open_stream(self, closing: AsyncExitStack) -> Any | None:
        """Return an open change stream, or None if this database supports none."""
        async with translate_driver_errors():
            try:
                watching = self._sessions.watch(_NEWS, max_await_time_ms=HEARTBEAT_SECONDS * 1000)
                stream = await watching if inspect.isawaitable(watching) else watching  # PyMongo's is
                closing.push_async_callback(_close, stream)
                return await stream.__aenter__()  # where Motor opens it
            except OperationFailure as error:
                if is_outage(error):
                    raise
                if error.code != _STANDALONE and not self._is_told:
                    self._is_told = True
                    log.warning("no change stream", extra={"reason": cause_of_driver_error(error)})
                return None

    def _news_in(self, change: Mapping[str, Any]) -> Mapping[str, News]:
        if not isinstance(change["documentKey"]["_id"], str):
            return {}  # a document of another application
        if change["operationType"] == "update":
            return {change["documentKey"]["_id"]: change["updateDescription"]["updatedFields"]["changes"]}
        news = news_in(change.get("fullDocument"), now=self._clock())
        return {change["documentKey"]["_id"]: news} if news else {}


async def _next_in(stream: Any) -> Mapping[str, Any] | None:
    async with translate_driver_errors():
        change: Mapping[str, Any] | None = await stream.try_next()
    return change


async def _close(stream: Any) -> None:
    with suppress(StoreUnavailable):
        async with translate_driver_errors():
            await stream.close()
