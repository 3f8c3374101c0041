"""Cache of one provider document: single-flight fetch, TTL 1 h, serves stale on error."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

from app.bff.backoff import DOCUMENT_RETRY_SECONDS
from app.bff.budget import Budget
from app.bff.errors import ProviderUnavailable
from app.bff.singleflight import SingleFlight

log = logging.getLogger(__name__)
T = TypeVar("T")

TTL_SECONDS = 3600
_KEY = "document"


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
        self._problem = ""  # of the last fetch

    async def get(self) -> T:
        """Return the document, fetching it if it is older than TTL_SECONDS.

        Raises ProviderUnavailable only if no fetch has ever succeeded.
        """
        if self._document is not None and self._clock() < self._fresh_until:
            return self._document
        return await self.refetch()

    async def refetch(self, budget: Budget | None = None) -> T:
        """Fetch now, whatever the age of the document, or wait for the fetch that is under way.

        A fetch that `budget` does not allow is left out.
        """
        if self._document is not None and budget and not (self._flights.runs(_KEY) or budget.take()):
            return self._document
        return await self._flights.do(_KEY, self._refetch)

    def start_refetch(self, budget: Budget) -> None:
        """Fetch in the background, if `budget` allows it."""
        if not self._flights.runs(_KEY) and budget.take():
            self._flights.start(_KEY, self._refetch)

    async def problem(self, budget: Budget, *, seconds: float) -> str:
        """Return why the last fetch, made in the last `seconds` as `budget` allows, failed; "" if not."""
        is_recent = not self._problem and 0 <= self._clock() - self._fetched_at < seconds
        if not is_recent and (self._flights.runs(_KEY) or budget.take()):
            with suppress(ProviderUnavailable):
                await self._flights.do(_KEY, self._refetch)
        return self._problem

    async def _refetch(self) -> T:
        self._fetched_at = self._clock()
        try:
            self._document, ttl = await self._fetch(), TTL_SECONDS
            self._problem = ""
        except ProviderUnavailable as error:
            self._problem = error.detail or error.title
            if self._document is None:
                raise
            ttl = DOCUMENT_RETRY_SECONDS
            log.warning("provider document served stale", extra={"reason": str(error)})
        self._fresh_until = self._clock() + ttl
        return self._document
