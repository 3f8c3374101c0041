"""SingleFlight: concurrent callers share one task, and no cancelled caller stops it."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from app.bff.singleflight import SingleFlight


class Work:
    """Something slow, that counts how often it was begun and ends when the test says so."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.fails_with: Exception | None = None
        self.may_end = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        await self.may_end.wait()
        if self.fails_with:
            raise self.fails_with
        self.ended += 1
        return self.begun


@pytest.fixture
async def work() -> Work:
    return Work()


async def started(
    count: int, flights: SingleFlight[int], work: Work, key: str = "key"
) -> list[asyncio.Task[int]]:
    callers = [asyncio.create_task(flights.do(key, work)) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return callers


async def test_ten_concurrent_callers_share_one_task(work: Work):
    callers = await started(10, SingleFlight(), work)
    work.may_end.set()

    assert await asyncio.gather(*callers) == [1] * 10


async def test_another_key_is_another_flight(work: Work):
    flights = SingleFlight[int]()
    callers = [*await started(2, flights, work, "alice"), *await started(2, flights, work, "bob")]
    work.may_end.set()
    await asyncio.gather(*callers)

    assert work.begun == 2


async def test_a_call_after_its_end_starts_a_new_task(work: Work):
    flights = SingleFlight[int]()
    work.may_end.set()

    assert await flights.do("key", work) == 1
    assert await flights.do("key", work) == 2


async def test_a_cancelled_caller_stops_neither_the_task_nor_the_others(work: Work):
    leaves, stays = await started(2, SingleFlight(), work)
    leaves.cancel()
    await asyncio.sleep(0)
    work.may_end.set()

    assert await stays == 1
    assert leaves.cancelled()


async def test_the_task_goes_on_when_every_caller_is_cancelled(work: Work):
    flights = SingleFlight[int]()
    for caller in await started(3, flights, work):
        caller.cancel()
    work.may_end.set()
    await flights.drain()

    assert work.ended == 1


async def test_every_caller_gets_the_error(work: Work):
    work.fails_with = LookupError("gone")
    callers = await started(3, SingleFlight(), work)
    work.may_end.set()

    results = await asyncio.gather(*callers, return_exceptions=True)

    assert results == [work.fails_with] * 3


async def test_after_an_error_the_next_caller_tries_again(work: Work):
    flights = SingleFlight[int]()
    work.may_end.set()
    work.fails_with = LookupError("gone")
    with pytest.raises(LookupError):
        await flights.do("key", work)
    work.fails_with = None

    assert await flights.do("key", work) == 2


async def test_an_error_without_a_waiting_caller_is_not_reported(
    work: Work, caplog: pytest.LogCaptureFixture
):
    flights = SingleFlight[int]()
    work.fails_with = LookupError("gone")
    [caller] = await started(1, flights, work)
    caller.cancel()
    work.may_end.set()
    with caplog.at_level(logging.DEBUG):
        await flights.drain()
        del caller
        gc.collect()

    assert "never retrieved" not in caplog.text


async def test_draining_waits_for_all_tasks(work: Work):
    flights = SingleFlight[int]()
    await started(1, flights, work, "alice")
    await started(1, flights, work, "bob")
    asyncio.get_running_loop().call_soon(work.may_end.set)

    await flights.drain()

    assert work.ended == 2


async def test_draining_without_tasks_returns_at_once():
    async with asyncio.timeout(1):
        assert await SingleFlight[int]().drain() is None
