"""Circuit breaker for an endpoint of the provider: opens after failures in a row, or on Retry-After."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.bff.backoff import (
    BREAKER_FAILURES_ALLOWED,
    BREAKER_LONGEST_RETRY_AFTER_SECONDS,
    breaker_seconds,
)
from app.bff.errors import AppError, ClientRejected, ProviderUnavailable


class Breaker:
    """Passes requests to one endpoint while it works; opens for growing pauses when it fails.

    After a pause it is half-open: one request at a time is let through as a probe, and the first
    success closes it. A refusal (`invalid_grant`, `invalid_client`) counts as success: the endpoint works.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._failures = 0
        self._open_until: float | None = None
        self._probing = False
        self._recoveries = 0

    @contextmanager
    def request(self) -> Iterator[None]:
        """Wrap one request. Raises ProviderUnavailable at once, without a request, while it is open."""
        probe, recoveries = self._enter(), self._recoveries
        try:
            yield
            self._recovered()
        except AppError as error:
            if not isinstance(error, ProviderUnavailable) or isinstance(error, ClientRejected):
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

    def _failed(self, error: ProviderUnavailable, *, probe: bool) -> None:
        self._failures = max(self._failures + 1, BREAKER_FAILURES_ALLOWED if probe else 0)
        seconds = breaker_seconds(self._failures, error.requested_pause_seconds)
        if seconds:
            self._open_until = self._clock() + seconds

    def _recovered(self) -> None:
        self._recoveries += self._open_until is not None
        self._failures, self._open_until = 0, None
