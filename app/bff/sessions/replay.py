"""Logout tokens that have done their work, and what whoever remembers them promises."""

from __future__ import annotations

from typing import Protocol


class ReplayCache(Protocol):
    """Remembers logout tokens by a key, so that none counts twice, at whichever process it arrives.

    Every method may raise StoreUnavailable: then the key may be remembered or not.
    """

    async def open(self) -> None:
        """Prepare what is needed. Harmless when called again."""

    async def has(self, key: str) -> bool:
        """Whether the key was added, by any process, and its time is not over."""

    async def add(self, key: str, *, until: float) -> None:
        """Remember the key until then, seconds since the epoch. Harmless when called again."""
