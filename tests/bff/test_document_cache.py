"""CachedDocument: single-flight fetch, a TTL of an hour, and stale documents while the provider is down."""

from __future__ import annotations

import asyncio
import logging

import pytest

from app.bff.backoff import DOCUMENT_RETRY_SECONDS
from app.bff.budget import Budget
from app.bff.errors import ProviderUnavailable
from app.bff.oidc.cache import TTL_SECONDS, CachedDocument
from tests.bff.harness import Clock


class Source:
    """What is fetched: a number that counts how often, or an error."""

    def __init__(self) -> None:
        self.fetches = 0
        self.fails_with: Exception | None = None

    async def fetch(self) -> int:
        self.fetches += 1
        await asyncio.sleep(0)
        if self.fails_with:
            raise self.fails_with
        return self.fetches


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def cached(source: Source, clock: Clock) -> CachedDocument[int]:
    return CachedDocument(source.fetch, clock=clock)


def test_nothing_is_fetched_before_the_first_get(cached: CachedDocument[int], source: Source):
    assert source.fetches == 0


async def test_ten_concurrent_gets_cause_one_fetch(cached: CachedDocument[int], source: Source):
    assert await asyncio.gather(*(cached.get() for _ in range(10))) == [1] * 10
    assert source.fetches == 1


async def test_a_document_is_served_for_an_hour(cached: CachedDocument[int], clock: Clock):
    await cached.get()
    clock.advance(TTL_SECONDS - 1)

    assert await cached.get() == 1


async def test_after_an_hour_it_is_fetched_again(cached: CachedDocument[int], clock: Clock):
    await cached.get()
    clock.advance(TTL_SECONDS)

    assert await cached.get() == 2


async def test_refetch_fetches_whatever_the_age_of_the_document(cached: CachedDocument[int]):
    await cached.get()

    assert await cached.refetch() == 2
    assert await cached.get() == 2


async def test_a_refetch_beyond_the_budget_is_left_out(cached: CachedDocument[int], clock: Clock):
    budget = Budget(1, seconds=10, clock=clock)
    await cached.get()

    assert [await cached.refetch(budget) for _ in range(3)] == [2, 2, 2]
    clock.advance(10)
    assert await cached.refetch(budget) == 3


async def test_refetches_at_once_take_one_from_the_budget_and_wait_for_the_same_fetch(
    cached: CachedDocument[int], clock: Clock
):
    budget = Budget(1, seconds=10, clock=clock)
    await cached.get()

    assert await asyncio.gather(*(cached.refetch(budget) for _ in range(10))) == [2] * 10


async def test_the_problem_is_that_of_the_last_seconds(
    cached: CachedDocument[int], source: Source, clock: Clock
):
    budget = Budget(10, seconds=1, clock=clock)
    fine = await cached.problem(budget, seconds=5)
    source.fails_with = ProviderUnavailable("down")
    clock.advance(4.9)
    still_fine = await cached.problem(budget, seconds=5)
    clock.advance(0.1)
    down = await cached.problem(budget, seconds=5)
    source.fails_with = None

    assert [fine, still_fine, down, await cached.problem(budget, seconds=5)] == ["", "", "down", ""]


async def test_a_problem_that_lasts_is_looked_at_within_the_budget(
    cached: CachedDocument[int], source: Source, clock: Clock
):
    budget = Budget(2, seconds=1, clock=clock)
    source.fails_with = ProviderUnavailable("down")

    assert {await cached.problem(budget, seconds=5) for _ in range(10)} == {"down"}
    assert source.fetches == 2


async def test_without_a_document_a_failed_fetch_raises(cached: CachedDocument[int], source: Source):
    source.fails_with = ProviderUnavailable("down")

    with pytest.raises(ProviderUnavailable, match="down"):
        await cached.get()


async def test_after_a_failed_first_fetch_the_next_get_retries_at_once(
    cached: CachedDocument[int], source: Source
):
    source.fails_with = ProviderUnavailable("down")
    with pytest.raises(ProviderUnavailable):
        await cached.get()
    source.fails_with = None

    assert await cached.get() == 2


async def test_a_stale_document_is_served_while_the_provider_is_down(
    cached: CachedDocument[int], source: Source, clock: Clock, caplog: pytest.LogCaptureFixture
):
    await cached.get()
    clock.advance(10 * TTL_SECONDS)
    source.fails_with = ProviderUnavailable("down")

    with caplog.at_level(logging.WARNING):
        assert await cached.get() == 1
    assert "provider document served stale" in caplog.text


async def test_while_the_provider_is_down_it_is_fetched_twice_a_minute_and_not_at_every_get(
    cached: CachedDocument[int], source: Source, clock: Clock
):
    await cached.get()
    clock.advance(TTL_SECONDS)
    source.fails_with = ProviderUnavailable("down")
    for _ in range(100):
        await cached.get()
    fetches_meanwhile = source.fetches - 1
    clock.advance(DOCUMENT_RETRY_SECONDS)
    await cached.get()

    assert (fetches_meanwhile, source.fetches - 1) == (1, 2)


async def test_after_recovery_a_document_is_served_for_an_hour_again(
    cached: CachedDocument[int], source: Source, clock: Clock
):
    await cached.get()
    clock.advance(TTL_SECONDS)
    source.fails_with = ProviderUnavailable("down")
    await cached.get()
    source.fails_with = None
    clock.advance(DOCUMENT_RETRY_SECONDS)
    fresh = await cached.get()
    clock.advance(TTL_SECONDS - 1)

    assert await cached.get() == fresh == 3


async def test_a_programming_error_is_raised_and_not_served_stale(
    cached: CachedDocument[int], source: Source
):
    await cached.get()
    source.fails_with = KeyError("a bug")

    with pytest.raises(KeyError):
        await cached.refetch()
