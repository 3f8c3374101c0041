"""The outbox in MongoDB: sealed refresh tokens to revoke, which survive a crash of any process."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from bson.binary import Binary
from pymongo import ReturnDocument

from app.bff.crypto import Unsealable, Vault
from app.bff.sessions.interfaces import Pending, ReencryptResult
from app.bff.sessions.mongo.connection import collection, date, translate_driver_errors
from app.bff.sessions.mongo.indexes import Index, prepare, report
from app.bff.sessions.mongo.reencrypt import reencrypt
from app.bff.sessions.session import known_reason

log = logging.getLogger(__name__)

_INDEXES = (Index("expires_at", expire_after_seconds=0), Index("due_at"))


class MongoOutbox:
    """An Outbox in the collection `revocations`. Does not close the client."""

    def __init__(self, client: Any, vault: Vault, *, clock: Callable[[], float] = time.time) -> None:
        self._vault = vault
        self._clock = clock
        self._revocations = collection(client, "revocations")

    async def open(self) -> None:
        """Create the indexes. The TTL index only purges; `claim` checks `expires_at` itself."""
        report("revocations", await self.prepare())

    async def prepare(self) -> list[str]:
        """Create what can be created, and return what is wrong with the collection."""
        async with translate_driver_errors():
            return await prepare(self._revocations, _INDEXES)

    async def put(self, entries: Sequence[Pending], *, due_at: float) -> None:
        records = [
            {
                "_id": pending.id,
                **self._sealed(pending.id, _to_bytes(pending)),
                "due_at": date(due_at),
                "expires_at": date(pending.expires_at),
                "tries": pending.tries,
            }
            for pending in entries
        ]
        async with translate_driver_errors():
            await self._revocations.insert_many(records)

    async def claim(self, *, until: float, pending_id: str | None = None) -> Pending | None:
        now = date(self._clock())  # read once, so that an undecryptable entry is claimed once
        if pending_id is not None:
            record = await self._claimed({"_id": pending_id}, now, date(until))
            return self._decrypted_or_none(record) if record else None
        while record := await self._claimed({"due_at": {"$lte": now}}, now, date(until)):
            if pending := self._decrypted_or_none(record):
                return pending
        return None

    async def _claimed(
        self, wanted: Mapping[str, Any], now: datetime, until: datetime
    ) -> dict[str, Any] | None:
        async with translate_driver_errors():
            record: dict[str, Any] | None = await self._revocations.find_one_and_update(
                {**wanted, "expires_at": {"$gt": now}, "sealed": {"$type": "binData"}},
                {"$set": {"due_at": until}, "$inc": {"tries": 1}},
                sort=[("due_at", 1)],
                return_document=ReturnDocument.AFTER,
            )
        return record

    async def postpone(self, pending_id: str, *, due_at: float) -> None:
        async with translate_driver_errors():
            await self._revocations.update_one({"_id": pending_id}, {"$set": {"due_at": date(due_at)}})

    async def remove(self, pending_id: str) -> None:
        async with translate_driver_errors():
            await self._revocations.delete_one({"_id": pending_id})

    async def count(self) -> int:
        async with translate_driver_errors():
            return int(await self._revocations.estimated_document_count())

    async def reencrypt(self) -> ReencryptResult:
        return await reencrypt(self._revocations, self._vault, self._reencrypted, now=self._clock())

    def _sealed(self, pending_id: str, content: bytes) -> dict[str, Any]:
        return {"sealed": Binary(self._vault.seal(content, place=_place(pending_id)))}

    def _reencrypted(self, record: dict[str, Any]) -> dict[str, Any]:
        return self._sealed(record["_id"], self._content(record))

    def _content(self, record: dict[str, Any]) -> bytes:
        return self._vault.open(bytes(record["sealed"]), place=_place(record["_id"]))

    def _decrypted_or_none(self, record: dict[str, Any]) -> Pending | None:
        try:
            content = json.loads(self._content(record))
        except Unsealable as error:
            # Not deleted: with the right key ring it can be decrypted again.
            log.error(
                "revocation could not be decrypted", extra={"revocation": record["_id"], "reason": str(error)}
            )
            return None
        return Pending(
            record["_id"],
            content["issuer"],
            content["refresh_token"],
            expires_at=record["expires_at"].timestamp(),
            tries=record["tries"],
            client_id=content.get("client_id"),  # entries of earlier releases have neither this
            ref=content.get("ref"),  # nor these two
            reason=known_reason(content["reason"]) if content.get("reason") else None,
        )


def _to_bytes(pending: Pending) -> bytes:
    names = ("issuer", "refresh_token", "client_id", "ref", "reason")
    return json.dumps({name: getattr(pending, name) for name in names}).encode()


def _place(pending_id: str) -> str:
    return f"revocation {pending_id}"
