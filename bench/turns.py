"""Contenders side by side, of whom only one at a time goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench.figures import Sample
from bench.load import Contender, Group, load, what_came_of
from bench.machine import cpu_seconds, rss_mb

_TURN_SECONDS = 0.25
_START_SECONDS = 0.5  # wrk has begun by then, and goes on for as long after the last turn


@dataclass
class _Runner:
    """A contender, and how long it has gone on."""

    contender: Contender
    pids: list[int]
    cpu_before: float
    seconds: float = 0

    def go_on(self, seconds: float) -> None:
        began = time.monotonic()
        _send(signal.SIGCONT, self.pids)
        time.sleep(seconds)
        _send(signal.SIGSTOP, self.pids)
        self.seconds += time.monotonic() - began


def in_turns(group: Group, number: int, *, seconds: int) -> list[Sample]:
    """Ask all contenders at once, and let each go on for so long in all.

    What disturbs the machine for a second disturbs all of them alike.
    """
    runners = [_Runner(each, each.pids, cpu_seconds(each.pids)) for each in group.contenders]
    with _halted(runner.pids for runner in runners), ExitStack() as running:
        lasts = 1 + seconds * len(runners)
        loads = [running.enter_context(load(runner.contender, lasts)) for runner in runners]
        time.sleep(_START_SECONDS)
        for turn in range(int(seconds / _TURN_SECONDS) * len(runners)):
            runners[(number + turn) % len(runners)].go_on(_TURN_SECONDS)
        said = [what_came_of(wrk) for wrk in loads]
        return [_sample(group, *each, number) for each in zip(runners, said, strict=True)]


@contextmanager
def _halted(groups: Iterable[list[int]]) -> Iterator[None]:
    pids = [pid for group in groups for pid in group]
    _send(signal.SIGSTOP, pids)
    try:
        yield
    finally:
        _send(signal.SIGCONT, pids)


def _sample(group: Group, runner: _Runner, said: dict[str, int], number: int) -> Sample:
    cpu = cpu_seconds(runner.pids) - runner.cpu_before
    return Sample(
        group=group.name,
        contender=runner.contender.name,
        round=number,
        cores=runner.contender.cores,
        requests_per_second=said["requests"] / runner.seconds,
        p50_ms=0,  # not to be had: all wait for their turn
        p99_ms=0,
        cpu_seconds_per_1000=cpu / said["requests"] * 1000,
        busy=cpu / runner.seconds,
        rss_mb=rss_mb(runner.pids),
        errors=said["errors"],
    )


def _send(number: signal.Signals, pids: Iterable[int]) -> None:
    for pid in pids:
        os.kill(pid, number)
