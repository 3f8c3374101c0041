"""The replay cache in MongoDB: used logout tokens and login attempts, shared by all processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from app.bff.sessions.mongo.connection import collection, date, translate_driver_errors
from app.bff.sessions.mongo.indexes import Index, prepare, report


class MongoReplayCache:
    """A ReplayCache in the collection `logout_tokens`. Does not close the client."""

    def __init__(self, client: Any, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._used = collection(client, "logout_tokens")

    async def open(self) -> None:
        """Create the index. It only purges; `has` checks `expires_at` itself."""
        report("logout_tokens", await self.prepare())

    async def prepare(self) -> list[str]:
        """Create what can be created, and return what is wrong with the collection."""
        async with translate_driver_errors():
            return await prepare(self._used, [Index("expires_at", expire_after_seconds=0)])

    async def has(self, key: str) -> bool:
        async with translate_driver_errors():
            found = await self._used.find_one({"_id": key, "expires_at": {"$gt": date(self._clock())}})
        return found is not None

    async def add(self, key: str, *, until: float) -> bool:
        change = {"$set": {"expires_at": date(until)}}
        async with translate_driver_errors():
            # As it was before; of concurrent upserts of one _id the server lets one insert.
            before = await self._used.find_one_and_update({"_id": key}, change, upsert=True)
        return before is None or before["expires_at"] <= date(self._clock())
