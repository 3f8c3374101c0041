"""How long a browser that sends or reads slowly is waited for. Pure."""

from __future__ import annotations

from typing import NamedTuple

from app.bff.settings.models import BffSettings


class Patience(NamedTuple):
    """The limits of one transfer, whichever direction it has.

    A pause may last `stall_seconds`. All pauses together may last that long too, and as much longer as the
    bytes that have passed need at `min_bytes_per_second` (0: any rate). Only time counts in which the browser
    is waited for, so that a stream may be silent for as long as its sender likes.
    """

    stall_seconds: float
    min_bytes_per_second: int

    @classmethod
    def of(cls, settings: BffSettings) -> Patience:
        return cls(settings.stall_seconds, settings.min_bytes_per_second)

    def seconds_for_next(self, *, waited_seconds: float, transferred: int) -> float:
        """Return how long the next byte may take, after so many seconds of waiting for so many bytes."""
        if not self.min_bytes_per_second:
            return self.stall_seconds
        slower = transferred / self.min_bytes_per_second - waited_seconds
        return max(0, self.stall_seconds + min(0, slower))
