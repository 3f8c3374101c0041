"""What came of sealing records anew with the first key of the ring."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReencryptResult:
    """Of the records that an older key has sealed: how many are sealed anew now, and how many are not.

    `conflicts` ones were written, or removed, by somebody else at the same moment: another look will
    tell. `undecryptable` ones no key of the ring opens; nobody has touched them.
    """

    done: int = 0
    conflicts: int = 0
    undecryptable: int = 0

    def __add__(self, other: ReencryptResult) -> ReencryptResult:
        return ReencryptResult(
            self.done + other.done, self.conflicts + other.conflicts, self.undecryptable + other.undecryptable
        )
