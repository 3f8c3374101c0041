"""`python -m bench`: measures everything, and writes what came of it to bench/results/.

In the environment: BENCH_SECONDS for one run of one contender, BENCH_ROUNDS of them, BENCH_SESSIONS in
the large store, BENCH_BODY_MB each way.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from bench.burst import bursts
from bench.field import api_path, crews, forwarders, ground, stores
from bench.figures import Bursts, Memory, Results, Sample, Waiting, medians
from bench.load import Group, measured
from bench.machine import Places, cores, description, places
from bench.memory import memory
from bench.plot import Bar, Panel, svg
from bench.questions import CONTENDERS, IN_TURNS, PANELS, SESSIONS_IN_TURNS, SMALL, SMALL_IN_TURNS
from bench.report import markdown
from bench.sessions import seed
from bench.turns import in_turns
from bench.waiting import waiting

RESULTS = Path(__file__).parent / "results"
FEW_SESSIONS = 1000
_ROUNDS_OF_BURSTS = 12
_ROUNDS_OF_WAITING = 3  # each of a quarter of a minute


@dataclass(frozen=True)
class Plan:
    """How long all of it takes: by default some twenty minutes, in many short rounds."""

    seconds: int = 1
    rounds: int = 24
    sessions: int = 1_000_000
    body_mb: int = 2000

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        wanted = {name: environment.get(f"BENCH_{name.upper()}") for name in cls.__dataclass_fields__}
        return cls(**{name: int(value) for name, value in wanted.items() if value})


def run(plan: Plan) -> Results:
    available, machine = cores(), description()
    samples, used, beside_slow = _alone(places(available, 1), plan)
    more, burst = _in_pairs(places(available, 2), plan)
    return Results(
        date=datetime.now(UTC).date().isoformat(),
        seconds=plan.seconds,
        rounds=plan.rounds,
        few_sessions=FEW_SESSIONS,
        many_sessions=plan.sessions,
        machine=machine,
        samples=samples + more,
        bursts=burst,
        memory=used,
        waiting=beside_slow,
    )


def _alone(places: Places, plan: Plan) -> tuple[list[Sample], Memory, Waiting]:
    """What one process does."""
    with ground(places) as shared:
        asyncio.run(seed(shared.store("small"), shared.key, FEW_SESSIONS))
        with forwarders(shared) as groups:
            samples = list(_samples(groups, plan))
            samples += _in_turns(SMALL_IN_TURNS, groups[0], plan)
        _say(f"{plan.sessions:,} sessions are being stored …")
        asyncio.run(seed(shared.store("large"), shared.key, plan.sessions))
        with stores(shared, small=FEW_SESSIONS, large=plan.sessions) as group:
            samples += _samples([group], plan)
            samples += _in_turns(SESSIONS_IN_TURNS, group, plan)
        _say("memory …")
        used = asyncio.run(memory(shared, body_bytes=plan.body_mb * 1_000_000))
        _say("requests that wait …")
        return samples, used, asyncio.run(waiting(shared, rounds=min(plan.rounds, _ROUNDS_OF_WAITING)))


def _in_pairs(places: Places, plan: Plan) -> tuple[list[Sample], Bursts]:
    """What two processes do, next to one."""
    with ground(places) as shared:
        asyncio.run(seed(shared.store("small"), shared.key, FEW_SESSIONS))
        with crews(shared) as group:
            samples = list(_samples([group], plan))
        _say("bursts …")
        api = f"{shared.upstream.url}/"
        rounds = min(plan.rounds, _ROUNDS_OF_BURSTS)
        return samples, asyncio.run(bursts(shared.mongod, api=api, path=api_path(SMALL), rounds=rounds))


def _in_turns(name: str, group: Group, plan: Plan) -> Iterator[Sample]:
    compared = Group(name, [each for each in group.contenders if each.name in IN_TURNS[name]])
    for number in range(plan.rounds):
        yield from _told(in_turns(compared, number, seconds=plan.seconds))


def _samples(groups: Iterable[Group], plan: Plan) -> Iterator[Sample]:
    for group in groups:
        yield from _told(measured(group, seconds=plan.seconds, rounds=plan.rounds))


def _told(samples: Iterable[Sample]) -> Iterator[Sample]:
    for sample in samples:
        _say(f"{sample.group}: ({sample.contender}) {sample.requests_per_second:,.0f} requests/s")
        yield sample


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def panels(samples: Iterable[Sample]) -> list[Panel]:
    small = {line.contender: line.requests_per_second for line in medians(samples) if line.group == SMALL}
    return [
        Panel(title, [Bar(CONTENDERS[name], small[name], ours=name not in ("a", "e")) for name in names])
        for title, names in PANELS.items()
    ]


def write(results: Results, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(json.dumps(asdict(results), indent=1) + "\n")
    (folder / "results.md").write_text(markdown(results))
    (folder / "requests.svg").write_text(svg(panels(results.samples)))


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a thousand streams are two thousand sockets
    results = run(Plan.of(os.environ))
    write(results, RESULTS)
    print(markdown(results))


if __name__ == "__main__":
    main()
