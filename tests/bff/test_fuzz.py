"""Every route under requests that no client should send, with a signed-in user's cookie among them.

`FUZZ_REQUESTS=300000 FUZZ_SEED=7 pytest -s tests/bff/test_fuzz.py` sends more of them, and others.
"""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import os
import re
import resource
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice

import pytest
from pydantic import BaseModel
from tornado.web import RequestHandler

from app.bff import ApiHandler, SocketHandler, url
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.proxy.request_body import RequestBody
from app.bff.proxy.streaming import StreamingDelegate
from app.bff.proxy.strict_server import StrictStream
from app.bff.server import bff_routes
from app.bff.telemetry.logs import configure_logging
from tests.bff import fuzzing
from tests.bff.application.main import ROUTES
from tests.bff.fuzzing import MARK, Attempt, attempts
from tests.bff.harness import CLIENT_SECRET, Browser, Clock, RunningApp, running_app

REQUESTS, SEED = int(os.environ.get("FUZZ_REQUESTS", "2000")), int(os.environ.get("FUZZ_SEED", "1"))
AT_ONCE = 40  # connections
BATCH = 500  # attempts, after which the user signs in again if one has signed her out
QUIET_SECONDS = 0.2  # without an answer: the server waits for the rest of a request
PATIENCE_SECONDS = 30  # a connection that is open for longer hangs
FORWARD_SECRET = "0123456789abcdef" * 4
ENDLESS = re.compile(rb"\nContent-Type: text/event-stream|\AHTTP/1.1 101 |\nHTTP/1.1 101 ")
Secrets = dict[str, bytes]
PER_REQUEST = (StrictStream, RequestBody, StreamingDelegate, RequestHandler)


class Text(BaseModel):
    text: str


class Notes(ApiHandler):
    def post(self) -> None:
        self.finish_json(self.json_body(Text).text)


class Chat(SocketHandler):
    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, binary=isinstance(message, bytes))


@dataclass
class Run:
    """What a run has seen. `found` is what went wrong, each with the request or the line of the log."""

    statuses: Counter[int] = field(default_factory=Counter)
    found: list[tuple[str, bytes]] = field(default_factory=list)

    def judge(self, attempt: Attempt, answer: bytes, secrets: Secrets) -> None:
        statuses = [int(status) for status in re.findall(rb"HTTP/1.1 (\d{3}) ", answer)]
        self.statuses.update(statuses)
        if 500 in statuses:
            self.found.append(("500", attempt.sent))
        if attempt.is_whole and not statuses:
            self.found.append(("no answer", attempt.sent))
        for name, secret in secrets.items():
            if secret in answer and not may_show(name, attempt):
                self.found.append((f"the {name} in the answer", attempt.sent))

    def judge_log(self, text: str, secrets: Secrets) -> None:
        secret = [value.decode() for value in (*secrets.values(), MARK)]
        for line in text.splitlines():
            if '"level": "error"' in line or any(value in line for value in secret):
                self.found.append(("in the log", line.encode()))

    def report(self, number: int) -> None:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # KiB, on Linux
        print(f"{number} attempts, at most {memory} MB, {dict(sorted(self.statuses.items()))}")


def may_show(secret: str, attempt: Attempt) -> bool:
    """A proxy is answered with the token. Of a request that is not well framed an API echoes any part."""
    return (
        not attempt.is_whole
        if secret == "session"
        else secret == "access token" and b"@forward@" in attempt.sent
    )


@contextmanager
def written_log() -> Iterator[io.StringIO]:
    """What the application writes to its log. pytest's own handlers would hold on to what is logged."""
    root, paper = logging.getLogger(), io.StringIO()
    level, others = root.level, root.handlers[:]
    configure_logging(debug=False)
    [ours] = root.handlers
    assert isinstance(ours, logging.StreamHandler)
    ours.setStream(paper)
    yield paper
    root.setLevel(level)
    logging.captureWarnings(False)
    root.handlers[:] = others


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    routes = [*ROUTES, url("/notes", Notes), url("/chat", Chat)]
    remote = [
        {"path": "/api", "client": "apiClient", "max_body_bytes": 10_000},
        {"path": "/api/admin", "client": "apiClient", "methods": ["GET"]},
        {"path": "/private", "client": "apiClient", "cache": "private", "response_headers": ["X-Total"]},
    ]
    async with running_app(
        provider, api, clock=clock, routes=routes, remote_apis=remote, forward_auth_secret=FORWARD_SECRET
    ) as app:
        yield app


