"""Signals, workers that end, and a parent that ends: the tables of operating.md, with real processes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.bff.backoff import restart_seconds
from app.bff.processes import Place
from tests.bff.subprocesses import (
    APPLICATION,
    ROOT,
    AppProcess,
    app_settings,
    child_pids,
    is_listening,
    running_process,
    wait_until,
)

SERVER = """
import asyncio, os, signal, time
from contextlib import asynccontextmanager
from pathlib import Path
from app.bff import ApiHandler, BffSettings, run, url

class Pid(ApiHandler):
    def get(self):
        self.finish_json(os.getpid())

class Slow(ApiHandler):
    async def get(self):
        Path("handled").touch()
        while not Path("go").exists():
            await asyncio.sleep(0.01)
        self.finish_json("done")

@asynccontextmanager
async def lifespan(services):
    Path(f"entered-{os.getpid()}").touch()
    {body}
    Path(f"left-{os.getpid()}").touch()

if __name__ == "__main__":
    raise SystemExit(run(BffSettings, [url("/pid", Pid), url("/slow", Slow)], lifespan))
"""
IGNORED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGCHLD)


@asynccontextmanager
async def running(folder: Path, *, body: str = "yield", **settings: Any) -> AsyncIterator[AppProcess]:
    (folder / "application.py").write_text(SERVER.replace("{body}", body))
    async with running_process("application", folder, **app_settings(**settings)) as app:
        yield app


async def listening(app: AppProcess, number: int) -> None:
    """Wait until so many processes have begun to listen."""
    await wait_until(lambda: asyncio.sleep(0, app.stderr.count('"listening"') >= number))


async def exists(folder: Path, pattern: str, number: int = 1) -> None:
    await wait_until(lambda: asyncio.sleep(0, count(folder, pattern) >= number))


async def ended(pid: int) -> None:
    """Wait for the end of a process that is not our child."""

    async def is_over() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    await wait_until(is_over)


def count(folder: Path, pattern: str) -> int:
    return len(list(folder.glob(pattern)))


def log_lines(app: AppProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in app.stderr.splitlines() if line.startswith("{")]


def fetch(app: AppProcess, path: str) -> asyncio.Task[httpx2.Response]:
    async def fetched() -> httpx2.Response:
        browser = app.browser()
        try:
            return await browser.fetch(path)
        finally:
            await browser.http.aclose()

    return asyncio.create_task(fetched())


CUT_OFF = ("SIGQUIT", "SIGINT twice")


@pytest.mark.parametrize(
    ("sent", "processes"),
    [
        *(("SIGHUP", 1), ("SIGINT", 1), ("SIGINT twice", 1), ("SIGQUIT", 1)),  # for SIGTERM: test_start.py
        *(("SIGTERM", 2), ("SIGHUP", 2), ("SIGINT twice", 2), ("SIGQUIT", 2)),
    ],
)
async def test_a_signal_drains_or_cuts_off_and_others_are_ignored(sent: str, processes: int, tmp_path: Path):
    name, _, twice = sent.partition(" ")
    async with running(tmp_path, BFF_PROCESSES=processes) as app:
        await listening(app, processes)
        slow = fetch(app, "/slow")
        await exists(tmp_path, "handled")
        for number in (*IGNORED, signal.Signals[name]):
            app.process.send_signal(number)
        await wait_until(lambda: asyncio.sleep(0, not is_listening(app.port)))
        if twice:
            app.process.send_signal(signal.Signals[name])
        if sent in CUT_OFF:
            with pytest.raises(httpx2.TransportError):
                await slow
        else:
            (tmp_path / "go").touch()
            assert (await slow).json() == "done"

        assert await app.exits() == 0
    assert count(tmp_path, "left-*") == processes
    assert "Traceback" not in app.stderr


async def test_a_worker_that_ends_is_replaced_whatever_ended_it(tmp_path: Path):
    async with running(tmp_path, BFF_PROCESSES=2) as app:
        await listening(app, 2)
        for number, fatal in ((3, signal.SIGTERM), (4, signal.SIGKILL)):
            victim = child_pids(app.process)[0]
            for each in (
                *IGNORED,
                signal.SIGINT,
                fatal,
            ):  # a terminal sends SIGINT to all: the parent decides
                os.kill(victim, each)
            await listening(app, number)

        assert len(set(child_pids(app.process))) == 2
        assert await app.stops() == 0

    ends = [line for line in log_lines(app) if line["message"] == "worker process ended"]
    assert [line["reason"] for line in ends] == ["exit code 0", "SIGKILL"]


async def test_workers_drain_when_their_parent_is_killed_and_the_port_is_free(tmp_path: Path):
    async with running(tmp_path, BFF_PROCESSES=2) as app:
        await listening(app, 2)
        workers = child_pids(app.process)
        slow = fetch(app, "/slow")
        await exists(tmp_path, "handled")

        assert await app.stops(signal.SIGKILL) == -signal.SIGKILL
        await wait_until(lambda: asyncio.sleep(0, not is_listening(app.port)))
        (tmp_path / "go").touch()

        assert (await slow).json() == "done"
        for pid in workers:
            await ended(pid)
    assert [line["message"] for line in log_lines(app)].count("parent process ended") == 2
    assert count(tmp_path, "left-*") == 2


async def test_workers_whose_parent_is_killed_during_their_start_do_not_go_on(tmp_path: Path):
    async with running(tmp_path, body="await asyncio.Event().wait(); yield", BFF_PROCESSES=2) as app:
        await exists(tmp_path, "entered-*", 2)
        workers = child_pids(app.process)
        await app.stops(signal.SIGKILL)
        for pid in workers:
            await ended(pid)


async def test_a_port_that_another_instance_serves_is_an_error_at_start(tmp_path: Path):
    settings = app_settings(BFF_PROCESSES=2)
    (tmp_path / "second").mkdir()
    async with running(tmp_path, **settings) as app:
        await listening(app, 2)
        async with running_process(APPLICATION, tmp_path / "second", **settings) as beside:
            assert await beside.exits() == 1

        assert beside.stderr == f"Cannot listen on 127.0.0.1:{app.port}: Address already in use\n"
        assert await app.stops() == 0


async def test_when_a_worker_cannot_start_at_first_the_start_fails_and_is_not_repeated(tmp_path: Path):
    body = "os.kill(os.getpid(), signal.SIGKILL); yield"
    async with running(tmp_path, body=body, BFF_PROCESSES=2) as app:
        assert await app.exits() == 1

    assert count(tmp_path, "entered-*") <= 2
    assert "worker process did not start" in app.stderr


BROKEN_LATER = "if Path('broken').exists(): os._exit(7)\n    yield"


async def test_a_replacement_that_cannot_start_is_tried_again_while_another_worker_serves(tmp_path: Path):
    async with running(tmp_path, body=BROKEN_LATER, BFF_PROCESSES=2) as app:
        await listening(app, 2)
        (tmp_path / "broken").touch()
        victim, survivor = child_pids(app.process)
        os.kill(victim, signal.SIGKILL)
        await wait_until(lambda: asyncio.sleep(0, "exit code 7" in app.stderr))
        assert (await fetch(app, "/pid")).json() == survivor

        (tmp_path / "broken").unlink()
        await listening(app, 3)
        assert await app.stops() == 0
    pauses = [line["restart_in_seconds"] for line in log_lines(app) if "restart_in_seconds" in line]
    assert pauses == [restart_seconds(lives) for lives in range(len(pauses))]


async def test_when_no_worker_is_left_and_a_replacement_cannot_start_all_end(tmp_path: Path):
    async with running(tmp_path, body=BROKEN_LATER, BFF_PROCESSES=2) as app:
        await listening(app, 2)
        (tmp_path / "broken").touch()
        for pid in child_pids(app.process):
            os.kill(pid, signal.SIGKILL)

        assert await app.exits() == 7


async def test_a_worker_that_dies_while_all_drain_is_not_replaced_and_the_others_finish(tmp_path: Path):
    async with running(tmp_path, BFF_PROCESSES=2) as app:
        await listening(app, 2)
        busy = (await fetch(app, "/pid")).json()
        slow = fetch(app, "/slow")
        await exists(tmp_path, "handled")
        app.process.terminate()
        await wait_until(lambda: asyncio.sleep(0, not is_listening(app.port)))
        os.kill(busy, signal.SIGKILL)
        (tmp_path / "go").touch()
        await asyncio.wait([slow])

        assert await app.exits() == 1
    assert app.stderr.count('"listening"') == 2


async def test_ctrl_c_ends_a_start_that_takes_long_without_a_traceback(tmp_path: Path):
    async with running(tmp_path, body="await asyncio.Event().wait(); yield") as app:
        await exists(tmp_path, "entered-*")

        assert await app.stops(signal.SIGINT) == 0
    assert "Traceback" not in app.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
async def test_a_second_ctrl_c_ends_a_lifespan_that_does_not_end(number: int, tmp_path: Path):
    body = "yield\n    Path('leaving').touch()\n    await asyncio.Event().wait()"
    async with running(tmp_path, body=body) as app:
        await listening(app, 1)
        app.process.send_signal(signal.SIGINT)
        await exists(tmp_path, "leaving")

        assert await app.stops(number) == 0
    assert "Traceback" not in app.stderr


IMPORTING = """
import os, signal, sys
class Wrapped:
    def __set_name__(self, owner, name):
        raise KeyboardInterrupt
