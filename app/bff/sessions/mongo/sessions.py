"""Sessions in MongoDB, sealed; with Motor or PyMongo's asyncio client."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from datetime import datetime
from typing import Any

from bson.binary import Binary
from pymongo import ReturnDocument

from app.bff.batch_loader import BatchLoader
from app.bff.crypto import Unsealable, Vault
from app.bff.sessions.interfaces import TOMBSTONE_SECONDS, ReencryptResult
from app.bff.sessions.mongo.connection import collection, date, disconnect, translate_driver_errors
from app.bff.sessions.mongo.data import FOLDERS, RecordData
from app.bff.sessions.mongo.events import tombstone
from app.bff.sessions.mongo.indexes import Index, prepare, report
from app.bff.sessions.mongo.outages import Outages
from app.bff.sessions.mongo.reencrypt import reencrypt
from app.bff.sessions.session import LOGIN, LogoutHint, Reason, Session, Target, TokenSet
from app.bff.telemetry.logs import session_log_id

log = logging.getLogger(__name__)

_SESSION_FIELDS = ("sealed", "version", "renewed_at", "expires_at", "changes", "flash")  # of a record
_ADDED = (
    "bff:added"  # among the stored claims: an earlier release that saves the session loses it nowhere else
)
_DECRYPTED_CACHE_SIZE = 256  # sessions, the most recently used


_OURS = {"_id": {"$type": "string"}, "sealed": {"$type": "binData"}, "version": {"$type": "number"}}
_LEAVES_A_HINT = {"$or": [{"hint": {"$type": "binData"}}, {"sealed": {"$type": "binData"}}]}
# The record of an expired session is its own tombstone for a while. Earlier releases have an index, of
# another key, that purges at once: one that starts later creates it again, without a conflict, and no hint
# is left of an expired session. It stays where the later one cannot be created: else nothing purges.
_PURGES_AT_ONCE = Index("expires_at", expire_after_seconds=0)
_PURGES_LATE = Index("expires_at", -1, TOMBSTONE_SECONDS, replaces=_PURGES_AT_ONCE)
_INDEXES = (Index("forget_at", expire_after_seconds=0), Index("user"), Index("sid"), _PURGES_LATE)


class MongoSessions:
    """A SessionStore in the collection `sessions`.

    A record has `_id`, the session's ref; `sealed`, the session as encrypted JSON; `user` and `sid`, keyed
    hashes to search by; `version`; the dates `created_at`, `renewed_at` and `expires_at`; `changes`, of the
    claims, if there are any; `data` and `flash`, whose members are sealed; during a refresh `lease`, with
    `owner` and the date `until`. A tombstone has `ended`, the reason, `forget_at`, and `hint`, a sealed
    LogoutHint. The record of a session that has expired is its own tombstone.
    """

    def __init__(
        self,
        client: Any,
        vault: Vault,
        *,
        clock: Callable[[], float] = time.time,
        outages: Outages | None = None,
    ) -> None:
        self._client = client
        self._outages = outages or Outages()
        self._vault = vault
        self._clock = clock
        self._sessions = collection(client, "sessions")
        self._reads = BatchLoader(self._look_up)
        self._data = RecordData(self._sessions, vault, self._outages)
        # Decryption is memoised by ciphertext; the record itself is always read. Up to 256 decrypted
        # sessions stay in memory, also after logout.
        self._decrypt = functools.lru_cache(maxsize=_DECRYPTED_CACHE_SIZE)(self._decrypted)

    async def open(self) -> None:
        """Create the indexes. TTL indexes only purge; every read checks `expires_at` itself."""
        report("sessions", await self.prepare())

    async def prepare(self) -> list[str]:
        """Create what can be created, and return what is wrong with the collection."""
        async with translate_driver_errors(self._outages):
            return await prepare(self._sessions, _INDEXES)

    async def close(self) -> None:
        await disconnect(self._client)

    async def ping(self) -> None:
        async with translate_driver_errors(self._outages):
            await self._client.admin.command("ping")

    async def create(self, session: Session) -> None:
        record = {
            "_id": session.ref,
            **self._sealed(session, to_bytes(session)),
            "version": session.version,
            "created_at": date(session.created_at),
            "renewed_at": date(session.renewed_at),
            "expires_at": date(session.expires_at),
        }
        async with translate_driver_errors(self._outages):
            await self._sessions.insert_one(record)

    async def clock_ahead_seconds(self) -> float:
        sent_at = self._clock()
        async with translate_driver_errors(self._outages):
            hello = await self._client.admin.command("hello")
        return ahead_seconds(hello["localTime"].timestamp(), sent_at=sent_at, received_at=self._clock())

    async def get(self, ref: str) -> Session | None:
        async with translate_driver_errors():  # the wait for the query of others included
            record = await self._reads.get(ref)
        return self._decrypted_or_none(record)

    async def _look_up(self, refs: Sequence[str]) -> dict[str, dict[str, Any]]:
        async with translate_driver_errors(self._outages):
            if len(refs) == 1:
                records = [await self._sessions.find_one(self._live_by_id(refs[0]), _SESSION_FIELDS)]
            else:
                query = {"_id": {"$in": refs}, **self._live()}
                records = await self._sessions.find(query, _SESSION_FIELDS).to_list(None)
        return {record["_id"]: record for record in records if record is not None}

    async def lease(self, ref: str, *, owner: str, seconds: float) -> Session | None:
        # Written and compared by the clock of the database ($$NOW of the primary): those of the
        # processes may differ. The stored format is that of earlier releases, which compare with their
        # own clock; so while they run beside this one, their clocks matter as they did.
        expired = {"$expr": {"$lte": ["$lease.until", "$$NOW"]}}
        free = [{"lease": None}, {"lease.owner": owner}, *([expired] if self._outages.may_take_over else [])]
        until = {"$add": ["$$NOW", round(seconds * 1000)]}
        acquire = [{"$set": {"lease": {"owner": {"$literal": owner}, "until": until}}}]
        async with translate_driver_errors(self._outages):
            # As it was before: a lease changes nothing else, and who held it before matters.
            record = await self._sessions.find_one_and_update({**self._live_by_id(ref), "$or": free}, acquire)
        session = self._decrypted_or_none(record)
        taken_over = record is not None and record.get("lease", {}).get("owner", owner) != owner
        return replace(session, lease_taken_over=True) if session and taken_over else session

    async def release(self, ref: str, *, owner: str) -> None:
        async with translate_driver_errors(self._outages):
            await self._sessions.update_one({"_id": ref, "lease.owner": owner}, {"$unset": {"lease": ""}})

    async def save(self, session: Session, *, lease: str | None = None) -> Session | None:
        expected = {**self._live_by_id(session.ref), "version": session.version}
        # Of `changes` the change stream reports each: see MongoSessionEndSource.
        changes = {"changes": session.changes} if session.changes else {}
        fields = {**self._sealed(session, to_bytes(session)), **changes}
        change: dict[str, Any] = {"$set": fields, "$inc": {"version": 1}}
        if lease is not None:
            expected["lease.owner"] = lease
            change["$unset"] = {"lease": ""}
        return await self._updated(expected, change)

    async def _updated(self, expected: dict[str, Any], change: Any) -> Session | None:
        async with translate_driver_errors(self._outages):
            record = await self._sessions.find_one_and_update(
                expected, change, return_document=ReturnDocument.AFTER
            )
        return self._decrypted_or_none(record)

    async def touch(self, ref: str, *, renewed_at: float, expires_at: float) -> None:
        times = {"renewed_at": date(renewed_at), "expires_at": date(expires_at)}
        async with translate_driver_errors(self._outages):
            await self._sessions.update_one(self._live_by_id(ref), {"$set": times})

    async def delete(
        self, ref: str, *, reason: Reason, version: int | None = None, lease: str | None = None
    ) -> Session | None:
        conditions = {"version": version, "lease.owner": lease}
        expected = self._live_by_id(ref) | {name: value for name, value in conditions.items() if value}
        async with translate_driver_errors(self._outages):
            before = await self._sessions.find_one(expected, _SESSION_FIELDS)
            replacement = tombstone(reason, now=self._clock(), hint=self._sealed_hint(before))
            record = await self._sessions.find_one_and_replace(expected, replacement)
        return self._decrypted_or_none(record)

    async def data(self, ref: str, field: str) -> bytes | None:
        return await self._data.get(self._live_by_id(ref), field)

    async def set_data(self, ref: str, field: str, value: bytes) -> bool:
        return await self._data.set(self._live_by_id(ref), field, value)

    async def remove_data(self, ref: str, fields: Collection[str]) -> None:
        await self._data.remove(self._live_by_id(ref), fields)

    async def logout_hint(self, ref: str) -> LogoutHint | None:
        async with translate_driver_errors(self._outages):
            record = await self._sessions.find_one({"_id": ref, **_LEAVES_A_HINT})
        if record is None:
            return None
        if "hint" in record:
            return self._opened_hint(record) if self._clock() < record["forget_at"].timestamp() else None
        ended_at = record["expires_at"].timestamp() if "expires_at" in record else 0
        if not ended_at <= self._clock() < ended_at + TOMBSTONE_SECONDS:
            return None
        session = self._decrypted_or_none(record)
        return session.logout_hint if session else None

    def _sealed_hint(self, record: dict[str, Any] | None) -> bytes | None:
        with suppress(Unsealable):
            if record and (hint := self._session_in(record).logout_hint):
                return self._vault.seal(json.dumps(asdict(hint)).encode(), place=_hint_place(record["_id"]))
        return None

    def _opened_hint(self, record: dict[str, Any]) -> LogoutHint | None:
        try:
            content = self._vault.open(bytes(record["hint"]), place=_hint_place(record["_id"]))
        except Unsealable:  # it is a convenience, and lives for minutes
            return None
        return LogoutHint(**_known(LogoutHint, json.loads(content)))

    async def of_user(self, issuer: str, subject: str) -> list[Session]:
        return await self._found("user", f"{issuer} {subject}")

    async def of_sid(self, issuer: str, sid: str) -> list[Session]:
        return await self._found("sid", f"{issuer} {sid}")

    async def _found(self, tag: str, value: str) -> list[Session]:
        query = {tag: {"$in": self._vault.tags(value)}, **self._live()}
        async with translate_driver_errors(self._outages):
            records = await self._sessions.find(query).sort("created_at", 1).to_list(None)
        return [session for record in records if (session := self._decrypted_or_none(record))]

    async def every(self) -> AsyncIterator[Session]:
        records = self._sessions.find({**self._live(), **_OURS})
        while True:
            async with translate_driver_errors(self._outages):
                record = await anext(records, None)
            if record is None:
                return
            if session := self._decrypted_or_none(record):
                yield session

    async def reencrypt(self) -> ReencryptResult:
        return await reencrypt(
            self._sessions, self._vault, self._reencrypted, now=self._clock(), folders=FOLDERS
        )

    def _live_by_id(self, ref: str) -> dict[str, Any]:
        return {"_id": ref, **self._live()}

    def _live(self) -> dict[str, Any]:
        return {"expires_at": {"$gt": date(self._clock())}}

    def _sealed(self, session: Session, content: bytes) -> dict[str, Any]:
        """The fields that depend on the key ring; every save rewrites them with the first key."""
        return {
            "user": self._vault.tag(f"{session.issuer} {session.subject}"),
            "sid": self._vault.tag(f"{session.issuer} {session.sid}"),
            "sealed": Binary(self._vault.seal(content, place=_place(session.ref))),
        }

    def _reencrypted(self, record: dict[str, Any]) -> dict[str, Any]:
        """The same content, including fields that only a newer release knows; and data that it has."""
        data = self._data.reencrypted(record)
        if self._vault.is_newest(bytes(record["sealed"])):
            return data
        content = self._vault.open(bytes(record["sealed"]), place=_place(record["_id"]))
        return {**self._sealed(from_bytes(content), content), **data}

    def _decrypted_or_none(self, record: dict[str, Any] | None) -> Session | None:
        if record is None:
            return None
        try:
            return self._session_in(record)
        except Unsealable as error:
            # Not deleted: with the right key ring it can be decrypted again.
            log.error(
                "session could not be decrypted",
                extra={"session": session_log_id(record["_id"]), "reason": str(error)},
            )
            return None

    def _session_in(self, record: dict[str, Any]) -> Session:
        try:
            of_record = (record["version"], record["renewed_at"], record["expires_at"])
            sealed, changes = bytes(record["sealed"]), record.get("changes", 0)
            session = self._decrypt(record["_id"], sealed, *of_record, changes)
        except (KeyError, TypeError, AttributeError) as error:
            raise Unsealable("the record has another shape") from error
        return replace(session, flashes=self._flashes(record)) if record.get("flash") else session

    def _flashes(self, record: dict[str, Any]) -> tuple[tuple[str, str], ...]:
        found = sorted(record["flash"].items())
        opened = [(name, self._data.opened(record["_id"], f"flash.{name}", sealed)) for name, sealed in found]
        return tuple((name, json.loads(content)) for name, content in opened if content is not None)

    def _decrypted(
        self, ref: str, sealed: bytes, version: int, renewed_at: datetime, expires_at: datetime, changes: int
    ) -> Session:
        return from_bytes(
            self._vault.open(sealed, place=_place(ref)),
            version=version,
            renewed_at=renewed_at.timestamp(),
            expires_at=expires_at.timestamp(),
            changes=changes,
        )


def ahead_seconds(store_time: float, *, sent_at: float, received_at: float) -> float:
    """Return the least seconds by which our clock is ahead of the store's; negative if it is behind.

    The store read `store_time` between our `sent_at` and `received_at`.
    """
    return max(sent_at - store_time, 0) or min(received_at - store_time, 0)


def to_bytes(session: Session) -> bytes:
    content = asdict(session)
    del content["lease_taken_over"], content["flashes"]
    if added := content.pop("added"):
        content["claims"] = {**content["claims"], _ADDED: added}
    return json.dumps(content).encode()


def from_bytes(data: bytes, **current: Any) -> Session:
    """Return the session in `data`, with the `current` values of the fields that are not sealed."""
    content = _known(Session, json.loads(data))
    content["tokens"] = _token_set(content["tokens"])
    content["others"] = tuple(_token_set(member) for member in content.get("others", ()))
    content["added"] = tuple(content["claims"].pop(_ADDED, ()))
    content.setdefault("claims_renewed_at", content["created_at"])
    return Session(**{**content, **current})


def _token_set(content: dict[str, Any]) -> TokenSet:
    target = content.get("target")
    known = _known(TokenSet, content)
    known["target"] = Target(**_known(Target, target)) if target and any(target.values()) else LOGIN
    return TokenSet(**known)


def _known(shape: Any, content: dict[str, Any]) -> dict[str, Any]:
    """Drop fields that only a newer release knows: during a rolling upgrade both run."""
    names = _names(shape)
    return {name: value for name, value in content.items() if name in names}


@functools.cache
def _names(shape: Any) -> frozenset[str]:
    return frozenset(field.name for field in fields(shape))


def _place(ref: str) -> str:
    return f"session {ref}"


def _hint_place(ref: str) -> str:
    return f"logout hint {ref}"
