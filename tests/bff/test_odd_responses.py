"""Whatever an API sends as HTTP: the browser gets a response that is whole, visibly cut off, or 502.

It never waits for ever, and the next request never gets what was left of the one before.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest

from app.bff.clients.api import as_app_error
from app.bff.clients.registry import API_ERRORS
from app.bff.dev.provider import Provider
from app.bff.errors import ApiError
from tests.bff.harness import Clock, RunningApp
from tests.bff.streaming_api import CHUNKED, Wire, an_app, answer, of_length, request, soon, wire_of

NEXT = answer(body=b"next")
FIVE = of_length(5)


class OddApi:
    """Sends `odd` to its first request, and `NEXT` to all others."""

    def __init__(self, odd: bytes, *, closes: bool = False) -> None:
        self.odd, self.closes = odd, closes
        self.requests: list[bytes] = []
        self.is_left = asyncio.Event()
        self._connections: list[asyncio.StreamWriter] = []

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for connection in self._connections:
            connection.close()
        await self._server.wait_closed()

    def hang_up(self) -> None:
        """Close the first connection as a server does: the kernel says so at once, the event loop later."""
        self._connections[0].transport.get_extra_info("socket")._sock.shutdown(socket.SHUT_WR)

    async def send(self, data: bytes) -> None:
        self._connections[0].write(data)
        await self._connections[0].drain()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.append(writer)
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                is_first = len(self.requests) == 1
                writer.write(self.odd if is_first else NEXT)
                if is_first and self.closes:
                    return writer.close()
        except (asyncio.IncompleteReadError, ConnectionError):
            return self.is_left.set()


def sent(status_line: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([status_line, *headers, "", ""]).encode("latin-1") + body


OK, HELLO = "HTTP/1.1 200 OK", b"hello"
WHOLE = {
    "HTTP/1.0, until the connection ends": (sent("HTTP/1.0 200 OK", body=HELLO), True),
    "HTTP/1.0 with a length": (sent("HTTP/1.0 200 OK", FIVE, body=HELLO), True),
    "HTTP/1.0, kept": (sent("HTTP/1.0 200 OK", "Connection: keep-alive", FIVE, body=HELLO), False),
    "HTTP/1.0, kept, without a length": (sent("HTTP/1.0 200 OK", "Connection: keep-alive", body=HELLO), True),
    "HTTP/1.0 in chunks": (sent("HTTP/1.0 200 OK", CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"), True),
    "until the connection ends": (sent(OK, body=HELLO), True),
    "closed after a length": (sent(OK, "Connection: close", FIVE, body=HELLO), True),
    "extensions and trailers": (
        sent(OK, CHUNKED, body=b'5;a=b;c="d"\r\nhello\r\n0;x\r\nX: y\r\nSet-Cookie: a=b\r\n\r\n'),
        False,
    ),
    "100 before": (sent("HTTP/1.1 100 Continue") + sent(OK, FIVE, body=HELLO), False),
    "103 before": (sent("HTTP/1.1 103 Early Hints", "Link: </a>") + sent(OK, FIVE, body=HELLO), False),
    "all of 1xx before": (
        b"".join(sent(f"HTTP/1.1 {code}") for code in (100, 102, 103, 150, 199)) + sent(OK, FIVE, body=HELLO),
        False,
    ),
    "no coding": (sent(OK, "Transfer-Encoding: identity", body=HELLO), True),
    "zeros before a length": (sent(OK, "Content-Length: 0005", body=HELLO), False),
    "a folded header": (sent(OK, "ETag: a", " b", FIVE, body=HELLO), False),
    "lines that end in LF": (b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", False),
    "empty lines before": (b"\r\n\r\n" + sent(OK, FIVE, body=HELLO), False),
    "no reason": (sent("HTTP/1.1 200", FIVE, body=HELLO), False),
    "an odd reason": (sent("HTTP/1.1 200 \xe4\xff:\t<x>", FIVE, body=HELLO), False),
    "empty values": (sent(OK, "ETag:", "Vary: ", FIVE, body=HELLO), False),
    "values in Latin-1": (sent(OK, "ETag: \xe4\xff", "Content-Type: \xe4;;", FIVE, body=HELLO), False),
    "255 headers": (sent(OK, *(f"X-{n}: {n}" for n in range(254)), FIVE, body=HELLO), False),
    "an upgrade that is offered": (
        sent(OK, "Upgrade: h2c", "Connection: Upgrade, keep-alive", FIVE, body=HELLO),
        False,
    ),
    "not encoded as it says": (sent(OK, "Content-Encoding: gzip", FIVE, body=HELLO), False),
    "a cookie that is none": (sent(OK, "Set-Cookie: \xff=\x01;;;expires=x", FIVE, body=HELLO), False),
    "a second response at once": (sent(OK, FIVE, body=HELLO) + answer(body=b"poisoned"), False),
}
CUT_OFF = {
    "HTTP/1.0, closed early": (sent("HTTP/1.0 200 OK", of_length(50), body=HELLO), True),
    "closed early": (sent(OK, "Connection: close", of_length(50), body=HELLO), True),
    "a length that is no length": (sent(OK, of_length(2**64 - 1), body=HELLO), True),
    "closed within a chunk": (sent(OK, CHUNKED, body=b"50\r\nhello"), True),
    "closed before the last chunk": (sent(OK, CHUNKED, body=b"5\r\nhello\r\n"), True),
}
UNREACHABLE = {
    "nothing": (b"", True),
    "half of a status line": (b"HTTP/1.1 2", True),
    "half of the headers": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETa", True),
    "nothing after a 100": (sent("HTTP/1.1 100 Continue"), True),
}
NO_HTTP = {
    "HTTP/0.9": (b"<p>hello", True),
    "HTTP/1.2": (sent("HTTP/1.2 200 OK", FIVE, body=HELLO), False),
    "another protocol": (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", True),
    "a TLS alert": (b"\x15\x03\x01\x00\x02\x02\x0a", True),
    "another name": (sent("ICY 200 OK", FIVE, body=HELLO), False),
    "lines that end in CR": (b"HTTP/1.1 200 OK\rContent-Length: 5\r\rhello", True),
    **{
        f"status {code}": (sent(f"HTTP/1.1 {code} X", FIVE, body=HELLO), False)
        for code in ("000", "099", "99", "1000", "abc", "-200")
    },
    "a length twice": (sent(OK, FIVE, FIVE, body=HELLO), False),
    "two lengths": (sent(OK, FIVE, of_length(6), body=b"hello!"), False),
    "a list of lengths": (sent(OK, "Content-Length: 5, 5", body=HELLO), False),
    "a negative length": (sent(OK, of_length(-5), body=HELLO), True),
    "a signed length": (sent(OK, "Content-Length: +5", body=HELLO), True),
    "a very large length": (sent(OK, of_length(10**30), body=HELLO), True),
    "an empty length": (sent(OK, "Content-Length:", body=HELLO), True),
    "chunks and a length": (sent(OK, CHUNKED, FIVE, body=b"5\r\nhello\r\n0\r\n\r\n"), False),
    "a length and chunks": (sent(OK, FIVE, CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"), False),
    "a coding that was not asked for": (
        sent(OK, "Transfer-Encoding: gzip, chunked", body=b"5\r\nhello\r\n0\r\n\r\n"),
        False,
    ),
    "another coding": (sent(OK, "Transfer-Encoding: gzip", body=HELLO), True),
    "no size of a chunk": (sent(OK, CHUNKED, body=b"zz\r\n"), False),
    "chunks that end in LF": (sent(OK, CHUNKED, body=b"5\nhello\n0\n\n"), True),
    "a chunk longer than it says": (sent(OK, CHUNKED, body=b"5\r\nhellooo\r\n0\r\n\r\n"), False),
    "NUL in a value": (sent(OK, "ETag: a\0b", FIVE, body=HELLO), True),
    "CR in a value": (sent(OK, "ETag: a\rb", FIVE, body=HELLO), True),
    "a line without a colon": (sent(OK, "ETag", FIVE, body=HELLO), True),
    "a header without a name": (sent(OK, ": x", FIVE, body=HELLO), True),
}


async def response_to(browser: Wire, method: str = "POST") -> tuple[int, bytes | None]:
    """Status and body, which is None if it is not whole."""
    await browser.send(request(method))
    head = await browser.head()
    try:
        return head.status, b"" if method == "HEAD" else await browser.body_of(head)
    except asyncio.IncompleteReadError:
        return head.status, None


@pytest.fixture
async def api(odd: tuple[bytes, bool]) -> AsyncIterator[OddApi]:
    api = OddApi(odd[0], closes=odd[1])
    await api.start()
    yield api
    await api.stop()


@pytest.fixture
async def app(provider: Provider, api: OddApi, clock: Clock) -> AsyncIterator[RunningApp]:
    async with an_app(provider, api, clock) as app:  # type: ignore[arg-type]
        yield app


async def next_response(app: RunningApp) -> tuple[int, bytes | None]:
    async with wire_of(app) as browser:
        return await response_to(browser)


@pytest.mark.parametrize("odd", WHOLE.values(), ids=WHOLE)
async def test_a_response_is_whole(app: RunningApp):
    async with wire_of(app) as browser:
        assert await response_to(browser) == (200, HELLO)
        assert await response_to(browser) == (200, b"next")


@pytest.mark.parametrize("odd", CUT_OFF.values(), ids=CUT_OFF)
async def test_a_response_that_ends_early_does_not_look_whole(app: RunningApp):
    async with wire_of(app) as browser:
        assert await response_to(browser) == (200, None)
    assert await next_response(app) == (200, b"next")


@pytest.mark.parametrize(
    ("odd", "detail"),
    [
        *(pytest.param(odd, "the API could not be reached", id=name) for name, odd in UNREACHABLE.items()),
        *(
            pytest.param(odd, "the API's response is not valid HTTP", id=name)
            for name, odd in NO_HTTP.items()
        ),
    ],
)
async def test_what_is_no_response_is_502(detail: str, app: RunningApp, api: OddApi):
    async with wire_of(app) as browser:
        status, body = await response_to(browser)
        problem = json.loads(body or b"")

        assert (status, problem["code"], problem["detail"]) == (502, "api_unreachable", detail)
        assert await response_to(browser) == (200, b"next")
    assert len(api.requests) == 2  # nothing was sent twice


@pytest.mark.parametrize(
    "odd", [(sent(f"HTTP/1.1 {code} X", FIVE, body=HELLO), False) for code in (299, 599, 600, 999)]
)
async def test_an_unknown_status_passes(app: RunningApp, odd: tuple[bytes, bool]):
    async with wire_of(app) as browser:
        assert await response_to(browser) == (int(odd[0][9:12]), HELLO)
        assert await response_to(browser) == (200, b"next")


@pytest.mark.parametrize("odd", [(sent(OK, FIVE), False), (sent(OK, CHUNKED), False), (sent(OK), False)])
async def test_a_response_to_head_ends_with_its_headers(app: RunningApp):
    async with wire_of(app) as browser:
        assert await response_to(browser, "HEAD") == (200, b"")
        assert await response_to(browser) == (200, b"next")


# Too much of it


@pytest.mark.parametrize("odd", [(sent(OK, *(f"X-{n}: {n}" for n in range(257)), FIVE, body=HELLO), False)])
async def test_an_error_names_how_many_headers_there_may_be(app: RunningApp, api: OddApi):
    async with wire_of(app) as browser:
        status, body = await response_to(browser)
    api.requests.clear()
    with pytest.raises(API_ERRORS) as raised:
        await app.services.clients.create("apiClient", None).post("x")

    assert (status, json.loads(body or b"")["code"]) == (502, "api_error")
    assert json.loads(body or b"")["detail"] == "the API sent more than 256 headers"
    assert isinstance(as_app_error(raised.value), ApiError)


# What is left on a connection


@pytest.mark.parametrize("odd", [(sent(OK, CHUNKED), False)])
@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"zz\r\n", id="no size"),
        pytest.param(b"5\r\nhello\r\nzz\r\n", id="no size after a chunk"),
        pytest.param(b"5\r\nhellooo\r\n0\r\n\r\n", id="longer than it says"),
        pytest.param(b"5\nhello\n0\n\n", id="ends in LF"),
        pytest.param(b"f" * 21 + b"\r\n", id="a very large size"),
        pytest.param(b"5\r\nhello\r\n0\r\nX\0: y\r\n\r\n", id="no trailer"),
        pytest.param(b"5\r\nhello\r\n0\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", id="a long trailer"),
    ],
)
async def test_chunks_that_are_none_cut_a_response_off_at_once(rest: bytes, app: RunningApp, api: OddApi):
    async with wire_of(app) as browser:
        await browser.send(request())
        await browser.head()
        await api.send(rest)

        assert b"0\r\n\r\n" not in await browser.ended()
    assert await next_response(app) == (200, b"next")


STRAY = {
    "more than its length": (sent(OK, FIVE, body=b"hello, Alice"), 200),
    "a body of a 204": (sent("HTTP/1.1 204 No Content", FIVE, body=HELLO), 204),
    "a body of a 204 in chunks": (sent("HTTP/1.1 204 No", CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"), 204),
    "a body of a 304": (sent("HTTP/1.1 304 Not Modified", FIVE, body=HELLO), 304),
    "a response after a 204": (sent("HTTP/1.1 204 No Content", FIVE) + answer(body=b"poisoned"), 204),
}


@pytest.mark.parametrize(
    ("odd", "status"), [((odd, False), status) for odd, status in STRAY.values()], ids=STRAY
)
async def test_what_belongs_to_no_response_is_dropped(status: int, app: RunningApp):
    async with wire_of(app) as browser:
        await browser.send(request())
        head = await browser.head()
        assert head.status == status
        assert status != 200 or await browser.exactly(5) == HELLO

        assert await response_to(browser) == (200, b"next")


@pytest.mark.parametrize("odd", [(sent(OK, FIVE, body=HELLO), False), (sent("HTTP/1.1 204 No"), False)])
@pytest.mark.parametrize(
    "late",
    [
        pytest.param(answer(body=b"poisoned"), id="a second response"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: ", id="the beginning of one"),
        pytest.param(answer("408 Request Timeout", "Connection: close"), id="a time-out"),
        pytest.param(b"x", id="the rest of a body"),
    ],
)
async def test_what_arrives_while_a_connection_is_idle_is_no_response_to_the_next_request(
    late: bytes, app: RunningApp, api: OddApi
):
    async with wire_of(app) as browser:
        await browser.send(request())
        await browser.head()
        await api.send(late)
        await soon(api.is_left.wait())

    assert await next_response(app) == (200, b"next")


@pytest.mark.parametrize("odd", [(sent(OK, FIVE, body=b"he"), False)])
async def test_what_follows_the_end_of_a_response_is_no_response_to_the_next_request(
    app: RunningApp, api: OddApi
):
    async with wire_of(app) as browser:
        await browser.send(request())
        await browser.head()
        await api.send(b"llo" + answer(body=b"poisoned"))

        assert await browser.exactly(5) == HELLO
        assert await response_to(browser) == (200, b"next")


@pytest.mark.parametrize("odd", [(answer(body=HELLO), False)])
async def test_a_post_is_not_sent_on_a_connection_that_the_api_has_just_closed(app: RunningApp, api: OddApi):
    client = app.services.clients.create("apiClient", None)
    async with client.post("x") as response:
        await response.read()
    api.hang_up()  # which the event loop has not heard of yet

    async with client.post("x") as response:
        assert await response.read() == b"next"
    assert len(api.requests) == 2


@pytest.mark.parametrize("odd", [(answer(body=HELLO), False)])
@pytest.mark.parametrize(
    ("method", "status", "times"), [("POST", 502, 1), ("PATCH", 502, 1), ("PUT", 200, 2), ("GET", 200, 2)]
)
async def test_a_request_that_was_sent_and_not_answered_is_repeated_only_if_it_may_be(
    method: str, status: int, times: int, app: RunningApp, api: OddApi
):
    async with wire_of(app) as browser:
        await response_to(browser)
        api.requests.clear()
        api.odd, api.closes = b"", True  # to the first of the next requests, which has been read

        assert (await response_to(browser, method))[0] == status
    assert len(api.requests) == times
