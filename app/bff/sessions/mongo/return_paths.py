"""Return paths in MongoDB, sealed: those that are too long for a cookie."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

from bson.binary import Binary

from app.bff.crypto import Unsealable, Vault
from app.bff.sessions.interfaces import MAX_RETURN_PATHS
from app.bff.sessions.mongo.connection import collection, date, translate_driver_errors
from app.bff.sessions.mongo.indexes import Index, prepare, report


class MongoReturnPaths:
    """A ReturnPaths in the collection `return_paths`. Does not close the client."""

    def __init__(
        self,
        client: Any,
        vault: Vault,
        *,
        clock: Callable[[], float] = time.time,
        limit: int = MAX_RETURN_PATHS,
    ) -> None:
        self._limit = limit
        self._vault = vault
        self._clock = clock
        self._paths = collection(client, "return_paths")

    async def open(self) -> None:
        """Create the index. It only purges; `get` checks `expires_at` itself."""
        report("return_paths", await self.prepare())

    async def prepare(self) -> list[str]:
        """Create what can be created, and return what is wrong with the collection."""
        async with translate_driver_errors():
            return await prepare(self._paths, [Index("expires_at", expire_after_seconds=0)])

    async def put(self, key: str, path: str, *, until: float) -> bool:
        id_ = _id(key)
        record = {
            "_id": id_,
            "sealed": Binary(self._vault.seal(path.encode(), place=_place(id_))),
            "expires_at": date(until),
        }
        async with translate_driver_errors():
            if not await self._has_room():
                return False
            await self._paths.insert_one(record)
        return True

    async def _has_room(self) -> bool:
        if await self._paths.estimated_document_count() < self._limit:
            return True
        # There may be no TTL index, or it is late.
        removed = await self._paths.delete_many({"expires_at": {"$lte": date(self._clock())}})
        return bool(removed.deleted_count)

    async def get(self, key: str) -> str | None:
        id_ = _id(key)
        async with translate_driver_errors():
            record = await self._paths.find_one({"_id": id_, "expires_at": {"$gt": date(self._clock())}})
        try:
            return self._vault.open(bytes(record["sealed"]), place=_place(id_)).decode() if record else None
        except Unsealable:  # its key is out of the ring: the path is a convenience, and lives for minutes
            return None


def _id(key: str) -> str:
    """The key is the `state` of a login or logout: a dump of the database does not show it."""
    return hashlib.sha256(key.encode()).hexdigest()


def _place(id_: str) -> str:
    return f"return path {id_}"
