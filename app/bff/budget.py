"""A budget of requests: a token bucket, for what others cause and must not flood a third party with."""

from __future__ import annotations

import time
from collections.abc import Callable


class Budget:
    """Allows `burst` requests at once, and one more every `seconds`; a clock that is set back gives none."""

    def __init__(self, burst: int, *, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._burst = burst
        self._seconds = seconds
        self._clock = clock
        self._left, self._counted_at = float(burst), clock()

    def take(self) -> bool:
        """Return whether one more request is allowed now, and count it."""
        now = self._clock()
        self._left = min(self._burst, self._left + max(now - self._counted_at, 0) / self._seconds)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
