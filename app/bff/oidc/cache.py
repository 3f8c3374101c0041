"""A copy of something the provider publishes: fetched once for everybody, and kept when it goes away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from app.bff.errors import ProviderUnavailable
from app.bff.singleflight import SingleFlight

log = logging.getLogger(__name__)
T = TypeVar("T")

TTL_SECONDS = 3600
STALE_TTL_SECONDS = 30  # how long the last good copy serves before we ask again after a failure


class CachedDocument(Generic[T]):
    """The last good answer of `fetch`, asked for at most by one task at a time."""

    def __init__(
        self, fetch: Callable[[], Coroutine[Any, Any, T]], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._flights = SingleFlight[T]()
        self._copy: T | None = None
        self._fresh_until = self._fetched_at = float("-inf")

    async def get(self) -> T:
        """Return the copy, fetching it if it is too old.

        Raises ProviderUnavailable only if there never was a good one.
        """
        if self._copy is not None and self._clock() < self._fresh_until:
            return self._copy
        return await self.refetch()

    def peek(self) -> T | None:
        """The copy, whatever its age; None if there never was a good one."""
        return self._copy

    async def refetch(self) -> T:
        """Fetch now, whatever the age of the copy."""
        return await self._flights.do("copy", self._refetch)

    def age(self) -> float:
        return self._clock() - self._fetched_at

    async def _refetch(self) -> T:
        self._fetched_at = self._clock()
        try:
            self._copy, ttl = await self._fetch(), TTL_SECONDS
        except ProviderUnavailable as error:
            if self._copy is None:
                raise
            ttl = STALE_TTL_SECONDS
            log.warning("provider did not answer, the last good copy serves", extra={"reason": str(error)})
        self._fresh_until = self._clock() + ttl
        return self._copy
