"""The application's lifespan: when it is entered and left, and what its failure does to the process."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.bff.subprocesses import (
    AppProcess,
    app_settings,
    child_pids,
    is_listening,
    running_process,
    wait_until,
)

APPLICATION = """
import asyncio, logging
from contextlib import asynccontextmanager
from pathlib import Path
from app.bff import ApiHandler, BffSettings, SocketHandler, run, url
from app.bff.errors import SettingsError

log = logging.getLogger("lifespan")

class State(ApiHandler):
    def get(self):
        self.finish_json(self.state["rows"])

class Slow(ApiHandler):
    async def get(self):
        log.info("handled")
        while not Path("go").exists():
            await asyncio.sleep(0.01)
        self.finish_json(self.state["rows"])

async def fails():
    while not Path("fail").exists():
        await asyncio.sleep(0.01)
    raise RuntimeError("a bug in a job")

@asynccontextmanager
async def lifespan(services):
    log.info("opened")
    try:
        {body}
    finally:
        log.info("closed")

if __name__ == "__main__":
    raise SystemExit(run(BffSettings, [url("/state", State), url("/slow", Slow)], lifespan))
"""
YIELDS = 'yield {"rows": 3}'


@asynccontextmanager
async def running(folder: Path, body: str = YIELDS, **settings: Any) -> AsyncIterator[AppProcess]:
    """An application with this lifespan, in a process of its own."""
    (folder / "application.py").write_text(APPLICATION.replace("{body}", body.replace("\n", "\n        ")))
    async with running_process("application", folder, **app_settings(**settings)) as app:
        yield app


def log_lines(app: AppProcess) -> list[dict[str, Any]]:
    """The lines of the log; the last line, for people, is none."""
    return [json.loads(line) for line in app.stderr.splitlines() if line.startswith("{")]


def messages(app: AppProcess) -> list[str]:
    """What the log says of the lifespan and of requests, in order."""
    shown = ("opened", "closed", "handled", "request answered", "lifespan failed")
    return [message for line in log_lines(app) if (message := line["message"]) in shown]


async def test_handlers_have_what_it_yields_and_it_is_left_when_the_last_request_is_answered(tmp_path: Path):
    async with running(tmp_path) as app:
        await app.answers("/healthz")
        browser = app.browser()
        assert (await browser.fetch("/state")).json() == 3
        slow = asyncio.create_task(browser.fetch("/slow"))
        await app.says('"handled"')

        app.process.terminate()
        await wait_until(lambda: asyncio.sleep(0, not is_listening(app.port)))
        (tmp_path / "go").touch()

        assert (await slow).json() == 3
        assert await app.exits() == 0
        await browser.http.aclose()

    assert messages(app)[0] == "opened"
    assert messages(app)[-3:] == ["handled", "request answered", "closed"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(
            'raise ConnectionError("no database\\nat db")\nyield', "ConnectionError: no database", id="raises"
        ),
        pytest.param("return\nyield", "RuntimeError: generator didn't yield", id="yields nothing"),
        pytest.param("yield\nyield", "RuntimeError: generator didn't stop", id="yields twice"),
        pytest.param('yield\nraise OSError("not closed")', "OSError: not closed", id="raises at the end"),
    ],
)
async def test_a_failure_ends_the_process_with_one_clear_line_and_a_traceback_in_the_log(
    body: str, says: str, tmp_path: Path
):
    async with running(tmp_path, body) as app:
        if body.startswith("yield"):
            await app.answers("/healthz")
            app.process.terminate()
        assert await app.exits() == 1

    *log, last = app.stderr.splitlines()
    assert last == f"The application's lifespan failed: {says}"
    assert "Traceback" in next(line for line in log if '"lifespan failed"' in line)
    assert "closed" in messages(app)
    assert "Unclosed" not in app.stderr


async def test_a_wrong_setting_that_it_finds_is_shown_like_any_other(tmp_path: Path):
    body = 'raise SettingsError("BFF_DATABASE_URL: there is no such database")\nyield'
    async with running(tmp_path, body) as app:
        assert await app.exits() == 2

    assert app.stderr.endswith("The settings are wrong:\n  BFF_DATABASE_URL: there is no such database\n")


async def test_a_signal_cancels_a_start_that_takes_long(tmp_path: Path):
    async with running(tmp_path, "await asyncio.Event().wait()\nyield") as app:
        await app.says('"opened"')

        assert await app.stops() == 0

    assert messages(app) == ["opened", "closed"]


async def test_a_job_of_a_task_group_that_fails_stops_the_process_when_requests_are_answered(tmp_path: Path):
    body = f"async with asyncio.TaskGroup() as jobs:\n    jobs.create_task(fails())\n    {YIELDS}"
    async with running(tmp_path, body) as app:
        await app.answers("/healthz")
        browser = app.browser()
        slow = asyncio.create_task(browser.fetch("/slow"))
        await app.says('"handled"')

        (tmp_path / "fail").touch()
        await wait_until(lambda: asyncio.sleep(0, not is_listening(app.port)))
        (tmp_path / "go").touch()

        assert (await slow).json() == 3
        assert await app.exits() == 1
        await browser.http.aclose()

    assert messages(app)[-3:] == ["request answered", "closed", "lifespan failed"]


async def test_each_worker_process_enters_and_leaves_it(tmp_path: Path):
    async with running(tmp_path, BFF_PROCESSES=2) as app:
        await wait_until(lambda: asyncio.sleep(0, app.stderr.count('"listening"') == 2))
        assert len(child_pids(app.process)) == 2

        assert await app.stops(signal.SIGTERM) == 0

    assert sorted(messages(app)) == ["closed", "closed", "opened", "opened"]


async def test_when_one_worker_cannot_start_none_stays(tmp_path: Path):
    body = f'Path("taken").mkdir()  # FileExistsError in the second worker\n{YIELDS}'
    async with running(tmp_path, body, BFF_PROCESSES=2) as app:
        assert await app.exits() == 1

    assert "The application's lifespan failed: FileExistsError: " in app.stderr
    assert messages(app).count("closed") == 2
