"""Bodies on their way through us: as they arrive, both ways, in bounded memory."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest

from app.bff.dev.provider import Provider
from tests.bff.harness import Browser, Clock, RunningApp, new_browser, wait_until
from tests.bff.streaming_api import CHUNKED, StreamingApi, Wire, an_app, answer, of_length, request, wire_of

LARGE = 100_000  # bytes: more than the buffer for a retry holds
TIMEOUT_SECONDS = 0.3
MAX_BODY_BYTES = 1_000_000
A_LOT = 200_000_000
OK = answer(body=b"ok")


@pytest.fixture
async def api() -> AsyncIterator[StreamingApi]:
    api = StreamingApi()
    await api.start()
    yield api
    await api.stop()


@pytest.fixture
async def app(provider: Provider, api: StreamingApi, clock: Clock) -> AsyncIterator[RunningApp]:
    async with an_app(provider, api, clock, max_body_bytes=A_LOT) as app:
        yield app


@pytest.fixture
async def strict(provider: Provider, api: StreamingApi, clock: Clock) -> AsyncIterator[RunningApp]:
    """The application with a limit that is soon reached."""
    async with an_app(provider, api, clock, max_body_bytes=MAX_BODY_BYTES) as app:
        yield app


@pytest.fixture
async def impatient(provider: Provider, api: StreamingApi, clock: Clock) -> AsyncIterator[RunningApp]:
    """The application with little patience with the API and the browser."""
    async with an_app(
        provider,
        api,
        clock,
        max_body_bytes=A_LOT,
        timeout_seconds=TIMEOUT_SECONDS,
        stall_seconds=TIMEOUT_SECONDS,
    ) as app:
        yield app


@pytest.fixture
async def browser(app: RunningApp) -> AsyncIterator[Wire]:
    async with wire_of(app) as wire:
        yield wire


@contextmanager
def memory_growth() -> Iterator[Callable[[], int]]:
    """How many bytes this process has taken at most, both ends of the wire included."""
    tracemalloc.start()
    begun, _ = tracemalloc.get_traced_memory()
    peak = [0]
    try:
        yield lambda: peak[0] - begun
        peak[0] = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def served(app: RunningApp, api: StreamingApi) -> bool:
    """Whether another request goes through, on the only connection that there may be."""
    async with wire_of(app) as browser:
        await browser.send(request())
        call = await api.call()
        await call.head()
        await call.send(OK)
        return await browser.answer() == (200, b"ok")


async def all_calls_end(api: StreamingApi) -> bool:
    """No call that the API has had so far is left, and none was whole."""
    for _ in range(api.connections):
        call = await api.call()
        assert not (await call.ended()).endswith(b"0\r\n\r\n")
    return True


# Requests, as they arrive


async def test_the_api_has_the_first_part_of_an_upload_before_the_browser_has_sent_the_second(
    api: StreamingApi, browser: Wire
):
    await browser.send(request("POST", "/api/x", of_length(LARGE), body=b"a" * 60_000))
    call = await api.call()
    head = await call.head()
    first = await call.exactly(60_000)
    await browser.send(b"b" * 40_000)
    second = await call.exactly(40_000)
    await call.send(OK)

    assert (first, second) == (b"a" * 60_000, b"b" * 40_000)
    assert (head.all("Content-Length"), head.all("Transfer-Encoding")) == ([str(LARGE)], [])
    assert await browser.answer() == (200, b"ok")


async def test_an_upload_in_chunks_goes_on_in_chunks(api: StreamingApi, browser: Wire):
    await browser.send(request("PUT", "/api/x", CHUNKED))
    await browser.send_chunk(b"first")
    call = await api.call()
    head = await call.head()
    first = await call.chunk()
    await browser.send_chunk(b"second")
    second = await call.chunk()
    await browser.send(b"0\r\n\r\n")

    assert (first, second, await call.chunk()) == (b"first", b"second", b"")
    assert (head.all("Content-Length"), head.all("Transfer-Encoding")) == ([], ["chunked"])
    await call.send(OK)
    assert await browser.answer() == (200, b"ok")


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS"])
async def test_every_method_may_have_a_body_in_chunks(method: str, api: StreamingApi, browser: Wire):
    await browser.send(request(method, "/api/x", CHUNKED, body=b"1\r\nx\r\n0\r\n\r\n"))
    call = await api.call()

    assert await call.body_of(await call.head()) == b"x"


async def test_a_request_without_a_body_arrives_without_one_and_nothing_is_added(
    api: StreamingApi, browser: Wire
):
    await browser.send(request("GET"))
    head = await (await api.call()).head()

    assert [name for name, _ in head.headers] == ["Host"]


async def test_an_api_that_does_not_read_stops_the_browser(api: StreamingApi, browser: Wire):
    await browser.send(request("POST", "/api/x", of_length(A_LOT)))
    pushed = asyncio.create_task(browser.push(A_LOT, until_stuck=True))
    await api.call()

    assert await pushed < A_LOT / 10  # what the kernel holds for four sockets, and little of ours


async def test_a_browser_that_does_not_read_stops_the_api(api: StreamingApi, browser: Wire):
    await browser.send(request())
    call = await api.call()
    await call.send(answer("200 OK", of_length(A_LOT), body=None))

    assert await call.push(A_LOT, until_stuck=True) < A_LOT / 10


async def test_a_stop_does_not_wait_for_an_upload_that_is_not_read(
    provider: Provider, api: StreamingApi, clock: Clock
):
    async with an_app(provider, api, clock, max_body_bytes=A_LOT) as app, wire_of(app) as browser:
        await browser.send(request("POST", "/api/x", of_length(A_LOT)))
        await browser.push(A_LOT, until_stuck=True)
        stops_at = asyncio.get_running_loop().time()

    assert asyncio.get_running_loop().time() - stops_at < 10  # the API has 30 seconds for its answer


async def test_an_upload_of_200_megabytes_takes_no_memory(api: StreamingApi, browser: Wire):
    await browser.send(request("POST", "/api/x", of_length(A_LOT)))
    with memory_growth() as grown:
        pushed = asyncio.create_task(browser.push(A_LOT))
        call = await api.call()
        await call.head()
        await call.swallow(A_LOT)

    assert (await pushed, grown() < A_LOT / 50) == (A_LOT, True)


async def test_a_download_of_200_megabytes_takes_no_memory(api: StreamingApi, browser: Wire):
    await browser.send(request())
    call = await api.call()
    await call.send(answer("200 OK", of_length(A_LOT), body=None))
    with memory_growth() as grown:
        pushed = asyncio.create_task(call.push(A_LOT))
        await browser.head()
        await browser.swallow(A_LOT)

    assert (await pushed, grown() < A_LOT / 50) == (A_LOT, True)


# Answers, as they arrive


async def test_events_arrive_one_by_one(api: StreamingApi, browser: Wire):
    await browser.send(request("GET", "/api/x", "Accept: text/event-stream"))
    call = await api.call()
    await call.head()
    await call.send(answer("200 OK", CHUNKED, "Content-Type: text/event-stream", body=None))
    await call.send_chunk(b"data: 1\n\n")
    head, first = await browser.head(), await browser.chunk()
    await call.send_chunk(b"data: 2\n\n")
    second = await browser.chunk()
    await call.send(b"0\r\n\r\n")

    assert head.all("Content-Type") == ["text/event-stream"]
    assert (first, second, await browser.chunk()) == (b"data: 1\n\n", b"data: 2\n\n", b"")


async def test_the_headers_of_an_answer_arrive_before_its_first_event(api: StreamingApi, browser: Wire):
    await browser.send(request("GET", "/api/x", "Accept: text/event-stream"))
    call = await api.call()
    await call.head()
    await call.send(answer("200 OK", CHUNKED, body=None))

    assert (await browser.head()).status == 200


async def test_an_answer_until_the_end_of_the_connection_is_whole(api: StreamingApi, browser: Wire):
    await browser.send(request())
    call = await api.call()
    await call.head()
    await call.send(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
    await call.close()

    assert await browser.answer() == (200, b"until the end")


async def test_what_an_api_says_before_its_answer_stays_here(api: StreamingApi, browser: Wire):
    await browser.send(request())
    call = await api.call()
    await call.head()
    await call.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK)

    assert await browser.answer() == (200, b"ok")


async def test_trailers_of_an_answer_are_dropped(api: StreamingApi, browser: Wire):
    await browser.send(request("GET", "/api/x", "TE: trailers"))
    call = await api.call()
    assert (await call.head()).all("TE") == []
    await call.send(
        answer("200 OK", CHUNKED, "Trailer: X-Sum", body=None) + b"1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    head = await browser.head()

    assert (head.all("Trailer"), head.all("X-Sum")) == ([], [])
    assert await browser.body_of(head) == b"x"
    await browser.send(request())
    await call.head()  # and the connection is still in step


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_an_answer_that_has_no_body_ends_with_its_headers(
    method: str, status: str, app: RunningApp, api: StreamingApi, browser: Wire
):
    await browser.send(request(method))
    call = await api.call()
    await call.head()
    await call.send(answer(status, 'ETag: "1"', body=None))
    head = await browser.head()

    assert (head.line, head.all("ETag")) == (f"HTTP/1.1 {status}", ['"1"'])
    assert (head.all("Content-Length"), head.all("Transfer-Encoding")) == ([], [])
    await still_in_step(api, browser, call)


@pytest.mark.parametrize("how", ["Content-Length: 5", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("status", ["200 OK", "206 Partial Content", "404 Not Found"])
async def test_an_answer_to_head_says_what_get_would_and_ends(
    status: str, how: str, api: StreamingApi, browser: Wire
):
    await browser.send(request("HEAD"))
    call = await api.call()
    await call.head()
    await call.send(answer(status, how, body=None))
    head = await browser.head()

    assert head.line == f"HTTP/1.1 {status}"
    assert head.all("Content-Length") == (["5"] if "Length" in how else [])
    await still_in_step(api, browser, call)


async def test_a_304_may_say_how_long_it_would_have_been(api: StreamingApi, browser: Wire):
    await browser.send(request())
    call = await api.call()
    await call.head()
    await call.send(answer("304 Not Modified", of_length(5), body=None))
    head = await browser.head()

    assert (head.status, head.all("Content-Length")) == (304, ["5"])
    await still_in_step(api, browser, call)


async def test_a_204_says_no_length(api: StreamingApi, browser: Wire):  # RFC 9110 §8.6
    await browser.send(request())
    call = await api.call()
    await call.head()
    await call.send(answer("204 No Content", of_length(0), body=None))

    assert (await browser.head()).all("Content-Length") == []
    await still_in_step(api, browser, call)


async def still_in_step(api: StreamingApi, browser: Wire, call: Wire) -> None:
    """The same connection carries the next request and its answer."""
    await browser.send(request())
    await call.head()
    await call.send(OK)
    assert await browser.answer() == (200, b"ok")


async def test_a_range_is_requested_and_answered_unchanged(api: StreamingApi, browser: Wire):
    await browser.send(request("GET", "/api/x", "Range: bytes=1-2", 'If-Range: "1"'))
    call = await api.call()
    forwarded = await call.head()
    await call.send(answer("206 Partial Content", "Content-Range: bytes 1-2/9", 'ETag: "1"', body=b"bc"))
    head = await browser.head()

    assert (forwarded.all("Range"), forwarded.all("If-Range")) == (["bytes=1-2"], ['"1"'])
    assert (head.status, head.all("Content-Range"), head.all("ETag")) == (206, ["bytes 1-2/9"], ['"1"'])
    assert (head.all("Content-Length"), await browser.body_of(head)) == (["2"], b"bc")


async def test_compressed_bodies_are_carried_as_they_are_both_ways(api: StreamingApi, browser: Wire):
    packed = gzip.compress(bytes(1000))
    gzipped = "Content-Encoding: gzip"
    await browser.send(request("POST", "/api/x", gzipped, of_length(len(packed)), body=packed))
    call = await api.call()
    head = await call.head()
    assert (head.all("Content-Encoding"), await call.body_of(head)) == (["gzip"], packed)
    await call.send(answer("200 OK", gzipped, body=packed))
    head = await browser.head()

    assert (head.all("Content-Encoding"), head.all("Content-Length")) == (["gzip"], [str(len(packed))])
    assert await browser.body_of(head) == packed


async def test_headers_that_stand_several_times_stay_several(api: StreamingApi, browser: Wire):
    await browser.send(request("GET", "/api/x", "X-Two: a", "X-Two: b, c"))
    call = await api.call()
    forwarded = await call.head()
    await call.send(answer("200 OK", "Link: <//a/1>", "Link: <//a/2>, <//a/3>", "Vary: A", "Vary: B"))
    head = await browser.head()

    assert forwarded.all("X-Two") == ["a", "b, c"]
    assert head.all("Link") == ["<//a/1>", "<//a/2>, <//a/3>"]
    assert head.all("Vary") == ["A", "B"]


async def test_letters_of_other_alphabets_in_headers_arrive_as_they_were(api: StreamingApi, browser: Wire):
    name = 'attachment; filename="Übersicht – €.pdf"'.encode().decode("latin-1")
    await browser.send(request())
    call = await api.call()
    await call.head()
    await call.send(answer("200 OK", f"Content-Disposition: {name}", "Link: caf\xe9"))
    head = await browser.head()

    assert (head.status, head.all("Content-Disposition"), head.all("Link")) == (200, [name], ["caf\xe9"])


async def test_letters_of_other_alphabets_in_a_request_arrive_as_they_were(api: StreamingApi, browser: Wire):
    value = "café – €".encode().decode("latin-1")
    await browser.send(request("GET", "/api/x", f"X-Name: {value}"))

    assert (await (await api.call()).head()).all("X-Name") == [value]


# An API that stops in the middle


@pytest.mark.parametrize(
    ("how", "sent"),
    [
        pytest.param(of_length(10), b"half", id="with a length"),
        pytest.param(CHUNKED, b"4\r\nhalf\r\n", id="in chunks"),
        pytest.param(CHUNKED, b"8\r\nhalf", id="in the middle of a chunk"),
    ],
)
async def test_an_answer_that_stops_in_the_middle_is_never_taken_for_a_whole_one(
    how: str, sent: bytes, app: RunningApp, api: StreamingApi, browser: Wire, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    await browser.send(request())
    call = await api.call()
    await call.head()
    await call.send(answer("200 OK", how, body=None) + sent)
    head = await browser.head()
    await call.close()
    rest = await browser.ended()

    assert (head.status, b"half" in rest, rest.endswith(b"0\r\n\r\n")) == (200, True, False)
    assert "the API could not be reached" in [getattr(record, "reason", "") for record in caplog.records]
    assert await served(app, api)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"",
    ],
)
async def test_an_api_that_answers_nonsense_is_502(
    nonsense: bytes, app: RunningApp, api: StreamingApi, browser: Wire
):
    await browser.send(request("POST"))  # an unanswered GET may be sent again
    call = await api.call()
    await call.head()
    await call.send(nonsense)
    await call.close()
    head = await browser.head()

    assert head.status == 502
    assert b"api_unreachable" in await browser.body_of(head)
    assert await served(app, api)


# A browser that leaves


async def test_the_api_hears_at_once_that_the_browser_left_while_it_waited(
    app: RunningApp, api: StreamingApi, browser: Wire
):
    await browser.send(request())
    call = await api.call()
    await call.head()
    await browser.close()

    assert await call.ended() == b""
    assert await served(app, api)


async def test_a_browser_that_leaves_right_after_its_request_is_noticed_too(
    app: RunningApp, browser: Wire, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    await browser.send(request())
    await browser.close()
    await wait_until(lambda: "request answered" in caplog.messages)

    assert [record.status for record in caplog.records if record.msg == "request answered"] == [499]
    assert not app.services.in_flight_requests


async def test_the_api_hears_at_once_that_the_browser_left_in_the_middle_of_the_answer(
    app: RunningApp, api: StreamingApi, browser: Wire
):
    await browser.send(request())
    call = await api.call()
    await call.head()
    await call.send(answer("200 OK", CHUNKED, body=None))
    await call.send_chunk(b"data: 1\n\n")
    await browser.head()
    await browser.close()

    assert await call.ended() == b""
    assert await served(app, api)


@pytest.mark.parametrize(
    ("how", "sent"),
    [
        pytest.param(of_length(LARGE), b"a" * 70_000, id="with a length"),
        pytest.param(CHUNKED, b"1\r\na\r\n", id="in chunks"),
    ],
)
async def test_the_api_hears_at_once_that_the_browser_left_in_the_middle_of_its_upload(
    how: str, sent: bytes, app: RunningApp, api: StreamingApi, browser: Wire
):
    await browser.send(request("POST", "/api/x", how, body=sent))
    call = await api.call()
    await call.head()
    await browser.close()

    assert not (await call.ended()).endswith(b"0\r\n\r\n")  # it must not take the half for the whole
    assert await served(app, api)


async def test_the_api_hears_that_the_browser_left_after_its_upload(
    app: RunningApp, api: StreamingApi, browser: Wire
):
    await browser.send(request("POST", "/api/x", of_length(LARGE), body=bytes(LARGE)))
    call = await api.call()
    await call.body_of(await call.head())
    await browser.close()

    assert await call.ended() == b""
    assert await served(app, api)


async def test_a_browser_that_left_without_reading_the_answer_is_forgotten(
    app: RunningApp, api: StreamingApi, browser: Wire, caplog: pytest.LogCaptureFixture
):
    await browser.send(request())
    call = await api.call()
    await call.send(answer("200 OK", of_length(A_LOT), body=None))
    await call.push(A_LOT, until_stuck=True)
    await browser.close()
    await call.ended()

    assert await served(app, api)
    await wait_until(lambda: not app.services.in_flight_requests)
    assert "request failed" not in caplog.messages


async def test_a_browser_that_left_is_in_the_log_and_under_way_no_more(
    app: RunningApp, api: StreamingApi, browser: Wire, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    await browser.send(request())
    call = await api.call()
    await browser.close()
    await call.ended()
    await wait_until(lambda: not app.services.in_flight_requests)

    assert 499 in [getattr(record, "status", 0) for record in caplog.records]


# Answers that come early


@pytest.mark.parametrize(
    ("how", "sent"),
    [
        pytest.param(of_length(A_LOT), b"a" * 70_000, id="with a length"),
        pytest.param(CHUNKED, b"1\r\na\r\n", id="in chunks"),
    ],
)
@pytest.mark.parametrize("hangs_up", [True, False])
async def test_an_answer_before_the_end_of_the_upload_is_passed_on(
    hangs_up: bool, how: str, sent: bytes, app: RunningApp, api: StreamingApi, browser: Wire
):
    await browser.send(request("POST", "/api/x", how, body=sent))
    call = await api.call()
    await call.head()
    await call.send(answer("413 Content Too Large", body=b"too much"))
    if hangs_up:
        await call.close()

    head = await browser.head()
    assert (head.status, head.all("Connection")) == (413, ["close"])  # the rest of the upload is in its way
    assert await browser.body_of(head) == b"too much"
    await call.ended()
    assert await served(app, api)


@pytest.mark.parametrize("hangs_up", [True, False])
async def test_a_browser_that_sends_everything_before_it_reads_gets_an_early_answer_too(
    hangs_up: bool, app: RunningApp, api: StreamingApi, browser: Wire
):
    size = 20_000_000
    await browser.send(request("POST", "/api/x", of_length(size), body=bytes(LARGE)))
    call = await api.call()
    await call.head()
    await call.send(answer("401 Unauthorized", body=b"who are you"))
    if hangs_up:
        await call.close()

    assert await browser.push(size - LARGE) == size - LARGE
    assert await browser.answer() == (401, b"who are you")


async def test_a_browser_that_sends_everything_before_it_reads_gets_our_own_refusal_too(
    strict: RunningApp, api: StreamingApi
):
    size = 20_000_000
    async with wire_of(strict) as browser:
        await browser.send(request("POST", "/api/x", of_length(size)))

        assert await browser.push(size) == size
        assert (await browser.answer())[0] == 413


async def test_an_answer_and_the_upload_may_go_on_at_the_same_time(api: StreamingApi, browser: Wire):
    await browser.send(request("POST", "/api/x", CHUNKED, body=b"1\r\na\r\n"))
    call = await api.call()
    await call.head()
    await call.send(answer("200 OK", CHUNKED, body=None))
    for letter in (b"a", b"b", b"c"):
        assert await call.chunk() == letter
        await call.send_chunk(letter)
        await browser.until(b"\r\n\r\n") if letter == b"a" else None
        assert await browser.chunk() == letter
        await browser.send_chunk(bytes([letter[0] + 1]))
    await browser.send(b"0\r\n\r\n")
    assert (await call.chunk(), await call.chunk()) == (b"d", b"")
    await call.send(b"0\r\n\r\n")

    assert await browser.chunk() == b""


# Expect: 100-continue


EXPECT = "Expect: 100-continue"
CONTINUE = b"HTTP/1.1 100 "


@pytest.mark.parametrize("how", [of_length(5), of_length(LARGE), CHUNKED])
async def test_a_browser_that_waits_gets_100_continue_once_it_is_admitted(
    how: str, api: StreamingApi, browser: Wire
):
    await browser.send(request("POST", "/api/x", how, EXPECT))

    assert (await browser.head()).status == 100
    await browser.send(b"5\r\nhello\r\n0\r\n\r\n" if how == CHUNKED else b"hello".ljust(int(how.split()[1])))
    call = await api.call()
    head = await call.head()
    assert head.all("Expect") == []
    assert (await call.body_of(head)).startswith(b"hello")
    await call.send(OK)
    assert await browser.answer() == (200, b"ok")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(
            request("POST", "/api/x", of_length(5), EXPECT).replace(b"X-CSRF", b"X-No"), 403, id="CSRF"
        ),
        pytest.param(request("POST", "/api/x", of_length(A_LOT), EXPECT), 413, id="size"),
        pytest.param(request("POST", "/api/../x", of_length(5), EXPECT), 400, id="path"),
        pytest.param(request("BREW", "/api/x", of_length(5), EXPECT), 405, id="method"),
    ],
)
async def test_a_browser_that_waits_is_refused_without_100_continue(
    sent: bytes, status: int, strict: RunningApp
):
    async with wire_of(strict) as browser:
        await browser.send(sent)
        head = await browser.head()

        assert head.status == status
        await browser.body_of(head)
        assert CONTINUE not in await browser.ended()


async def test_a_browser_that_waits_without_a_body_gets_no_100_continue_after_its_answer(
    api: StreamingApi, browser: Wire
):
    await browser.send(request("GET", "/api/x", EXPECT, "Connection: close"))
    await (await api.call()).send(OK)

    assert (await browser.ended()).endswith(b"ok")


async def test_without_a_session_there_is_no_100_continue(
    provider: Provider, api: StreamingApi, clock: Clock
):
    async with an_app(provider, api, clock, token="user") as app, wire_of(app) as browser:
        await browser.send(request("POST", "/api/x", of_length(5), EXPECT))

        assert (await browser.head()).status == 401


# Limits of size


async def test_a_body_at_the_limit_is_fine(strict: RunningApp, api: StreamingApi):
    async with wire_of(strict) as browser:
        await browser.send(request("POST", "/api/x", of_length(MAX_BODY_BYTES), body=bytes(MAX_BODY_BYTES)))
        call = await api.call()
        assert len(await call.body_of(await call.head())) == MAX_BODY_BYTES
        await call.send(OK)

        assert await browser.answer() == (200, b"ok")


async def test_a_body_in_chunks_at_the_limit_is_fine(strict: RunningApp, api: StreamingApi):
    async with wire_of(strict) as browser:
        await browser.send(request("POST", "/api/x", CHUNKED))
        await browser.send_chunk(bytes(MAX_BODY_BYTES))
        await browser.send(b"0\r\n\r\n")
        call = await api.call()
        assert len(await call.body_of(await call.head())) == MAX_BODY_BYTES
        await call.send(OK)

        assert await browser.answer() == (200, b"ok")


async def test_a_body_that_says_it_is_larger_is_refused_at_once(strict: RunningApp, api: StreamingApi):
    async with wire_of(strict) as browser:
        await browser.send(request("POST", "/api/x", of_length(MAX_BODY_BYTES + 1)))
        head = await browser.head()

        assert (head.status, head.all("Content-Type")) == (413, ["application/problem+json"])
        assert b'"too_large"' in await browser.body_of(head)
        assert api.connections == 0


async def test_a_body_in_chunks_that_grows_larger_is_refused_then(strict: RunningApp, api: StreamingApi):
    async with wire_of(strict) as browser:
        await browser.send(request("POST", "/api/x", CHUNKED))
        await browser.send_chunk(bytes(MAX_BODY_BYTES))
        call = await api.call()
        await call.head()
        await call.chunks(MAX_BODY_BYTES)
        await browser.send_chunk(b"x")
        head = await browser.head()

        assert (head.status, head.all("Content-Type")) == (413, ["application/problem+json"])
        assert b'"too_large"' in await browser.body_of(head)
        assert await call.ended() == b""  # the API must not take what it has for the whole
        assert await served(strict, api)


# Limits of time


@pytest.mark.parametrize("sent", [request(), request("POST", "/api/x", of_length(2), body=b"ab")])
async def test_an_api_that_does_not_begin_its_answer_is_504(
    sent: bytes, impatient: RunningApp, api: StreamingApi
):
    async with wire_of(impatient) as browser:
        await browser.send(sent)
        call = await api.call()
        status, document = await browser.answer()

        assert (status, b'"api_timeout"' in document) == (504, True)
        await call.ended()
        assert await served(impatient, api)


async def test_an_api_that_does_not_read_the_upload_is_504(impatient: RunningApp, api: StreamingApi):
    async with wire_of(impatient) as browser:
        await browser.send(request("POST", "/api/x", of_length(A_LOT)))
        pushed = asyncio.create_task(browser.push(A_LOT))
        call = await api.call()
        status, document = await browser.answer()

        assert (status, b'"api_timeout"' in document) == (504, True)
        await pushed
        await call.ended()
        assert await served(impatient, api)


async def test_an_api_that_has_the_upload_and_does_not_begin_its_answer_is_504(
    impatient: RunningApp, api: StreamingApi
):
    async with wire_of(impatient) as browser:
        await browser.send(request("POST", "/api/x", of_length(LARGE), body=bytes(LARGE)))
        call = await api.call()
        await call.body_of(await call.head())

        assert (await browser.answer())[0] == 504


@pytest.mark.parametrize(
    ("how", "sent"),
    [
        pytest.param(of_length(LARGE), b"a" * 70_000, id="a long body"),
        pytest.param(of_length(5), b"a", id="a short body"),
        pytest.param(CHUNKED, b"1\r\na\r\n", id="chunks"),
        pytest.param(CHUNKED, b"1\r\n", id="a chunk"),
        pytest.param(of_length(5), b"", id="nothing of it"),
    ],
)
async def test_a_browser_that_stalls_in_the_middle_of_its_upload_is_408(
    how: str, sent: bytes, impatient: RunningApp, api: StreamingApi
):
    async with wire_of(impatient) as browser:
        await browser.send(request("POST", "/api/x", how, body=sent))
        status, document = await browser.answer()

        assert (status, b'"too_slow"' in document) == (408, True)
        assert await all_calls_end(api)
        assert await served(impatient, api)


async def test_an_upload_that_takes_longer_than_the_api_has_time_is_fine(
    impatient: RunningApp, api: StreamingApi
):
    async with wire_of(impatient) as browser:
        await browser.send(request("POST", "/api/x", CHUNKED, body=b"1\r\na\r\n"))
        call = await api.call()
        await call.head()
        for _ in range(6):
            await call.chunk()
            await asyncio.sleep(TIMEOUT_SECONDS / 3)
            await browser.send_chunk(b"a")
        await browser.send(b"0\r\n\r\n")
        await call.send(OK)

        assert await browser.answer() == (200, b"ok")


async def test_an_upload_that_goes_on_does_not_cut_an_answer_that_has_begun(
    impatient: RunningApp, api: StreamingApi
):
    async with wire_of(impatient) as browser:
        await browser.send(request("POST", "/api/x", CHUNKED, body=b"1\r\na\r\n"))
        call = await api.call()
        await call.head()
        await call.send(answer("200 OK", CHUNKED, body=None))
        assert (await browser.head()).status == 200
        await browser.send(b"1\r\nb\r\n0\r\n\r\n")
        assert await call.chunks(2) + await call.chunk() == b"ab"
        await asyncio.sleep(2 * TIMEOUT_SECONDS)
        await call.send(b"4\r\nlate\r\n0\r\n\r\n")

        assert await browser.chunk() == b"late"


async def test_an_answer_that_takes_longer_than_the_api_has_to_begin_it_is_not_cut(
    impatient: RunningApp, api: StreamingApi
):
    async with wire_of(impatient) as browser:
        await browser.send(request())
        call = await api.call()
        await call.head()
        await call.send(answer("200 OK", CHUNKED, body=None))
        for wait in (0, TIMEOUT_SECONDS / 2, 2 * TIMEOUT_SECONDS):
            await asyncio.sleep(wait)
            await call.send_chunk(b"event")
        await call.send(b"0\r\n\r\n")

        assert await browser.answer() == (200, b"event" * 3)


# One connection after another


async def test_a_connection_serves_the_next_request_after_an_answer(api: StreamingApi, browser: Wire):
    await browser.send(request("POST", "/api/x", of_length(LARGE), body=bytes(LARGE)))
    call = await api.call()
    await call.body_of(await call.head())
    await call.send(OK)
    await browser.answer()

    await still_in_step(api, browser, call)
    assert api.connections == 1


async def test_a_connection_serves_the_next_request_after_a_refused_one(api: StreamingApi, browser: Wire):
    await browser.send(request().replace(b"X-CSRF", b"X-No"))
    assert (await browser.answer())[0] == 403
    await browser.send(request())
    call = await api.call()
    await call.head()
    await call.send(OK)

    assert await browser.answer() == (200, b"ok")


async def test_a_refused_body_is_not_taken_for_the_next_request(
    app: RunningApp, api: StreamingApi, browser: Wire
):
    smuggled = request("GET", "/api/smuggled")
    refused = request("POST", "/api/x", of_length(len(smuggled)), body=smuggled)
    await browser.send(refused.replace(b"X-CSRF: 1", b"X-No: 1", 1))

    assert (await browser.answer())[0] == 403
    await browser.send(request("GET", "/api/next"))
    await browser.close()
    assert api.connections <= 1
    if api.connections:
        assert (await (await api.call()).head()).line == "GET /next HTTP/1.1"


async def test_requests_that_are_sent_at_once_are_answered_in_order(api: StreamingApi, browser: Wire):
    with_body = request("POST", "/api/2", of_length(3), body=b"abc")
    await browser.send(request("GET", "/api/1") + with_body + request("GET", "/api/3"))
    call = await api.call()
    lines = []
    for number in (b"1", b"2", b"3"):
        head = await call.head()
        lines.append(head.line)
        if head.all("Content-Length"):
            await call.body_of(head)
        await call.send(answer(body=number))

    assert lines == ["GET /1 HTTP/1.1", "POST /2 HTTP/1.1", "GET /3 HTTP/1.1"]
    assert [await browser.answer() for _ in lines] == [(200, b"1"), (200, b"2"), (200, b"3")]


async def test_a_browser_that_wants_the_connection_closed_has_it_closed(api: StreamingApi, browser: Wire):
    await browser.send(request("GET", "/api/x", "Connection: close"))
    call = await api.call()
    assert (await call.head()).all("Connection") == []
    await call.send(OK)

    assert (await browser.ended()).endswith(b"ok")


async def test_a_stop_says_that_the_connection_closes_and_cuts_nothing(
    app: RunningApp, api: StreamingApi, browser: Wire
):
    await browser.send(request())
    call = await api.call()
    await call.head()
    app.services.stopping.set()
    await call.send(answer("200 OK", CHUNKED, body=None) + b"1\r\na\r\n")
    head = await browser.head()
    assert await browser.chunk() == b"a"

    assert head.all("Connection") == ["close"]
    assert len(app.services.in_flight_requests) == 1  # a stop waits for it
    await call.send(b"0\r\n\r\n")
    assert await browser.chunk() == b""
    await wait_until(lambda: not app.services.in_flight_requests)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("wish", ["close", "keep-alive"])
async def test_an_answer_says_once_what_becomes_of_the_connection(
    wish: str, version: str, app: RunningApp, api: StreamingApi, browser: Wire
):
    message = request("GET", "/api/x", f"Connection: {wish}").replace(b"HTTP/1.1", f"HTTP/{version}".encode())
    app.services.stopping.set()
    await browser.send(message)
    await (await api.call()).send(OK)

    assert len((await browser.head()).all("Connection")) == 1


async def test_the_id_of_a_request_stands_in_its_answer_once(api: StreamingApi, browser: Wire):
    await browser.send(request())
    await (await api.call()).send(answer("200 OK", "X-Request-Id: of the API"))

    assert len((await browser.head()).all("X-Request-Id")) == 1


# A token that the API refuses


@pytest.fixture
async def signed_in(provider: Provider, api: StreamingApi, clock: Clock) -> AsyncIterator[Browser]:
    async with an_app(provider, api, clock, token="user") as app, new_browser(app) as browser:
        await browser.login("alice")
        yield browser


async def test_a_small_body_is_sent_again_with_another_token(signed_in: Browser, api: StreamingApi):
    body = bytes(65_536)
    async with wire_of(signed_in.app) as browser:
        cookie = f"Cookie: bff={signed_in.cookie('bff')}"
        await browser.send(request("POST", "/api/x", cookie, of_length(len(body)), body=body))
        call = await api.call()
        first = await call.head()
        assert await call.body_of(first) == body
        await call.send(answer("401 Unauthorized"))
        second = await call.head()
        assert await call.body_of(second) == body
        await call.send(OK)

        assert await browser.answer() == (200, b"ok")
        assert first.all("Authorization") != second.all("Authorization")


@pytest.mark.parametrize("how", [of_length(65_537), CHUNKED])
async def test_a_streamed_body_is_not_sent_again(how: str, signed_in: Browser, api: StreamingApi):
    sent = b"1\r\nx\r\n0\r\n\r\n" if how == CHUNKED else bytes(65_537)
    async with wire_of(signed_in.app) as browser:
        await browser.send(
            request("POST", "/api/x", f"Cookie: bff={signed_in.cookie('bff')}", how, body=sent)
        )
        call = await api.call()
        await call.body_of(await call.head())
        await call.send(answer("401 Unauthorized", body=b"no"))

        assert await browser.answer() == (401, b"no")
        assert api.connections == 1
