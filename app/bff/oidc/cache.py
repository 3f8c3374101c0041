"""Cache of one provider document: single-flight fetch, TTL 1 h, serves stale on error."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from app.bff.backoff import DOCUMENT_RETRY_SECONDS
from app.bff.errors import ProviderUnavailable
from app.bff.singleflight import SingleFlight

log = logging.getLogger(__name__)
T = TypeVar("T")

TTL_SECONDS = 3600


class CachedDocument(Generic[T]):
    """The last document that `fetch` returned; at most one fetch runs at a time (RFC 5861 §4)."""

    def __init__(
        self, fetch: Callable[[], Coroutine[Any, Any, T]], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._flights = SingleFlight[T]()
        self._document: T | None = None
        self._fresh_until = self._fetched_at = float("-inf")

    async def get(self) -> T:
        """Return the document, fetching it if it is older than TTL_SECONDS.

        Raises ProviderUnavailable only if no fetch has ever succeeded.
        """
        if self._document is not None and self._clock() < self._fresh_until:
            return self._document
        return await self.refetch()

    async def refetch(self) -> T:
        """Fetch now, whatever the age of the document."""
        return await self._flights.do("document", self._refetch)

    def age(self) -> float:
        """Return how many seconds ago the last fetch began, successful or not."""
        return self._clock() - self._fetched_at

    async def _refetch(self) -> T:
        self._fetched_at = self._clock()
        try:
            self._document, ttl = await self._fetch(), TTL_SECONDS
        except ProviderUnavailable as error:
            if self._document is None:
                raise
            ttl = DOCUMENT_RETRY_SECONDS
            log.warning("provider document served stale", extra={"reason": str(error)})
        self._fresh_until = self._clock() + ttl
        return self._document
