"""What this process has seen of the store's outages, and what follows for the leases of others."""

from __future__ import annotations

import time
from collections.abc import Callable

from pymongo.monitoring import (
    TopologyClosedEvent,
    TopologyDescriptionChangedEvent,
    TopologyListener,
    TopologyOpenedEvent,
)

# A process that could not save its refresh tries again every half second, and one attempt takes up to 4 s.
GRACE_SECONDS = 5


def may_take_over(*, failing: bool, seconds_since_recovery: float) -> bool:
    """Whether an expired lease of another process may be acquired now. Pure.

    During an outage a lease expires although its owner lives: it may hold new tokens that it could not
    save, and the refresh token in the record is used up. After the outage the owner saves first.
    """
    return not failing and seconds_since_recovery >= GRACE_SECONDS


class Outages(TopologyListener):
    """Notes which operations fail; as a listener of the driver also, without any, that no primary is known.

    The driver calls a listener in threads of its own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failing = False
        self._recovered_at = float("-inf")

    @property
    def may_take_over(self) -> bool:
        return may_take_over(failing=self._failing, seconds_since_recovery=self._clock() - self._recovered_at)

    def failed(self) -> None:
        """Note that an operation has failed."""
        self._failing = True

    def answered(self) -> None:
        """Note that an operation has succeeded; after a failure that is the end of the outage."""
        if self._failing:
            self._recovered_at = self._clock()
            self._failing = False

    def opened(self, event: TopologyOpenedEvent) -> None:
        pass

    def description_changed(self, event: TopologyDescriptionChangedEvent) -> None:
        had_primary = event.previous_description.has_writable_server()
        if had_primary and not event.new_description.has_writable_server():
            self.failed()

    def closed(self, event: TopologyClosedEvent) -> None:
        pass
