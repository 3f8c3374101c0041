"""Counts and times of this process, and their sum over all processes. Pure, and of plain types only.

A request is counted three times: itself, the look-up of its session, its call of the API. With the files that
prometheus-client uses for several processes one observation takes 10 µs, of the request's 600; here 0.4 µs.
So that library only writes what is served: see `exposition.py`.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from app.bff.telemetry.instruments import CPU_TIME, INSTRUMENTS, STARTS, Instrument

Labels = tuple[str, ...]  # the values, in the order of the instrument's names
Counts = dict[str, dict[Labels, float]]  # by the instrument's name
Histograms = dict[str, dict[Labels, list[float]]]  # the number in each bucket, in the last one the sum
Gauges = Callable[[], Iterable[tuple[Instrument, Labels, float]]]

# A label's values are bounded, and so are their combinations; a mistake in that must not fill the memory.
MAX_LABELS = 2000
OVERFLOW = "overflow"


@dataclass
class Snapshot:
    """What one process has counted; of `gauges`, what is so now."""

    counts: Counts = field(default_factory=dict)
    histograms: Histograms = field(default_factory=dict)
    gauges: Counts = field(default_factory=dict)


class Metrics:
    """Counts from `earlier` on, which is what a process has left whose place this one has taken."""

    def __init__(self, earlier: Snapshot | None = None) -> None:
        earlier = earlier or Snapshot()
        self._counts, self._histograms = earlier.counts, earlier.histograms
        self._cpu_before = self._counts.get(CPU_TIME.name, {}).get((), 0)
        self._gauges: list[Gauges] = []
        self.add(STARTS)

    def add(self, counter: Instrument, labels: Labels = (), number: float = 1) -> None:
        """Count `number` more."""
        counts = self._counts.setdefault(counter.name, {})
        if labels not in counts and len(counts) >= MAX_LABELS:
            labels = (OVERFLOW,) * len(labels)
        counts[labels] = counts.get(labels, 0) + number

    def record(self, histogram: Instrument, labels: Labels, seconds: float) -> None:
        """Count one more that took so long."""
        buckets = self.buckets(histogram, labels)
        buckets[bisect_left(histogram.boundaries, seconds)] += 1
        buckets[-1] += seconds

    def buckets(self, histogram: Instrument, labels: Labels) -> list[float]:
        """Return the buckets with these labels, for a caller that counts in them itself: it may keep them."""
        series = self._histograms.setdefault(histogram.name, {})
        if labels not in series and len(series) >= MAX_LABELS:
            labels = (OVERFLOW,) * len(labels)
        return series.setdefault(labels, [0.0] * (len(histogram.boundaries) + 2))

    def watch(self, gauges: Gauges) -> None:
        """Ask `gauges` for values in each snapshot."""
        self._gauges.append(gauges)

    def snapshot(self) -> Snapshot:
        """Return the counts themselves, not copies, and the gauges."""
        self._counts.setdefault(CPU_TIME.name, {})[()] = self._cpu_before + time.process_time()
        gauges: Counts = {}
        for instrument, labels, value in (each for read in self._gauges for each in read()):
            gauges.setdefault(instrument.name, {})[labels] = value
        return Snapshot(self._counts, self._histograms, gauges)


def merged(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Return what all processes have counted together."""
    whole = Snapshot()
    for each in snapshots:
        for name, labels, number in _series(each.counts):
            _add(whole.counts, name, labels, number)
        for name, labels, number in _series(each.gauges):
            if INSTRUMENTS[name].is_shared:
                number = max(number, whole.gauges.get(name, {}).get(labels, 0))
                whole.gauges.setdefault(name, {})[labels] = number
            else:
                _add(whole.gauges, name, labels, number)
        for name, series in each.histograms.items():
            for labels, buckets in series.items():
                known = whole.histograms.setdefault(name, {}).get(labels, [0.0] * len(buckets))
                whole.histograms[name][labels] = [a + b for a, b in zip(known, buckets, strict=True)]
    return whole


def _series(counts: Counts) -> Iterator[tuple[str, Labels, float]]:
    for name, series in counts.items():
        for labels, number in series.items():
            yield name, labels, number


def _add(counts: Counts, name: str, labels: Labels, number: float) -> None:
    series = counts.setdefault(name, {})
    series[labels] = series.get(labels, 0) + number
