"""The data of sessions in MongoDB: sealed members of `data` and `flash`, each written by itself."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from bson.binary import Binary

from app.bff.crypto import SEAL_BYTES, Unsealable, Vault
from app.bff.errors import TooLarge
from app.bff.sessions.interfaces import MAX_DATA_BYTES, MAX_DATA_FIELDS
from app.bff.sessions.mongo.connection import translate_driver_errors
from app.bff.sessions.mongo.outages import Outages
from app.bff.telemetry.logs import session_log_id

log = logging.getLogger(__name__)

FOLDERS = ("data", "flash")  # fields of a record, whose members are sealed


class RecordData:
    """Reads and writes members of the record of a live session. What is written is fenced as tokens are.

    A write finds the record of a live session or nothing, so it brings no session back, and it touches no
    other field: a refresh at the same moment loses nothing, and neither does another write.
    """

    def __init__(self, records: Any, vault: Vault, outages: Outages) -> None:
        self._records = records
        self._vault = vault
        self._outages = outages

    async def get(self, live: Mapping[str, Any], field: str) -> bytes | None:
        async with translate_driver_errors(self._outages):
            record = await self._records.find_one(live, {field: 1})
        folder, _, name = field.partition(".")
        sealed = (record or {}).get(folder, {}).get(name)
        return None if sealed is None else self.opened(live["_id"], field, sealed)

    async def set(self, live: Mapping[str, Any], field: str, value: bytes) -> bool:
        change = {"$set": {field: self.sealed(live["_id"], field, value)}}
        async with translate_driver_errors(self._outages):
            written = await self._records.update_one({**live, **_fits(field, value)}, change)
            if written.matched_count:
                return True
            if await self._records.find_one(live, {"_id": 1}) is None:
                return False
        raise TooLarge(f"the data of a session have at most {MAX_DATA_BYTES:,} bytes")

    async def remove(self, live: Mapping[str, Any], fields: Collection[str]) -> None:
        async with translate_driver_errors(self._outages):
            await self._records.update_one(live, {"$unset": dict.fromkeys(fields, "")})

    def sealed(self, ref: str, field: str, value: bytes) -> Binary:
        return Binary(self._vault.seal(value, place=_place(ref, field)))

    def opened(self, ref: str, field: str, sealed: bytes) -> bytes | None:
        try:
            return self._vault.open(bytes(sealed), place=_place(ref, field))
        except Unsealable as error:
            fields = {"session": session_log_id(ref), "reason": str(error)}
            log.error("session data could not be decrypted", extra=fields)
            return None

    def reencrypted(self, record: Mapping[str, Any]) -> dict[str, Binary]:
        """Return the fields that the first key has not sealed, sealed with it, as far as a key opens them."""
        ref, renewed = record["_id"], {}
        for folder in FOLDERS:
            for name, sealed in record.get(folder, {}).items():
                field = f"{folder}.{name}"
                if self._vault.is_newest(bytes(sealed)):
                    continue
                if (value := self.opened(ref, field, sealed)) is not None:
                    renewed[field] = self.sealed(ref, field, value)
        return renewed


def _fits(field: str, value: bytes) -> dict[str, Any]:
    """The condition that this value and all other members together keep the limits."""
    name = field.partition(".")[2]
    members = [{"$objectToArray": {"$ifNull": [f"${folder}", {}]}} for folder in FOLDERS]
    is_other = {"$ne": ["$$this.k", {"$literal": name}]}
    others = {"$filter": {"input": {"$concatArrays": members}, "cond": is_other}}
    size = {"$add": [{"$strLenBytes": "$$this.k"}, {"$binarySize": "$$this.v"}, -SEAL_BYTES]}
    left = MAX_DATA_BYTES - len(name.encode()) - len(value)
    total = {"$sum": {"$map": {"input": others, "as": "this", "in": size}}}
    return {"$expr": {"$and": [{"$lte": [total, left]}, {"$lt": [{"$size": others}, MAX_DATA_FIELDS]}]}}


def _place(ref: str, field: str) -> str:
    return f"session data {ref} {field}"
