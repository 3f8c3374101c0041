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
    """The condition for sealed bytes that begin so: their bits are compared, and no record travels."""
    others = bytes(byte ^ 0xFF for byte in key_id)
    return {"$bitsAllSet": Binary(key_id), "$bitsAllClear": Binary(others)}


async def reencrypt(
    records: Any, vault: Vault, reencrypted: Callable[[Record], Record], *, now: float
) -> ReencryptResult:
    """Go once through the living records that the first key has not sealed.

    `reencrypted` returns the members that take the place of those in a record, or raises Unsealable. They
    are written only if what is sealed is still the same, byte for byte: what somebody else has
    written meanwhile is newer, and sealed by them.
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
        # `version` stays: it counts new tokens, and a refresh under way has still to be saved.
        written = (await records.bulk_write(writes, ordered=False)).matched_count
    return ReencryptResult(written, len(writes) - written, len(batch) - len(writes))


def _write(record: Record, reencrypted: Callable[[Record], Record]) -> UpdateOne | None:
    try:
        return UpdateOne({"_id": record["_id"], "sealed": record["sealed"]}, {"$set": reencrypted(record)})
    except Unsealable:
        return None
