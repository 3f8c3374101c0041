"""What every StreamingDelegate does, whatever it answers. What it carries is in test_streaming.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.netutil import bind_sockets
from tornado.routing import Router

from app.bff.proxy.streaming import StreamingDelegate
from app.bff.services import Services
from tests.bff.harness import RunningApp, wait_until
from tests.bff.streaming_api import Wire, request, wire_to


class Patient(StreamingDelegate):
    """Leaves Tornado alone for longer than a test lasts."""

    pause_seconds = 1000
    was_under_way = False

    def finish(self) -> None:
        self.was_under_way = self in self.services.in_flight_requests
        super().finish()

    async def answer(self) -> None:
        if self.request.path == "/failing":
            raise RuntimeError
        self.start(200, ())
        await self.write(b"ok")


class Patients(Router):
    def __init__(self, services: Services) -> None:
        self._services = services
        self.made: list[Patient] = []

    def find_handler(self, request: HTTPServerRequest, **_: Any) -> Patient:
        self.made.append(KINDS.get(request.path, Patient)(self._services, request))
        return self.made[-1]


class LeftAtOnce(Patient):
    """Its browser has left: Tornado could not write "100 Continue" to it."""

    pause_seconds = 0

    def headers_received(self, *args: Any) -> Awaitable[None] | None:
        elapsed = super().headers_received(*args)
        self.on_connection_close()
        return elapsed

    def finish(self) -> None:
        """Tornado does not call it."""


class LeftBeforeARefusal(LeftAtOnce):
    """It is answered in the first step, with no moment in which it could be cancelled."""

    async def answer(self) -> None:
        raise RuntimeError


class LeftWhenAnswered(Patient):
    """Its browser has left with the rest of the request unread: Tornado does not call `finish`."""

    def finish(self) -> None:
        self.on_connection_close()


KINDS = {
    "/left-at-once": LeftAtOnce,
    "/left-before": LeftBeforeARefusal,
    "/left-when-answered": LeftWhenAnswered,
}


@pytest.fixture
def patients(app: RunningApp) -> Patients:
    return Patients(app.services)


@pytest.fixture
async def browser(patients: Patients) -> AsyncIterator[Wire]:
    server, sockets = HTTPServer(patients), bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    async with wire_to(sockets[0].getsockname()[1]) as wire:
        yield wire
    server.stop()
    await server.close_all_connections()


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/failing", 500)])
async def test_an_answer_is_whole_and_the_next_request_read_without_a_pause(
    path: str, status: int, browser: Wire
):
    for _ in range(2):
        await browser.send(request("GET", path))
        assert (await browser.answer())[0] == status


async def test_a_stop_waits_for_an_answer_whose_end_is_not_written_yet(
    app: RunningApp, patients: Patients, browser: Wire
):
    await browser.send(request("GET", "/"))
    await browser.answer()

    assert [patient.was_under_way for patient in patients.made] == [True]
    assert not app.services.in_flight_requests


@pytest.mark.parametrize("path", KINDS)
async def test_nothing_is_left_of_a_request_whose_browser_leaves(
    path: str, app: RunningApp, patients: Patients, browser: Wire
):
    await browser.send(request("GET", path))
    await wait_until(lambda: bool(patients.made) and not app.services.in_flight_requests)

    assert len(patients.made) == 1
