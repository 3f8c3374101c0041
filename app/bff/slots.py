"""Limits how many long-lived things a process has open, altogether and for each session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.bff.errors import Overloaded, TooManyRequests

_RETRY_AFTER_SECONDS = 30


class Slots:
    """At most `total` slots, of which one key takes `each` at most."""

    def __init__(self, *, total: int, each: int) -> None:
        self.total = total
        self._each = each
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        return self._taken.total()

    @contextmanager
    def take(self, key: str, *, each: int | None = None) -> Iterator[None]:
        """Hold a slot for as long as the block runs; `each` replaces the limit for this key.

        Raises TooManyRequests if `key` has as many as it may, and Overloaded if all are taken.
        """
        if self._taken[key] >= (self._each if each is None else each):
            raise TooManyRequests(
                "as many are open as one session may have", retry_after_seconds=_RETRY_AFTER_SECONDS
            )
        if self._taken.total() >= self.total:
            raise Overloaded("as many are open as are possible", retry_after_seconds=_RETRY_AFTER_SECONDS)
        self._taken[key] += 1
        try:
            yield
        finally:
            self._taken[key] -= 1
            self._taken += Counter()  # drops the keys that have none
