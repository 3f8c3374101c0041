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

KEPT_SECONDS = 3600
RETRY_SECONDS = 30  # how long the last good copy serves before we ask again after a failure


class CachedDocument(Generic[T]):
    """The last good answer of `fetch`, asked for at most by one task at a time."""

    def __init__(
        self, fetch: Callable[[], Coroutine[Any, Any, T]], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._flights = SingleFlight[T]()
        self._copy: T | None = None
        self._good_until = self._asked_at = float("-inf")

    async def get(self) -> T:
        """Return the copy, fetching it if it is too old.

        Raises ProviderUnavailable only if there never was a good one.
        """
        if self._copy is not None and self._clock() < self._good_until:
            return self._copy
        return await self.renew()

    @property
    def latest(self) -> T | None:
        """The copy, whatever its age; None if there never was a good one."""
        return self._copy

    async def renew(self) -> T:
        """Fetch now, whatever the age of the copy."""
        return await self._flights.join("copy", self._renewed)

    def age(self) -> float:
        return self._clock() - self._asked_at

    async def _renewed(self) -> T:
        self._asked_at = self._clock()
        try:
            self._copy, lasts = await self._fetch(), KEPT_SECONDS
        except ProviderUnavailable as error:
            if self._copy is None:
                raise
            lasts = RETRY_SECONDS
            log.warning("provider did not answer, the last good copy serves", extra={"reason": str(error)})
        self._good_until = self._clock() + lasts
        return self._copy
