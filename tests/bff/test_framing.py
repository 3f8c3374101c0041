"""One request in, one request out: nothing gets through that two programs could read in two ways."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.bff.dev.provider import Provider
from tests.bff.harness import Clock, RunningApp
from tests.bff.streaming_api import CHUNKED, StreamingApi, Wire, an_app, answer, of_length, request, wire_of

HIDDEN = request("GET", "/api/hidden")
NOTHING = b"0\r\n\r\n"


@pytest.fixture
async def api() -> AsyncIterator[StreamingApi]:
    api = StreamingApi()
    await api.start()
    yield api
    await api.stop()


@pytest.fixture
async def app(provider: Provider, api: StreamingApi, clock: Clock) -> AsyncIterator[RunningApp]:
    async with an_app(provider, api, clock) as app:
        yield app


@pytest.fixture
async def browser(app: RunningApp) -> AsyncIterator[Wire]:
    async with wire_of(app) as wire:
        yield wire


async def refused(browser: Wire, api: StreamingApi, sent: bytes) -> bool:
    """Whether it is answered once, with 400, and does not reach the API."""
    await browser.send(sent)
    answer = await browser.ended()
    return answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1") == 1 and api.connections == 0


# Where a body ends


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param((of_length(5), CHUNKED), id="a length and chunks"),
        pytest.param((CHUNKED, of_length(100_000)), id="chunks and a length"),
        pytest.param((of_length(5), of_length(6)), id="two lengths"),
        pytest.param((of_length(5), of_length(5)), id="the same length twice"),
        pytest.param(("Content-Length: 5, 5",), id="a list of lengths"),
        pytest.param(("Content-Length: 100000, 5",), id="a list of large lengths"),
        pytest.param(("Content-Length: -1",), id="a negative length"),
        pytest.param(("Content-Length: +5",), id="a sign"),
        pytest.param(("Content-Length: 5_0",), id="an underscore"),
        pytest.param(("Content-Length: 0x5",), id="a hexadecimal length"),
        pytest.param(("Content-Length: \xb2",), id="a digit that is none"),
        pytest.param(("Content-Length: 5 5",), id="two numbers"),
        pytest.param(("Content-Length: five",), id="a word"),
        pytest.param(("Content-Length:",), id="no length"),
        pytest.param(("Content-Length: " + "9" * 5000,), id="a very long number"),
        pytest.param(("Content-Length: " + "0" * 5000 + "5",), id="very many zeros"),
        pytest.param(("Transfer-Encoding: xchunked",), id="xchunked"),
        pytest.param(("Transfer-Encoding: identity",), id="identity"),
        pytest.param(("Transfer-Encoding: chunked, identity",), id="chunked, identity"),
        pytest.param(("Transfer-Encoding: gzip, chunked",), id="gzip, chunked"),
        pytest.param((CHUNKED, CHUNKED), id="chunked twice"),
        pytest.param((CHUNKED, "Transfer-Encoding: identity"), id="chunked and identity"),
        pytest.param(("Transfer-Encoding:",), id="no coding"),
        pytest.param(("Transfer-Encoding: \x0bchunked",), id="a control character"),
        pytest.param(("Transfer-Encoding : chunked",), id="a space before the colon"),
        pytest.param(("X: y\r\n Transfer-Encoding: chunked",), id="a folded line"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_request_with_ambiguous_framing_is_refused(
    method: str, headers: tuple[str, ...], api: StreamingApi, browser: Wire
):
    assert await refused(browser, api, request(method, "/api/x", *headers, body=NOTHING + HIDDEN))


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(b"5;x=y\r\nhello\r\n", id="an extension"),
        pytest.param(b"0x5\r\nhello\r\n", id="a prefix"),
        pytest.param(b"-5\r\nhello\r\n", id="a negative size"),
        pytest.param(b" 5\r\nhello\r\n", id="a space"),
        pytest.param(b"5_0\r\nhello\r\n", id="an underscore"),
        pytest.param(b"5\nhello\r\n", id="a line that ends in LF"),
        pytest.param(b"5\r\nhelloXX", id="no end of the chunk"),
        pytest.param(b"5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n", id="trailers"),
        pytest.param(b"f" * 60 + b"\r\n", id="a very large size"),
    ],
)
async def test_chunks_that_are_not_well_formed_never_become_a_whole_request(
    chunks: bytes, api: StreamingApi, browser: Wire
):
    await browser.send(request("POST", "/api/x", CHUNKED, body=b"1\r\na\r\n"))
    call = await api.call()
    await call.head()
    await browser.send(chunks + NOTHING + HIDDEN)

    assert (await browser.ended()).startswith(b"HTTP/1.1 400 ")
    assert not (await call.ended()).endswith(NOTHING)
    assert api.connections == 1


@pytest.mark.parametrize("path", ["/api/x", "/", "/bff/backchannel", "/nowhere"])
@pytest.mark.parametrize("size", [b"5\n", b"15\n", b"105\n", b"\n", b"0\n", b"5\n\r\n", b"5;x\n"])
async def test_a_size_that_ends_in_lf_is_refused_at_once(path: str, size: bytes, browser: Wire):
    await browser.send(request("POST", path, CHUNKED, body=size))

    answers = [line for line in (await browser.ended()).split(b"\r\n") if line.startswith(b"HTTP/1.1")]
    assert answers in ([b"HTTP/1.1 400 Bad Request"], [b"HTTP/1.1 401 Unauthorized"])


@pytest.mark.parametrize("path", ["/api/x", "/", "/bff/backchannel", "/nowhere"])
@pytest.mark.parametrize(
    "headers", [(CHUNKED,), (CHUNKED, "Connection: keep-alive"), (CHUNKED, of_length(5))]
)
async def test_http_1_0_knows_no_chunks(
    path: str, headers: tuple[str, ...], api: StreamingApi, browser: Wire
):
    sent = request("POST", path, *headers, body=NOTHING + HIDDEN)

    assert await refused(browser, api, sent.replace(b"HTTP/1.1", b"HTTP/1.0", 1))


# Lines


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("X: a\rb", id="a bare CR"),
        pytest.param("X: a\r\n b", id="a folded line"),
        pytest.param("X: a\r\n\tb", id="a line that is folded with a tab"),
        pytest.param("X: a\0b", id="a NUL"),
        pytest.param("X y: a", id="a space in the name"),
        pytest.param("X : a", id="a space after the name"),
        pytest.param(": a", id="no name"),
        pytest.param("X", id="no colon"),
    ],
)
async def test_a_header_is_refused_with(header: str, api: StreamingApi, browser: Wire):
    assert await refused(browser, api, request("GET", "/api/x", header) + HIDDEN)


@pytest.mark.parametrize("target", ["/api/x y", "/api/x\ty", "/api/x\0", "/api/x\r"])
async def test_a_first_line_makes_no_second_request(target: str, api: StreamingApi, browser: Wire):
    await browser.send(request("GET", target, "Connection: close"))
    answer = await browser.ended()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert api.connections == 0


async def test_a_line_that_ends_in_lf_alone_goes_on_as_a_line_of_its_own(api: StreamingApi, browser: Wire):
    await browser.send(request("GET", "/api/x", "X-One: 1\nX-Two: 2"))
    head = await (await api.call()).head()

    assert (head.all("X-One"), head.all("X-Two")) == (["1"], ["2"])


# What the API gets is one request


async def then_the_next(api: StreamingApi, browser: Wire, call: Wire) -> bool:
    """Whether nothing but the next request follows on the API's connection."""
    await call.send(answer(body=b"first"))
    assert await browser.answer() == (200, b"first")
    await browser.send(request("GET", "/api/next"))
    return (await call.head()).line == "GET /next HTTP/1.1"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("padding", [0, 100_000])
