"""What came of sealing records anew with the first key of the ring."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReencryptResult:
    """Of the records that an older key has sealed: how many are sealed anew now, and how many are not.

    `overtaken` ones were written, or removed, by somebody else at the same moment: another look will
    tell. `unopened` ones no key of the ring opens; nobody has touched them.
    """

    done: int = 0
    overtaken: int = 0
    unopened: int = 0

    def __add__(self, other: ReencryptResult) -> ReencryptResult:
        return ReencryptResult(
            self.done + other.done, self.overtaken + other.overtaken, self.unopened + other.unopened
        )
