"""`python -m bench.telemetry`: what metrics and traces cost, in turns; writes bench/results/telemetry.md.

In the environment: BENCH_SECONDS for each contender in a round, BENCH_ROUNDS of them, BENCH_TRACES a second.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from statistics import median

from bench.field import Ground, api_path, ground
from bench.figures import Ratio, Sample, spread
from bench.load import Contender, Group
from bench.machine import cores, description, places
from bench.questions import SMALL
from bench.report import table
from bench.servers import Server
from bench.sessions import seed
from bench.turns import in_turns
from tests.bff.subprocesses import free_ports

RESULT = Path(__file__).parent / "results/telemetry.md"
GROUP = "telemetry, in turns"
OFF, AGAIN, METRICS, TRACES, BOTH = "off", "off, another process", "metrics", "traces", "metrics and traces"
NAMES = (OFF, AGAIN, METRICS, TRACES, BOTH)
_TRACES_PER_SECOND = 10  # the default

_TEXT = """\
# What metrics and traces cost

{date}. {machine}.

`scripts/bench.sh telemetry`. One process with PyMongo each, which forwards `GET` of 160 bytes, in turns of a
quarter of a second: {rounds} rounds of {seconds} s for each. A ratio is taken in each round, and then the
median; *by CPU* is that of the processor time of a request, which depends less on what else the machine does.
The second process that has both off shows how far two equal ones differ here.

A process begins {limit} recorded traces in a second of the clock. Here it goes on in a fifth of the time, and
where other programs use the machine it answers fewer requests in that than it could. So it begins {scaled},
one in {one_in:,} requests; at full speed it is one in {one_in_alone:,}.
"""


@contextmanager
def contenders(ground: Ground) -> Iterator[Group]:
    with ExitStack() as running:
        port = free_ports()
        command = [sys.executable, "-m", "bench.collector", str(port)]
        running.enter_context(Server(command, ground.folder, port))
        traces = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "BFF_TRACES_PER_SECOND": str(_scaled()),
        }
        settings = {OFF: {}, AGAIN: {}, METRICS: _metrics(), TRACES: traces, BOTH: {**_metrics(), **traces}}
        servers = {name: ground.ours(driver="pymongo", **settings[name]) for name in NAMES}
        yield Group(
            GROUP,
            [
                Contender(name, running.enter_context(server).url + api_path(SMALL), [server])
                for name, server in servers.items()
            ],
        )


def _metrics() -> dict[str, str]:
    return {"BFF_METRICS_PORT": str(free_ports())}


def _scaled() -> int:
    return int(os.environ.get("BENCH_TRACES", 0)) or _TRACES_PER_SECOND // len(NAMES)


def measured(rounds: int, seconds: int) -> list[Sample]:
    with ground(places(cores(), 1)) as shared:
        asyncio.run(seed(shared.store("small"), shared.key, 64))
        with contenders(shared) as group:
            in_turns(group, 0, seconds=1)  # to warm up
            return [each for number in range(rounds) for each in in_turns(group, number, seconds=seconds)]


def report(samples: list[Sample], *, rounds: int, seconds: int) -> str:
    machine = "; ".join(f"{name} {value}" for name, value in description().items())
    traced = [each for each in samples if each.contender == TRACES]
    limits = {
        "limit": _TRACES_PER_SECOND,
        "scaled": _scaled(),
        "one_in": round(median(each.requests_per_second for each in traced) / _scaled() / len(NAMES)),
        "one_in_alone": round(median(each.by_cpu for each in traced) / _TRACES_PER_SECOND),
    }
    date = datetime.now(UTC).date().isoformat()
    text = _TEXT.format(date=date, machine=machine, rounds=rounds, seconds=seconds, **limits)
    return (
        f"{text}\n{table(['', 'requests/s', '/ off', 'rounds', 'CPU ms', '/ off, by CPU'], _rows(samples))}\n"
    )


def _rows(samples: list[Sample]) -> Iterator[list[str]]:
    for name in NAMES:
        own = [each for each in samples if each.contender == name]
        ratio = Ratio(GROUP, name, OFF, wanted=0.97)
        requests = spread(ratio, samples, attrgetter("requests_per_second"))
        yield [
            name,
            f"{median(each.requests_per_second for each in own):,.0f}",
            f"{requests.median:.3f}",
            f"{requests.least:.2f} to {requests.most:.2f}",
            f"{median(each.cpu_seconds_per_1000 for each in own):.3f}",
            f"**{spread(ratio, samples, attrgetter('by_cpu')).median:.3f}**",
        ]


def main() -> None:
    rounds, seconds = (int(os.environ.get(f"BENCH_{name}", 0)) for name in ("ROUNDS", "SECONDS"))
    rounds, seconds = rounds or 24, seconds or 4
    text = report(measured(rounds, seconds), rounds=rounds, seconds=seconds)
    RESULT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
