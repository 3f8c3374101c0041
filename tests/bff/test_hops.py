"""How far a request travels: how often the next function that is called stands in another file of the engine.

Traced from the request's first byte to the response's last, in all tasks; functions are counted where they
start, not where they resume. By this count a proxied request used to change file 37 times, and a callback
that fetches the provider's keys 129 times.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import app.bff
from tests.bff.harness import Browser, RunningApp, wait_until

ENGINE = Path(app.bff.__file__).parent
NOT_COUNTED = (str(ENGINE / "dev"), str(ENGINE / "testing"))


class Trace:
    def __init__(self) -> None:
        self.files: list[str] = []  # of each function of the engine that was called
        self._frames: set[FrameType] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(str(ENGINE)) and not file.startswith(NOT_COUNTED):
            if frame not in self._frames:  # else a coroutine that resumes
                self.files.append(file)
            self._frames.add(frame)

    @property
    def changes(self) -> int:
        return sum(file != following for file, following in zip(self.files, self.files[1:], strict=False))


SEVERAL = 3  # the least of these counts: now and then the timer of a connection runs in between


@contextmanager
def tracing() -> Iterator[Trace]:
    trace, earlier = Trace(), sys.getprofile()
    sys.setprofile(trace)
    try:
        yield trace
    finally:
        sys.setprofile(earlier)


async def test_a_proxied_request_with_a_fresh_token_changes_file_at_most_25_times(
    app: RunningApp, browser: Browser
):
    await browser.login("alice")
    await browser.fetch("/api/echo")

    changes = []
    for _ in range(SEVERAL):
        with tracing() as trace:
            response = await browser.fetch("/api/echo")
            await wait_until(lambda: not app.services.in_flight_requests)
        assert response.status_code == 200
        changes.append(trace.changes)

    assert 10 < min(changes) <= 25


async def test_a_login_callback_changes_file_at_most_75_times(app: RunningApp, browser: Browser):
    changes = []
    for _ in range(SEVERAL):
        callback_url = await browser.choose(await browser.start_login())
        browser.delete_cookie("bff")  # as at the first login: no earlier session ends
        with tracing() as trace:
            response = await browser.get(callback_url)
            await wait_until(lambda: not app.services.in_flight_requests)
        assert response.status_code == 200
        changes.append(trace.changes)

    assert 30 < min(changes) <= 75
