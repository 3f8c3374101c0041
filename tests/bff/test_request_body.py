"""RequestBody: what the browser sends, never read faster than it is consumed."""

from __future__ import annotations

import asyncio

import pytest

from app.bff.errors import BadRequest, TooLarge, TooSlow
from app.bff.proxy.patience import Patience
from app.bff.proxy.request_body import RequestBody, declared_length
from app.bff.proxy.streaming import has_body
from tests.bff.harness import wait_until


def a_body(*, max_bytes: int = 100, stall_seconds: float = 10) -> RequestBody:
    return RequestBody(max_bytes, Patience(stall_seconds, min_bytes_per_second=0))


async def sent(body: RequestBody, *chunks: bytes) -> None:
    """What Tornado does with it."""
    await body.requested()
    for chunk in chunks:
        await body.put(chunk)
    body.end()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"Content-Length": "0"}, False),
        ({"Content-Length": "1"}, True),
        ({"Transfer-Encoding": "chunked"}, True),
    ],
)
def test_a_request_has_a_body_if_its_headers_say_so(headers: dict[str, str], expected: bool):
    assert has_body(headers) is expected


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ({}, 0),
        ({"Content-Length": "0"}, 0),
        ({"Content-Length": "007"}, 7),
        ({"Transfer-Encoding": "chunked"}, None),
        ({"Transfer-Encoding": "Chunked"}, None),
    ],
)
def test_the_length_of_a_body_is_what_the_headers_say(headers: dict[str, str], length: int | None):
    assert declared_length(headers) == length


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "5", "Transfer-Encoding": "chunked"},
        {"Content-Length": "5,5"},
        {"Content-Length": ""},
        {"Content-Length": "-1"},
        {"Content-Length": "9" * 5000},
        {"Transfer-Encoding": "gzip, chunked"},
        {"Transfer-Encoding": ""},
    ],
)
def test_a_body_whose_end_is_in_doubt_has_no_length(headers: dict[str, str]):
    with pytest.raises(BadRequest):
        declared_length(headers)


async def test_nothing_is_read_before_iteration_begins():
    body = a_body()
    requested = asyncio.create_task(body.requested())
    await asyncio.sleep(0)
    before = requested.done()
    taker = asyncio.create_task(body.read())
    await requested

    assert not before
    taker.cancel()


async def test_all_chunks_arrive_in_order():
    body = a_body()
    sender = asyncio.create_task(sent(body, b"a", b"b", b"c"))

    assert [chunk async for chunk in body] == [b"a", b"b", b"c"]
    await sender


async def test_a_chunk_is_read_when_the_last_one_is_done_with():
    body = a_body()
    chunks = aiter(body)
    putting = asyncio.create_task(body.put(b"a"))
    assert await anext(chunks) == b"a"
    before = putting.done()
    next_one = asyncio.create_task(anext(chunks))
    await putting

    assert not before
    next_one.cancel()


async def test_the_whole_of_it_can_be_read():
    body = a_body()
    sender = asyncio.create_task(sent(body, b"a", b"b"))

    assert await body.read() == b"ab"
    await sender


async def test_as_much_as_is_allowed_is_fine():
    body = a_body(max_bytes=4)
    sender = asyncio.create_task(sent(body, b"ab", b"cd"))

    assert await body.read() == b"abcd"
    await sender


async def test_one_byte_more_is_too_large_and_is_not_handed_on():
    body = a_body(max_bytes=4)
    sender = asyncio.create_task(sent(body, b"abcd", b"e"))
    chunks = aiter(body)
    assert await anext(chunks) == b"abcd"
    with pytest.raises(TooLarge):
        await anext(chunks)

    assert isinstance(body.error, TooLarge)
    sender.cancel()


async def test_a_sender_that_stalls_is_too_slow():
    body = a_body(stall_seconds=0.01)
    sender = asyncio.create_task(body.put(b"a"))
    with pytest.raises(TooSlow):
        await asyncio.wait_for(body.read(), 1)

    assert isinstance(body.error, TooSlow)
    await sender


async def test_a_released_body_blocks_no_reader():
    body = a_body()
    putting = asyncio.create_task(body.put(b"a"))
    await asyncio.sleep(0)
    body.release()

    await putting
    await body.requested()


async def test_chunks_after_the_release_do_not_block_either():
    body = a_body()
    body.release()

    async with asyncio.timeout(1):
        await sent(body, b"a", b"b")


async def test_the_rest_can_be_thrown_away():
    body = a_body(max_bytes=1)
    sender = asyncio.create_task(sent(body, b"a", b"b", b"c"))
    await anext(aiter(body))
    await asyncio.wait_for(body.discard(), 1)

    await sender
    assert body.ended


async def test_nothing_is_thrown_away_of_a_body_that_has_ended():
    body = a_body()
    sender = asyncio.create_task(sent(body, b"a"))
    await body.read()
    await sender

    async with asyncio.timeout(1):
        await body.discard()


async def test_a_taker_may_be_late():
    body = a_body()
    putting = asyncio.create_task(body.put(b"a"))
    await asyncio.sleep(0)
    taking = asyncio.create_task(body.read())
    await wait_until(putting.done)
    body.end()

    assert await taking == b"a"
