"""Re-encrypts records with the first key of the ring, while all processes keep working."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bson.binary import Binary
from pymongo import UpdateOne

from app.bff.crypto import Unsealable, Vault
from app.bff.sessions.interfaces import ReencryptResult
from app.bff.sessions.mongo.connection import date, translate_driver_errors

_BATCH = 200  # records

Record = dict[str, Any]


def sealed_by(key_id: bytes) -> dict[str, Any]:
    """Return the condition for sealed bytes that begin with this key id; the server compares bits."""
    others = bytes(byte ^ 0xFF for byte in key_id)
    return {"$bitsAllSet": Binary(key_id), "$bitsAllClear": Binary(others)}


async def reencrypt(
    records: Any, vault: Vault, reencrypted: Callable[[Record], Record], *, now: float
) -> ReencryptResult:
    """Make one pass over the live records that another key than the first has encrypted.

    `reencrypted` returns the fields that replace those of a record, or raises Unsealable. They are
    written only if the sealed bytes have not changed (optimistic locking): a concurrent write is newer.
    """
    older = {"$type": "binData", "$not": sealed_by(vault.key_ids[0])}
    found = records.find({"sealed": older, "expires_at": {"$gt": date(now)}}, {"sealed": 1})
    total = ReencryptResult()
    while batch := await _next(found):
        total += await _write_batch(records, batch, reencrypted)
    return total


async def _next(found: Any) -> list[Record]:
    async with translate_driver_errors():
        return list(await found.to_list(_BATCH))


async def _write_batch(
    records: Any, batch: Sequence[Record], reencrypted: Callable[[Record], Record]
) -> ReencryptResult:
    writes = [write for record in batch if (write := _write(record, reencrypted))]
    if not writes:
        return ReencryptResult(undecryptable=len(batch))
    async with translate_driver_errors():
        # `version` stays, so that a refresh in flight can still be saved.
        written = (await records.bulk_write(writes, ordered=False)).matched_count
    return ReencryptResult(written, len(writes) - written, len(batch) - len(writes))


def _write(record: Record, reencrypted: Callable[[Record], Record]) -> UpdateOne | None:
    try:
        return UpdateOne({"_id": record["_id"], "sealed": record["sealed"]}, {"$set": reencrypted(record)})
    except Unsealable:
        return None
