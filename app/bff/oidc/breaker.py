"""When to leave an endpoint of the provider alone: after failures in a row, and when it asks for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.bff.errors import AppError, ClientRejected, ProviderUnavailable

FAILURES_ALLOWED = 3
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1, 30
LONGEST_WAIT_SECONDS = 60  # however long a Retry-After is: nobody could sign in meanwhile


class Breaker:
    """Lets requests to one endpoint through, until it fails; then there are pauses, each longer.

    After a pause one request at a time may try, whatever the number of users; the first answer that
    makes sense lets everybody through again. A refusal (`invalid_grant`, `invalid_client`) makes sense.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._failures = 0
        self._paused_until: float | None = None
        self._probing = False
        self._recoveries = 0

    @contextmanager
    def request(self) -> Iterator[None]:
        """Wrap one request. Raises ProviderUnavailable, without a request, while there is a pause."""
        probe, recoveries = self._enter(), self._recoveries
        try:
            yield
            self._recovered()
        except AppError as error:
            if not isinstance(error, ProviderUnavailable) or isinstance(error, ClientRejected):
                self._recovered()
            elif recoveries == self._recoveries and (probe or self._paused_until is None):
                # Else it began before the pause, and is no news.
                self._failed(error, probe=probe)
            raise
        finally:
            self._probing = self._probing and not probe

    def _enter(self) -> bool:
        """Return whether this request is a probe."""
        if self._paused_until is None:
            return False
        left = self._paused_until - self._clock()
        if left > LONGEST_WAIT_SECONDS:
            left = 0  # the clock was set back
        if left > 0 or self._probing:
            raise ProviderUnavailable(
                "the provider is left alone for a while", retry_after_seconds=max(1, math.ceil(left))
            )
        self._probing = True
        return True

    def _failed(self, error: ProviderUnavailable, *, probe: bool) -> None:
        self._failures = max(self._failures + 1, FAILURES_ALLOWED if probe else 0)
        seconds = pause_seconds(self._failures, error.requested_pause_seconds)
        if seconds:
            self._paused_until = self._clock() + seconds

    def _recovered(self) -> None:
        self._recoveries += self._paused_until is not None
        self._failures, self._paused_until = 0, None


def pause_seconds(failures: int, requested: int | None) -> float:
    """Return how long to wait after so many failures in a row; `requested` is the provider's Retry-After."""
    longer = min(failures - FAILURES_ALLOWED, 10)
    own = min(FIRST_PAUSE_SECONDS * 2**longer, LONGEST_PAUSE_SECONDS) if longer >= 0 else 0
    return max(own, min(requested or 0, LONGEST_WAIT_SECONDS))