async def test_a_request_in_a_body_stays_in_the_body(
    method: str, padding: int, api: StreamingApi, browser: Wire
):
    body = bytes(padding) + HIDDEN
    await browser.send(request(method, "/api/x", of_length(len(body)), body=body))
    call = await api.call()
    head = await call.head()

    assert head.all("Content-Length") == [str(len(body))]
    assert await call.body_of(head) == body
    assert await then_the_next(api, browser, call)


async def test_chunks_by_any_spelling_go_on_as_chunks(api: StreamingApi, browser: Wire):
    await browser.send(
        request("POST", "/api/x", "tRANSFER-eNCODING:   CHUNKED  ", body=b"1\r\na\r\n" + NOTHING)
    )
    call = await api.call()
    head = await call.head()

    assert (head.all("Transfer-Encoding"), head.all("Content-Length")) == (["chunked"], [])
    assert await call.body_of(head) == b"a"
    assert await then_the_next(api, browser, call)


@pytest.mark.parametrize("size", [5, 100_000])
@pytest.mark.parametrize(
    "named", ["Content-Length", "Transfer-Encoding", "Host", "Content-Length, Host, Authorization"]
)
async def test_naming_what_frames_a_request_in_connection_does_not_unframe_it(
    named: str, size: int, api: StreamingApi, browser: Wire
):
    await browser.send(request("POST", "/api/x", f"Connection: {named}", of_length(size), body=bytes(size)))
    call = await api.call()
    head = await call.head()

    assert len(head.all("Content-Length") + head.all("Transfer-Encoding")) == 1
    assert head.all("Host") == [f"127.0.0.1:{api.port}"]
    assert await call.body_of(head) == bytes(size)
    assert await then_the_next(api, browser, call)


