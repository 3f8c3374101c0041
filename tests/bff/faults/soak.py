"""`scripts/soak.sh`: everything at once for a given time; what it takes, latency and errors as SVG."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from app.bff.errors import UsageError
from tests.bff.event_streams import listening
from tests.bff.faults.lines import Line, Panel, svg
from tests.bff.faults.users import Seen, Users
from tests.bff.faults.world import Instance, World, running_world
from tests.bff.harness import Browser
from tests.bff.websocket_clients import open_websocket

_EXPECTED = {"503", "401 provider_unavailable"}  # while the provider or the primary is away
_DESCRIPTION = (
    "Start three mongods, the development provider and two instances of the application (one process, two"
    " workers). Users call an API all the time, others sign in, listen to events, open a WebSocket and sign"
    " out, over and over; the provider is restarted and the primary steps down in turns. Write soak.svg."
    " Exit code 1: a user had to sign in again, or an answer was an error while nothing failed."
)


@dataclass
class Sample:
    """What was measured at one moment; latencies in seconds, of the calls since the last one."""

    at: float
    megabytes: list[float]
    descriptors: list[int]
    tasks: list[int]
    latencies: list[float]
    answers: Counter[str]


@dataclass
class Visits:
    """How often something happened, and what went wrong on the way."""

    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)


def command_line() -> ArgumentParser:
    parser = ArgumentParser("scripts/soak.sh", description=_DESCRIPTION)
    parser.add_argument("--minutes", type=float, default=60, help="default: 60")
    parser.add_argument("--users", type=int, default=8, metavar="N", help="who call an API (default: 8)")
    parser.add_argument("--visitors", type=int, default=4, metavar="N", help="who come and go (default: 4)")
    parser.add_argument("--every", type=float, default=60, metavar="SECONDS", help="a fault (default: 60)")
    parser.add_argument("--driver", choices=("motor", "pymongo"), default="motor")
    parser.add_argument("--output", type=Path, default=Path("soak.svg"), metavar="FILE")
    return parser


async def main(args: Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="bff-soak-") as folder:
        async with running_world(Path(folder), driver=args.driver) as world:
            urls = [each.process.url for each in (world.one, world.two) if each.process]
            users, visits = Users(urls, args.users), Visits()
            async with users.calling(), visiting(urls, args.visitors, visits):
                samples = await observe(world, users, args)
            lost = sum(seen.lost for seen in users.seen)
    args.output.write_text(svg(panels(samples)))
    print(summary(samples, users.seen, visits, lost))
    return int(lost > 0 or bool(unexpected(samples)))


@asynccontextmanager
async def visiting(urls: list[str], count: int, visits: Visits) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(come_and_go(urls, number, visits)) for number in range(count)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def come_and_go(urls: list[str], number: int, visits: Visits) -> None:
    for url in itertools.cycle(urls):
        try:
            await visit(url, urls[0], number, visits)
        except Exception as error:  # a visitor comes again, whatever went wrong
            visits.failed[f"{type(error).__name__}: {str(error)[:60]}"] += 1
            await asyncio.sleep(1)


async def visit(url: str, base_url: str, number: int, visits: Visits) -> None:
    """Sign in, listen to events, talk over a WebSocket, sign out; `base_url` is that of both instances."""
    async with Browser(SimpleNamespace(base_url=url)) as browser:  # type: ignore[arg-type]
        await browser.login(("alice", "bob")[number % 2])
        visits.done["logins"] += 1
        origin = {"Origin": base_url}
        async with (
            listening(browser) as stream,
            open_websocket(browser, "/api/socket", headers=origin) as socket,
        ):
            visits.done["streams and sockets"] += 1
            for _ in range(10):
                await socket.send_str("x" * 100)
                await socket.receive(timeout=10)
                await asyncio.sleep(0.3)
            response = await browser.logout()
            assert response.status_code == 302, response.status_code
            event = await stream.next()
        assert event is not None, "the stream ended without an event"
        visits.done["logouts"] += 1


async def observe(world: World, users: Users, args: Namespace) -> list[Sample]:
    """Sample for so many minutes, and fail a part now and then."""
    began, seen, samples = time.monotonic(), 0, []
    faults = asyncio.create_task(fail_in_turns(world, args.every))
    with contextlib.suppress(asyncio.CancelledError):
        while (at := time.monotonic() - began) < args.minutes * 60:
            await asyncio.sleep(5)
            calls, seen = users.seen[seen:], len(users.seen)
            samples.append(await sample(world, calls, at))
    faults.cancel()
    await asyncio.gather(faults, return_exceptions=True)
    return samples


async def fail_in_turns(world: World, every: float) -> None:
    for turn in itertools.count():
        await asyncio.sleep(every)
        if turn % 2:
            await asyncio.to_thread(world.replica_set.step_down)
            continue
        await world.provider.stop()
        await asyncio.sleep(2)
        await world.restart_provider()


async def sample(world: World, calls: list[Seen], at: float) -> Sample:
    instances = (world.one, world.two)
    return Sample(
        at,
        [instance.resident_megabytes() for instance in instances],
        [descriptors(instance) for instance in instances],
        [await tasks(instance) for instance in instances],
        [call.answered_at - call.sent_at for call in calls],
        Counter(call.answer for call in calls),
    )


def descriptors(instance: Instance) -> int:
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in instance.pids)


async def tasks(instance: Instance) -> int:
    """Return how many asyncio tasks a worker of the instance has; whichever answers."""
    if instance.process is None:
        raise UsageError("the instance does not run")
    response = await instance.process.get("/tasks")
    return int(response.text) if response and response.status_code == 200 else 0


def unexpected(samples: list[Sample]) -> Counter[str]:
    """Return the answers that no fault explains."""
    found = sum((each.answers for each in samples), Counter[str]())
    return Counter({name: n for name, n in found.items() if name != "200" and not is_expected(name)})


def is_expected(answer: str) -> bool:
    return any(answer.startswith(each) for each in _EXPECTED)


def panels(samples: list[Sample]) -> list[Panel]:
    at = [each.at / 60 for each in samples]

    def line(name: str, values: list[float]) -> Line:
        return Line(name, list(zip(at, values, strict=True)))

    def latencies(measured: Callable[[list[float]], float]) -> list[float]:
        return [1000 * measured(each.latencies) if len(each.latencies) > 1 else 0.0 for each in samples]

    return [
        Panel("Memory, MB", [line(name, [s.megabytes[i] for s in samples]) for i, name in NAMES]),
        Panel(
            "Open descriptors", [line(name, [float(s.descriptors[i]) for s in samples]) for i, name in NAMES]
        ),
        Panel(
            "asyncio tasks of one process",
            [line(name, [float(s.tasks[i]) for s in samples]) for i, name in NAMES],
        ),
        Panel(
            "Latency of a call, ms",
            [line("median", latencies(statistics.median)), line("99th percentile", latencies(percentile_99))],
        ),
        Panel(
            "Answers in 5 s",
            [
                line("200", [float(s.answers["200"]) for s in samples]),
                line("others", [float(s.answers.total() - s.answers["200"]) for s in samples]),
            ],
        ),
    ]


NAMES = [(0, "one process"), (1, "two workers")]


def percentile_99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[-1]


def summary(samples: list[Sample], seen: list[Seen], visits: Visits, lost: int) -> str:
    quarter = max(1, len(samples) // 4)

    def average(part: list[Sample], which: str) -> str:
        return " + ".join(
            f"{statistics.mean(getattr(each, which)[i] for each in part):.0f}" for i, _ in NAMES
        )

    flat = "; ".join(
        f"{which} {average(samples[quarter : 2 * quarter], which)} in the second quarter,"
        f" {average(samples[-quarter:], which)} in the last"
        for which in ("megabytes", "descriptors", "tasks")
    )
    answers = sum((each.answers for each in samples), Counter[str]())
    return "\n".join(
        [
            f"{len(seen)} calls: {dict(answers.most_common())}",
            f"visits: {dict(visits.done)}; broken off: {dict(visits.failed)}",
            f"sessions lost: {lost}; answers that no fault explains: {dict(unexpected(samples))}",
            flat,
        ]
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main(command_line().parse_args())))
