"""Runs wrk against contenders that take turns, and watches what it costs them."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

from bench.figures import Sample
from bench.machine import cpu_seconds, rss_mb, tree
from bench.servers import Server
from bench.sessions import Draw, session_id

CONNECTIONS = 32
_WARM_UP_SECONDS = 1
_SCRIPT = Path(__file__).parent / "requests.lua"


@dataclass(frozen=True)
class Contender:
    """What answers at `url`, by the work of `servers` on so many cores."""

    name: str
    url: str
    servers: Sequence[Server]
    sessions: Draw = field(default_factory=lambda: Draw(64))
    cores: int = 1

    @property
    def pids(self) -> list[int]:
        return [pid for server in self.servers for pid in tree(server.pid)]


@dataclass(frozen=True)
class Group:
    """Contenders that answer the same question."""

    name: str
    contenders: Sequence[Contender]


def measured(group: Group, *, seconds: int, rounds: int) -> Iterator[Sample]:
    """Run all contenders of a group in each round, each time beginning with another one.

    One follows right after the other, since what disturbs a machine for a while shall disturb both.
    """
    for contender in group.contenders:
        _expect_answer(contender)
        _wrk(contender, _WARM_UP_SECONDS)
    for number in range(rounds):
        first = number % len(group.contenders)
        for contender in (*group.contenders[first:], *group.contenders[:first]):
            yield _sample(group, contender, number, seconds)


def _expect_answer(contender: Contender) -> None:
    """Who answers with an error may be fast, but is no contender: raises HTTPError."""
    headers = {"Cookie": f"bff={session_id(contender.sessions.first)}", "X-CSRF": "1"}
    with urlopen(Request(contender.url, headers=headers), timeout=10) as response:  # noqa: S310 (our own)
        assert response.read()


def _sample(group: Group, contender: Contender, number: int, seconds: int) -> Sample:
    pids = contender.pids
    before, began = cpu_seconds(pids), time.monotonic()
    said = _wrk(contender, seconds)
    cpu, took = cpu_seconds(pids) - before, time.monotonic() - began
    return Sample(
        group=group.name,
        contender=contender.name,
        round=number,
        cores=contender.cores,
        requests_per_second=said["requests"] / said["microseconds"] * 1e6,
        p50_ms=said["p50"] / 1000,
        p99_ms=said["p99"] / 1000,
        cpu_seconds_per_1000=cpu / said["requests"] * 1000,
        busy=cpu / took,
        rss_mb=rss_mb(pids),
        errors=said["errors"],
    )


def _wrk(contender: Contender, seconds: int) -> dict[str, int]:
    """Send requests for so long, on this process's own cores; return what came of them."""
    with load(contender, seconds) as wrk:
        return what_came_of(wrk)


def load(contender: Contender, seconds: int) -> subprocess.Popen[str]:
    """Begin to send requests for so long."""
    draw = contender.sessions
    order = ["random" if draw.at_random else "turns", str(secrets.randbelow(2**31))]
    sessions = [str(draw.first), str(draw.step), str(draw.count), *order]
    how = ["-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "-s", str(_SCRIPT)]
    command = ["wrk", *how, contender.url, "--", *sessions]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def what_came_of(wrk: subprocess.Popen[str]) -> dict[str, int]:
    said, _ = wrk.communicate()
    answer: dict[str, int] = json.loads(said.splitlines()[-1])
    return answer