@pytest.mark.parametrize(
    "header",
    [
        "X-Secret: 1",
        "TE: trailers",
        "Upgrade: h2c",
        "HTTP2-Settings: x",
        "Keep-Alive: 1",
        "Proxy-Connection: x",
    ],
)
async def test_what_is_meant_for_this_connection_stays_on_it(header: str, api: StreamingApi, browser: Wire):
    hops = "Connection: X-Secret, keep-alive, Upgrade, HTTP2-Settings"
    await browser.send(request("GET", "/api/x", hops, header))
    head = await (await api.call()).head()

    assert head.all(header.partition(":")[0]) == head.all("Connection") == []


async def test_an_old_browser_is_answered_until_the_end_of_its_connection(api: StreamingApi, browser: Wire):
    await browser.send(b"GET /api/x HTTP/1.0\r\nX-CSRF: 1\r\n\r\n")
    call = await api.call()
    assert (await call.head()).line == "GET /x HTTP/1.1"
    await call.send(answer("200 OK", CHUNKED, body=None) + b"1\r\na\r\n" + NOTHING)

    assert (await browser.ended()).endswith(b"\r\n\r\na")


# What the API says is one answer


async def test_an_answer_in_an_answer_stays_in_it(api: StreamingApi, browser: Wire):
    await browser.send(request())
    call = await api.call()
    await call.head()
    await call.send(answer(body=b"first") + answer(body=b"hidden"))
    assert await browser.answer() == (200, b"first")
    await browser.send(request("GET", "/api/next"))
    await (await api.call()).send(answer(body=b"next"))  # on another connection: that one is out of step

    assert await browser.answer() == (200, b"next")


@pytest.mark.parametrize(
    "header", ["Connection: Content-Length, X-Secret", "Connection: close", "Keep-Alive: timeout=1"]
)
async def test_an_answer_has_one_end_and_no_headers_of_the_api_s_connection(
    header: str, api: StreamingApi, browser: Wire
):
    await browser.send(request())
    call = await api.call()
    await call.head()
    await call.send(answer("200 OK", header, "X-Secret: 1" if "X-Secret" in header else "X: y", body=b"body"))
    await call.close()
    head = await browser.head()

    assert len(head.all("Content-Length") + head.all("Transfer-Encoding")) == 1
    assert head.all("Connection") == head.all("X-Secret") == head.all("Keep-Alive") == []
    assert await browser.body_of(head) == b"body"
