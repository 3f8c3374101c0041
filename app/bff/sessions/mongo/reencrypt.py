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
    records: Any,
    vault: Vault,
    reencrypted: Callable[[Record], Record],
    *,
    now: float,
    folders: Sequence[str] = (),
) -> ReencryptResult:
    """Make one pass over the live records that another key than the first has encrypted.

    `folders` are fields whose members are sealed, too; records that have one are all read, since no query
    finds members by their bytes. `reencrypted` returns the fields that replace those of a record, none if
    there is nothing to do, or raises Unsealable. They are written only if the sealed bytes have not
    changed (optimistic locking): a concurrent write is newer.
    """
    older = {"sealed": {"$type": "binData", "$not": sealed_by(vault.key_ids[0])}}
    of_folders = [{folder: {"$exists": True}} for folder in folders]
    found = records.find(
        {"$or": [older, *of_folders], "expires_at": {"$gt": date(now)}},
        {"sealed": 1, **dict.fromkeys(folders, 1)},
    )
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
    writes, undecryptable = [], 0
    for record in batch:
        try:
            if changes := reencrypted(record):
                writes.append(UpdateOne(_unchanged(record, changes), {"$set": changes}))
        except Unsealable:
            undecryptable += 1
    if not writes:
        return ReencryptResult(undecryptable=undecryptable)
    async with translate_driver_errors():
        # `version` stays, so that a refresh in flight can still be saved.
        written = (await records.bulk_write(writes, ordered=False)).matched_count
    return ReencryptResult(written, len(writes) - written, undecryptable)


def _unchanged(record: Record, changes: Record) -> Record:
    """The condition that what was read of these fields is still there."""
    condition = {"_id": record["_id"]}
    for field in changes:
        folder, _, name = field.partition(".")
        if folder in record:
            condition[field] = record[folder][name] if name else record[folder]
    return condition
