"""The results as Markdown: a pure function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from statistics import median

from bench.figures import (
    Burst,
    Bursts,
    Memory,
    Pace,
    Ratio,
    Results,
    Sample,
    Waiting,
    all_statuses,
    medians,
    spread,
)
from bench.questions import CONTENDERS, GROUPS, RATIOS

_HOW = """\
One command, one run: `scripts/bench.sh`. Everybody forwards `GET` of the same JSON from the same nginx, and
is asked with the 15 headers that Chromium sends for a `fetch()`. (a) passes these on, and the answer's, like
any proxy; it opens no cookie and checks nothing. Nobody logs requests, but for (c logs); (c rule) asks a rule
over claims. The sessions are sealed, lie in a real mongod and take turns: 64 of them, unless a line says
otherwise. wrk keeps 32
connections busy; {rounds} rounds of {seconds} s for each contender, each round in another order. Lines show
medians; a ratio is taken in each round by itself, and then the median. On a machine that is not ours alone
one second differs from the next by more than the contenders do; so those that are close are also asked all
at once, while only one of them goes on at a time, for a quarter of a second. Their ratios are taken from
there; how long an answer takes, from where each is alone.

**Who runs where.** What is measured has core 0 for itself: one Python process, and in (d uncached) that is
the one which is asked; or, in (d cached) and (e), nginx with one worker, together with the application that
it asks now and then. wrk, the API, mongod, the nginx of (d uncached) and this program share the other
cores, where they take nothing from it. *Busy* says how many cores a contender has used: where that is well
below what it had, the others were the limit. Hence *by CPU*: the requests per second that its CPU time
would allow if nothing made it wait. For two processes two cores are not enough for that: there, everything
runs where the system puts it, for one process too, and what wrk, the API and mongod use is missing; *by
CPU* says what more cores would give.

**Few sessions and many**: {few:,} and {many:,}, drawn at random. A session that is used for the first time
in a minute is written; in the last line of that table this is so for every request, in the one above never.
"""


def markdown(results: Results) -> str:
    parts = [
        "# What it costs",
        _machine(results),
        _how(results),
        "## Ratios",
        _ratios(RATIOS, results.samples),
        *_groups(medians(results.samples)),
        *_bursts(results.bursts),
        *_memory(results.memory),
        *_waiting(results.waiting),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; what is not in the first column is a number."""
    line = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, line, *rows))


def _machine(results: Results) -> str:
    return f"{results.date}. " + "; ".join(f"{name} {value}" for name, value in results.machine.items()) + "."


def _how(results: Results) -> str:
    few, many = results.few_sessions, results.many_sessions
    return _HOW.format(rounds=results.rounds, seconds=results.seconds, few=few, many=many)


def _ratios(ratios: Iterable[Ratio], samples: Sequence[Sample]) -> str:
    head = ["", "requests/s", "rounds", "by CPU", "wanted"]
    return table(head, [_ratio(ratio, samples) for ratio in ratios])


def _ratio(ratio: Ratio, samples: Sequence[Sample]) -> list[str]:
    measured = spread(ratio, samples, attrgetter("requests_per_second"))
    by_cpu = spread(ratio, samples, attrgetter("by_cpu"))
    return [
        f"({ratio.over}) / ({ratio.under})",
        f"**{measured.median:.2f}**",
        f"{measured.least:.2f} to {measured.most:.2f}",
        f"{by_cpu.median:.2f}",
        f"{ratio.wanted:.2f}",
    ]


def _groups(lines: Iterable[Sample]) -> Iterable[str]:
    head = ["", "requests/s", "p50 ms", "p99 ms", "CPU s per 1,000", "busy", "by CPU", "memory MB", "errors"]
    for group, contenders in groupby(lines, key=attrgetter("group")):
        yield f"## {GROUPS[group]}"
        yield table(head, map(_line, contenders))


def _line(sample: Sample) -> list[str]:
    return [
        f"({sample.contender}) {CONTENDERS[sample.contender]}",
        f"{sample.requests_per_second:,.0f}",
        _milliseconds(sample.p50_ms),
        _milliseconds(sample.p99_ms),
        f"{sample.cpu_seconds_per_1000:.3f}",
        f"{sample.busy:.2f}",
        f"{sample.by_cpu:,.0f}",
        f"{sample.rss_mb:.0f}",
        str(sample.errors),
    ]


def _milliseconds(value: float) -> str:
    return f"{value:.1f}" if value else "–"


def _bursts(bursts: Bursts) -> list[str]:
    title = f"## {bursts.requests:,} requests at once, {bursts.processes} processes, rotating refresh tokens"
    head = ["the access token", "refreshes", "answers", "p50 ms", "p99 ms"]
    refreshes = " ".join(map(str, bursts.refreshes))
    return [
        title,
        table(
            head, [_burst("has just expired", refreshes, bursts.expired), _burst("is good", "", bursts.good)]
        ),
    ]


def _burst(token: str, refreshes: str, bursts: Sequence[Burst]) -> list[str]:
    answers = ", ".join(f"{count:,} × {status}" for status, count in sorted(all_statuses(bursts).items()))
    p50, p99 = (median(getattr(burst, name) for burst in bursts) for name in ("p50_ms", "p99_ms"))
    return [token, refreshes, answers, f"{p50:.0f}", f"{p99:.0f}"]


def _memory(memory: Memory) -> list[str]:
    size = f"{memory.body_bytes / 1e9:g} GB"
    rows = [
        ("idle", memory.idle_mb, ""),
        (f"{size} go up", memory.up_mb, f"{memory.up_mb_per_second:,.0f}"),
        (f"{size} come down", memory.down_mb, f"{memory.down_mb_per_second:,.0f}"),
        (f"{memory.streams:,} event streams are open", memory.streams_mb, ""),
    ]
    head = ["while", "MB", "more than idle", "MB per second"]
    lines = [[when, f"{mb:.0f}", f"{mb - memory.idle_mb:.0f}", rate] for when, mb, rate in rows]
    return ["## Memory of one process", table(head, lines)]


def _waiting(waiting: Waiting) -> list[str]:
    title = f"## /bff/user, while {waiting.requests} requests wait {waiting.seconds} s for a slow API"
    paces = {"alone": waiting.alone, f"beside {waiting.requests} requests": waiting.beside}
    rows = [[name, *_pace(rounds)] for name, rounds in paces.items()]
    said = f"At p99 it takes {waiting.slower:.2f} times as long (wanted: at most 2)."
    return [title, table(["/bff/user", "p50 ms", "p99 ms"], rows), said]


def _pace(rounds: Sequence[Pace]) -> list[str]:
    return [f"{median(getattr(pace, name) for pace in rounds):.1f}" for name in ("p50_ms", "p99_ms")]