async def answer_of(app: RunningApp, attempt: Attempt, secrets: Secrets) -> bytes:
    """Send it; return what comes until the server closes. Raises TimeoutError if it does not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(app.base_url.rpartition(":")[2]))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            with suppress(ConnectionError):
                for piece in attempt.pieces:
                    writer.write(put_in(piece, app, secrets))
                    await asyncio.sleep(0)
            return await until_closed(reader, writer, is_whole=attempt.is_whole)
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


def put_in(piece: bytes, app: RunningApp, secrets: Secrets) -> bytes:
    known = {
        b"@session@": secrets["session"],
        b"@forward@": FORWARD_SECRET.encode(),
        b"@origin@": app.base_url.encode(),
    }
    for name, value in known.items():
        piece = piece.replace(name, value)
    return piece


async def until_closed(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_whole: bool
) -> bytes:
    """Read on until the server closes. One that waits for more is told that there is none."""
    answer, told = b"", False
    while True:
        is_endless = ENDLESS.search(answer) is not None
        try:
            async with asyncio.timeout(QUIET_SECONDS if is_endless or not (is_whole or told) else None):
                piece = await reader.read(1_000_000)
        except TimeoutError:
            if is_endless:
                return answer
            with suppress(OSError):  # the server has closed meanwhile
                writer.write_eof()
            told = True
        except ConnectionError:
            return answer
        else:
            answer += piece
            if not piece:
                return answer


async def secrets_of(app: RunningApp, browser: Browser) -> Secrets:
    """The secrets of the signed-in user; signs her in first unless she is."""
    session = await app.session_of(browser)
    if session is None:
        await browser.login("alice")
        session = await app.session_of(browser)
    assert session
    tokens = session.tokens
    assert tokens.refresh_token
    assert tokens.id_token
    return {
        "session": (browser.cookie("bff") or "").encode(),
        "access token": tokens.access_token.encode(),
        "refresh token": tokens.refresh_token.encode(),
        "ID token": tokens.id_token.encode(),
        "client secret": CLIENT_SECRET.encode(),
        "forward-auth secret": FORWARD_SECRET.encode(),
    }


async def send_all(app: RunningApp, browser: Browser, batch: Sequence[Attempt], run: Run) -> Secrets:
    secrets, queue = await secrets_of(app, browser), iter(batch)

    async def send_some() -> None:
        for attempt in queue:
            try:
                run.judge(attempt, await answer_of(app, attempt, secrets), secrets)
            except TimeoutError:
                run.found.append(("a hang", attempt.sent))

    async with asyncio.TaskGroup() as senders:
        for _ in range(AT_ONCE):
            senders.create_task(send_some())
    return secrets


async def left(app: RunningApp) -> list[object]:
    """What there still is of the run's requests, once all connections are closed.

    Tornado does not notice that a browser has left if it has pipelined a request that is not read yet: a
    stream of events ends with its second comment then.
    """
    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        await app.services.in_flight_requests.drained()
    await asyncio.sleep(0.1)  # closed streams are dropped in the loop's next turns
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, PER_REQUEST) and not is_of_api(each)]


def is_of_api(part: object) -> bool:
    return type(part).__module__.startswith("app.bff.dev")


def test_every_route_is_among_those_that_requests_are_sent_to(app: RunningApp):
    sent_to = [target.decode().replace("@public@", "x") for target in fuzzing.ROUTES]
    rules = [rule.matcher.regex for rule in (*bff_routes(app.services), *app.routes)]

    assert [rule.pattern for rule in rules if not any(map(rule.match, sent_to))] == []
    assert "/bff/forward-auth" in sent_to


async def test_no_request_is_a_500_a_hang_or_shows_a_secret(app: RunningApp, browser: Browser, api: DemoApi):
    run, sent = Run(), attempts(SEED, REQUESTS)
    with written_log() as log:
        for number, batch in enumerate(iter(lambda: list(islice(sent, BATCH)), [])):
            secrets = await send_all(app, browser, batch, run)
            run.judge_log(log.getvalue(), secrets)
            log.truncate(log.seek(0))
            api.sockets.clear()  # which remembers all
            if number % 10 == 0:
                run.report(number * BATCH)
    await browser.http.aclose()

    assert run.found == []
    assert await left(app) == []
