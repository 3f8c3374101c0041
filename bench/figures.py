"""What was measured, and what follows from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median


@dataclass(frozen=True)
class Sample:
    """One run of one contender on `cores`, or the medians of several; `busy` is how many it has used."""

    group: str
    contender: str
    round: int
    cores: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_seconds_per_1000: float
    busy: float
    rss_mb: float
    errors: int

    @property
    def by_cpu(self) -> float:
        """The requests per second that its CPU time would allow, if nothing made it wait."""
        return self.cores * 1000 / self.cpu_seconds_per_1000


_MEASURED = ("requests_per_second", "p50_ms", "p99_ms", "cpu_seconds_per_1000", "busy", "rss_mb")


@dataclass(frozen=True)
class Ratio:
    """`over` divided by `under`, which were measured in the same rounds of a group; `wanted` at least."""

    group: str
    over: str
    under: str
    wanted: float


@dataclass(frozen=True)
class Spread:
    """A figure over all rounds."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Burst:
    """Requests sent at one moment, from which the times are counted."""

    statuses: Mapping[str, int]
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Bursts:
    """Bursts with an expired access token, the refreshes that each has caused, and others for comparison."""

    requests: int
    processes: int
    refreshes: Sequence[int]
    expired: Sequence[Burst]
    good: Sequence[Burst]


@dataclass(frozen=True)
class Memory:
    """Megabytes of one process: idle, at most while a body went each way, with event streams open."""

    body_bytes: int
    streams: int
    idle_mb: float
    up_mb: float
    down_mb: float
    streams_mb: float
    up_mb_per_second: float
    down_mb_per_second: float


@dataclass(frozen=True)
class Pace:
    """How long answers took, one after the other."""

    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Waiting:
    """`/bff/user` alone, and beside so many requests that wait so long for their API; in each round."""

    requests: int
    seconds: int
    alone: Sequence[Pace]
    beside: Sequence[Pace]

    @property
    def slower(self) -> float:
        """How many times as long it takes at p99, taken in each round by itself."""
        rounds = zip(self.beside, self.alone, strict=True)
        return median(beside.p99_ms / alone.p99_ms for beside, alone in rounds)


@dataclass(frozen=True)
class Results:
    """All that one run of everything has found."""

    date: str
    seconds: int
    rounds: int
    few_sessions: int
    many_sessions: int
    machine: Mapping[str, str]
    samples: Sequence[Sample]
    bursts: Bursts
    memory: Memory
    waiting: Waiting


def medians(samples: Iterable[Sample]) -> list[Sample]:
    """One line for each contender of each group, in the order of their first runs; errors are added up."""
    runs: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        runs.setdefault((sample.group, sample.contender), []).append(sample)
    return [_median(those) for those in runs.values()]


def _median(runs: Sequence[Sample]) -> Sample:
    middle = {name: median(getattr(run, name) for run in runs) for name in _MEASURED}
    return replace(runs[0], **middle, errors=sum(run.errors for run in runs))


def spread(ratio: Ratio, samples: Iterable[Sample], figure: Callable[[Sample], float]) -> Spread:
    """The ratio of a figure, taken in each round by itself: what disturbs one round disturbs both."""
    runs = {(run.contender, run.round): figure(run) for run in samples if run.group == ratio.group}
    rounds = [number for contender, number in runs if contender == ratio.over]
    quotients = [runs[ratio.over, number] / runs[ratio.under, number] for number in rounds]
    return Spread(median(quotients), min(quotients), max(quotients))


def all_statuses(bursts: Iterable[Burst]) -> Counter[str]:
    return sum((Counter(burst.statuses) for burst in bursts), Counter[str]())
