"""Circuit breaker for one kind of request to the provider: opens after failures in a row."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeGuard

from app.bff.backoff import (
    BREAKER_FAILURES_ALLOWED,
    BREAKER_LONGEST_RETRY_AFTER_SECONDS,
    breaker_seconds,
)
from app.bff.errors import AppError, ClientRejected, ProviderUnavailable


class Breaker:
    """Passes requests of one kind while their endpoint works; opens for growing pauses when it fails.

    Only an outage counts as failure: 5xx, a time-out, no connection. Any other response says that the
    endpoint works, a refusal (`invalid_grant`, 403 with HTML) as well. `Retry-After` of a 5xx opens the
    breaker at once, and that of another response (429) unless `for_anonymous`: a browser without a session
    may cause such responses on purpose, and must not close the endpoint to others.

    After a pause it is half-open: one request at a time is let through as a probe, and the first
    success closes it.
    """

    def __init__(self, *, for_anonymous: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._for_anonymous = for_anonymous
        self._clock = clock
        self._failures = 0
        self._open_until: float | None = None
        self._probing = False
        self._recoveries = 0

    @property
    def state(self) -> str:
        """`closed`, `open`, or `half_open`: its pause is over, and the next request is a probe."""
        if self._open_until is None:
            return "closed"
        return "open" if self._clock() < self._open_until else "half_open"

    @contextmanager
    def request(self) -> Iterator[None]:
        """Wrap one request. Raises ProviderUnavailable at once, without a request, while it is open."""
        probe, recoveries = self._enter(), self._recoveries
        try:
            yield
            self._recovered()
        except AppError as error:
            if not self._is_failure(error):
                self._recovered()
            elif recoveries == self._recoveries and (probe or self._open_until is None):
                # A request that began before the breaker opened says nothing new.
                self._failed(error, probe=probe)
            raise
        finally:
            self._probing = self._probing and not probe

    def _enter(self) -> bool:
        """Return whether this request is a probe; raises ProviderUnavailable while open."""
        if self._open_until is None:
            return False
        seconds = self._open_until - self._clock()
        if seconds > BREAKER_LONGEST_RETRY_AFTER_SECONDS:
            seconds = 0  # the clock was set back
        if seconds > 0 or self._probing:
            raise ProviderUnavailable(
                "the provider's circuit breaker is open", retry_after_seconds=max(1, math.ceil(seconds))
            )
        self._probing = True
        return True

    def _is_failure(self, error: AppError) -> TypeGuard[ProviderUnavailable]:
        if not isinstance(error, ProviderUnavailable) or isinstance(error, ClientRejected):
            return False
        asks_to_wait = bool(error.requested_pause_seconds) and not self._for_anonymous
        return error.is_outage or asks_to_wait

    def _failed(self, error: ProviderUnavailable, *, probe: bool) -> None:
        self._failures = max(self._failures + 1, BREAKER_FAILURES_ALLOWED if probe else 0)
        seconds = breaker_seconds(self._failures, error.requested_pause_seconds)
        if seconds:
            self._open_until = self._clock() + seconds

    def _recovered(self) -> None:
        self._recoveries += self._open_until is not None
        self._failures, self._open_until = 0, None
