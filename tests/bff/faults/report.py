"""One line of a table per fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bff.faults.users import Seen

HEAD = (
    "fault",
    "seconds",
    "calls",
    "answers other than 200",
    "slowest",
    "sessions lost",
    "reused",
    "revoked",
    "recovered after",
)


@dataclass(frozen=True)
class Outcome:
    """What happened between the begin of a fault and the moment when all were fine again.

    `mended_at` is when the fault was over; `reused` and `revoked` are refresh tokens.
    """

    fault: str
    began_at: float
    mended_at: float
    seen: Sequence[Seen]
    reused: int
    revoked: int
    recovered: bool = True

    @property
    def lost(self) -> int:
        return sum(seen.lost for seen in self.seen)

    @property
    def failed(self) -> bool:
        """Whether a user had to sign in again, or the application did not recover."""
        return self.lost > 0 or not self.recovered

    def recovery_seconds(self) -> float:
        """Return how long after the mending the last answer came that was not 200."""
        last = max((seen.answered_at for seen in self.seen if seen.answer != "200"), default=0.0)
        return max(last - self.mended_at, 0)

    def cells(self) -> tuple[str, ...]:
        answers = Counter(seen.answer for seen in self.seen if seen.answer != "200")
        others = ", ".join(f"{count} × {answer}" for answer, count in answers.most_common()) or "none"
        slowest = max((seen.answered_at - seen.sent_at for seen in self.seen), default=0.0)
        recovery = f"{self.recovery_seconds():.1f} s" if self.recovered else "never"
        return (
            self.fault,
            f"{self.mended_at - self.began_at:.0f}",
            str(len(self.seen)),
            others,
            f"{slowest:.1f} s",
            str(self.lost),
            str(self.reused),
            str(self.revoked),
            recovery,
        )


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def head() -> str:
    return f"{row(HEAD)}\n{row(['---'] * len(HEAD))}"
