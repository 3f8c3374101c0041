"""Each route has a limit for the body of a request: beyond it the client reads 413, however it sends."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine, ResponseStartLine
from tornado.web import RequestHandler, stream_request_body
from tornado.websocket import WebSocketHandler

from app.bff import ApiHandler, BaseHandler
from app.bff.handlers.body_limit import BoundedBody
from app.bff.server import bff_routes
from tests.bff.harness import Browser, RunningApp, wait_until
from tests.bff.streaming_api import CHUNKED, Head, Wire, of_length, request, wire_of

LIMIT = 65_536
FAR_BEYOND = 2_000_000
EXPECT = "Expect: 100-continue"


class Page(BaseHandler):
    def post(self) -> None:
        self.finish(f"{len(self.request.body)} bytes")


class Upload(Page):
    max_body_bytes = 1_000_000


class Counter(ApiHandler):
    max_body_bytes = 10

    def post(self) -> None:
        self.finish_json(len(self.request.body))


class Plain(RequestHandler):
    def post(self) -> None:
        self.finish(f"{len(self.request.body)} bytes")


class Socket(WebSocketHandler):
    pass


@stream_request_body
class Stream(BaseHandler):
    received = 0

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        self.received += len(chunk)
        return None

    def post(self) -> None:
        self.finish(f"{self.received} bytes")


@stream_request_body
class AnswersEarly(Stream):
    async def prepare(self) -> None:
        await self.flush()


@stream_request_body
class Refuses(Stream):
    async def prepare(self) -> None:
        self.set_status(403)
        self.finish("no")


class Timed:
    """A connection that notes how long a body may take."""

    seconds = 0.0
    context = None

    def __init__(self) -> None:
        self.stream = SimpleNamespace()

    def set_body_timeout(self, seconds: float) -> None:
        self.seconds = seconds

    def set_max_body_size(self, size: int) -> None:
        pass


def function(request: HTTPServerRequest) -> None:
    assert request.connection
    request.connection.write_headers(ResponseStartLine("HTTP/1.1", 204, ""), Head204())  # type: ignore[arg-type]
    request.connection.finish()


class Head204(dict[str, str]):
    def get_all(self) -> list[tuple[str, str]]:
        return []


HANDSHAKE = [
    *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]
OURS = [
    *("/page", "/plain", "/socket", "/stream", "/function", "/tiny", "/big"),
    *("/", "/account", "/nowhere", "/nowhere/at/all", "/static/bff/bff.js", "/static/none", "/favicon.ico"),
]
ENGINE = [rule.regex.pattern.replace(r"(\w+)", "x").rstrip("$") for rule in bff_routes(None)]  # type: ignore[arg-type]
ROUTES = [*OURS, *ENGINE, "/bff/forward-auth"]


@pytest.fixture
async def app(app: RunningApp) -> RunningApp:
    handlers = {
        **{"/page": Page, "/plain": Plain, "/socket": Socket, "/stream": Stream, "/tiny": Counter},
        **{"/big": Upload, "/function": function, "/answers-early": AnswersEarly, "/refuses": Refuses},
    }
    app.tornado.add_handlers(".*", list(handlers.items()))
    return app


async def is_refused(browser: Wire, head: Head) -> bool:
    """Whether this is the one response, and says what is wrong."""
    body = await browser.body_of(head)
    assert head.status == 413, head
    assert head.all("Connection") == ["close"]
    assert head.all("Content-Type") == ["application/problem+json"]
    assert head.all("X-Content-Type-Options") == ["nosniff"]
    return bool(json.loads(body)["code"] == "too_large") and await browser.ended() == b""


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_length_beyond_the_limit_is_refused_while_the_client_sends(
    method: str, path: str, app: RunningApp
):
    async with wire_of(app) as browser:
        await browser.send(request(method, path, of_length(FAR_BEYOND)))
        await browser.push(FAR_BEYOND - 1)

        assert await is_refused(browser, await browser.head())


@pytest.mark.parametrize("path", ROUTES)
async def test_chunks_beyond_the_limit_are_refused_while_the_client_sends(path: str, app: RunningApp):
    async with wire_of(app) as browser:
        await browser.send(request("PUT", path, CHUNKED))
        for _ in range(FAR_BEYOND // LIMIT):
            await browser.send_chunk(bytes(LIMIT))

        assert await is_refused(browser, await browser.head())


@pytest.mark.parametrize("path", ROUTES)
async def test_a_client_that_asks_first_is_not_told_to_go_on(path: str, app: RunningApp):
    async with wire_of(app) as browser:
        await browser.send(request("POST", path, of_length(FAR_BEYOND), EXPECT))

        assert await is_refused(browser, await browser.head())


@pytest.mark.parametrize("path", ["/page", "/plain", "/nowhere", "/bff/backchannel", "/api/x", "/stream"])
@pytest.mark.parametrize("digits", [18, 19, 20, 100])
async def test_no_length_is_too_large_to_be_too_large(path: str, digits: int, app: RunningApp):
    async with wire_of(app) as browser:
        await browser.send(request("POST", path, of_length(int("9" * digits)), EXPECT))

        assert await is_refused(browser, await browser.head())


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/page", LIMIT), ("/plain", LIMIT), ("/stream", LIMIT), ("/big", 1_000_000), ("/tiny", 10)],
)
async def test_a_handler_gets_what_is_within_its_limit_and_not_a_byte_more(
    path: str, limit: int, app: RunningApp
):
    async with wire_of(app) as browser:
        for head in (of_length(limit), CHUNKED):
            await browser.send(request("POST", path, head))
            await (browser.push(limit) if head != CHUNKED else sent_as_chunks(browser, limit))
            assert (await browser.answer()) == (200, b"%d%b" % (limit, b"" if path == "/tiny" else b" bytes"))

        await browser.send(request("POST", path, of_length(limit + 1)))
        assert await is_refused(browser, await browser.head())


async def sent_as_chunks(browser: Wire, size: int) -> None:
    await browser.send_chunk(bytes(size - 1))
    await browser.send_chunk(b"x")
    await browser.send(b"0\r\n\r\n")


async def test_one_byte_more_in_chunks_is_too_large(app: RunningApp):
    async with wire_of(app) as browser:
        await browser.send(request("POST", "/page", CHUNKED))
        await sent_as_chunks(browser, LIMIT + 1)

        assert await is_refused(browser, await browser.head())


async def test_a_response_that_has_begun_is_cut(app: RunningApp):
    async with wire_of(app) as browser:
        await browser.send(request("POST", "/answers-early", CHUNKED))
        head = await browser.head()
        await browser.send_chunk(bytes(LIMIT + 1))

        assert (head.status, await browser.ended()) == (200, b"")


async def test_a_handler_may_answer_before_it_has_the_body(app: RunningApp):
    async with wire_of(app) as browser:
        await browser.send(request("POST", "/refuses", of_length(LIMIT)))
        await browser.push(LIMIT - 1)

        assert await browser.answer() == (403, b"no")


@pytest.mark.parametrize("path", ["/stream", "/page", "/answers-early"])
async def test_nothing_of_it_is_left(path: str, app: RunningApp):
    async with wire_of(app) as browser:
        await browser.send(request("POST", path, CHUNKED))
        await browser.send_chunk(bytes(LIMIT + 1))
        await browser.ended()

    assert len(app.services.in_flight_requests) == 0


async def test_a_form_that_is_too_large_gets_a_page(app: RunningApp, browser: Browser):
    response = await browser.http.post(
        "/page", content=bytes(LIMIT + 1), headers={"Sec-Fetch-Mode": "navigate"}
    )

    assert (response.status_code, response.headers["Content-Type"]) == (413, "text/html; charset=UTF-8")
    assert "That is more than we take" in response.text


@pytest.mark.parametrize(("handler", "seconds"), [(Plain, 61), (Upload, 80), (Counter, 60)])
async def test_a_body_has_time_for_as_much_as_the_handler_takes(handler: Any, seconds: int, app: RunningApp):
    connection = Timed()
    start = RequestStartLine("POST", "/x", "HTTP/1.1")
    sent = HTTPServerRequest(start_line=start, headers=HTTPHeaders(Host="x"), connection=connection)  # type: ignore[arg-type]
    delegate = app.tornado.get_handler_delegate(sent, handler)
    BoundedBody(app.tornado, sent, delegate).headers_received(start, sent.headers)

    assert int(connection.seconds) == seconds


async def test_lengths_that_do_not_agree_are_refused_on_every_route(app: RunningApp):
    for path in ROUTES:
        async with wire_of(app) as browser:
            await browser.send(request("POST", path, of_length(5), of_length(FAR_BEYOND)))
            assert (await browser.ended()).startswith(b"HTTP/1.1 400 "), path


# What else a client can send


@pytest.mark.parametrize("size", [65_537, 2_000_000])
@pytest.mark.parametrize("line", [b"GET /%b HTTP/1.1", b"GET / HTTP/1.1\r\nX: %b", b"%b"])
async def test_headers_that_are_too_large_are_refused_while_the_client_sends(
    line: bytes, size: int, app: RunningApp
):
    async with wire_of(app) as browser:
        await browser.send(line.replace(b"%b", b"x" * size))
        head = await browser.head()

        assert (head.status, head.all("Connection"), await browser.ended()) == (431, ["close"], b"")


async def test_a_message_of_any_websocket_has_a_limit(app: RunningApp):
    async with wire_of(app) as browser:
        await browser.send(request("GET", "/socket", *HANDSHAKE))
        assert (await browser.head()).status == 101
        await browser.send(b"\x82\xff" + (1024 * 1024 + 1).to_bytes(8, "big"))

        frame = await browser.ended()
        assert (frame[0], int.from_bytes(frame[2:4], "big")) == (0x88, 1009)


@pytest.mark.parametrize("path", ["/nowhere/", "/page/", "/api/", "/static/"])
async def test_a_long_path_fills_no_log(path: str, app: RunningApp, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, logger="app")
    async with wire_of(app) as browser:
        await browser.send(request("GET", path + "x" * 60_000))
        await browser.head()

    await wait_until(lambda: any(record.getMessage() == "request answered" for record in caplog.records))
    assert max(len(str(vars(record))) for record in caplog.records) < 5_000


async def test_a_file_with_a_long_path_is_not_looked_up(app: RunningApp):
    before = time.process_time()
    async with wire_of(app) as browser:
        for _ in range(3):
            await browser.send(request("GET", "/static/" + "a/" * 30_000))
            assert (await browser.answer())[0] == 404

    assert time.process_time() - before < 0.25  # each took 0.15 s