class Interrupts:
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            {interrupt}
sys.meta_path.insert(0, Interrupts())
"""
SIGINT = "os.kill(os.getpid(), signal.SIGINT)"


@pytest.mark.parametrize(
    ("module", "command", "interrupt"),
    [
        pytest.param("tornado.web", (), SIGINT, id="the first import of the engine"),
        pytest.param("aiohttp", (), 'type("Made", (), {"member": Wrapped()})', id="while a class is made"),
        pytest.param("app.bff.services", (), SIGINT, id="the engine"),
        pytest.param("tests.bff.application.settings", (), SIGINT, id="your modules"),
        pytest.param("app.bff.doctor.report", ("doctor",), SIGINT, id="a command"),
        pytest.param("uvloop", (), SIGINT, id="before the event loop"),
    ],
)
async def test_ctrl_c_while_modules_are_imported_shows_no_traceback(
    module: str, command: tuple[str, ...], interrupt: str, tmp_path: Path
):
    script = IMPORTING.format(name=module, interrupt=interrupt)
    (tmp_path / "sitecustomize.py").write_text(script)
    async with running_process(APPLICATION, tmp_path, *command, **app_settings()) as app:
        assert await app.exits() == 130

    assert (app.stdout, "Traceback" in app.stderr, "Error" in app.stderr) == ("", False, False)


def test_the_manual_has_a_row_for_every_signal():
    text = (ROOT / "docs/bff/operating.md").read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `SIG")]

    named = set(re.findall(r"SIG[A-Z0-9]+", "".join(rows)))
    assert named == {"SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", *(each.name for each in IGNORED)}


def test_the_pause_before_a_worker_is_replaced_grows_from_half_a_second_to_half_a_minute():
    assert [restart_seconds(lives) for lives in (*range(7), 10_000)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_the_pause_is_short_again_after_a_worker_has_lived_for_a_minute():
    place = Place([])
    for started_at, lives, pause in ((0, 1, 0.5), (10, 59, 1), (100, 0, 2), (200, 60, 0.5), (300, 1, 1)):
        place.started(4711, started_at)

        assert place.schedule(started_at + lives) == pause
