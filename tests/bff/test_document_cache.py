"""CachedDocument: fetched once for all, for an hour, and still served while the provider is away."""

from __future__ import annotations

import asyncio
import logging

import pytest

from app.bff.backoff import DOCUMENT_RETRY_SECONDS
from app.bff.errors import ProviderUnavailable
from app.bff.oidc.cache import TTL_SECONDS, CachedDocument
from tests.bff.harness import Clock


class Source:
    """What is fetched: a number that counts how often, or an error."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails_with: Exception | None = None

    async def fetch(self) -> int:
        self.asked += 1
        await asyncio.sleep(0)
        if self.fails_with:
            raise self.fails_with
        return self.asked


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def cached(source: Source, clock: Clock) -> CachedDocument[int]:
    return CachedDocument(source.fetch, clock=clock)


def test_nothing_is_fetched_before_somebody_asks(cached: CachedDocument[int], source: Source):
    assert source.asked == 0
    assert cached.age() == float("inf")


async def test_ten_who_ask_at_once_cause_one_fetch(cached: CachedDocument[int], source: Source):
    assert await asyncio.gather(*(cached.get() for _ in range(10))) == [1] * 10
    assert source.asked == 1


async def test_a_copy_serves_for_an_hour(cached: CachedDocument[int], clock: Clock):
    await cached.get()
    clock.advance(TTL_SECONDS - 1)

    assert await cached.get() == 1


async def test_after_that_it_is_fetched_again(cached: CachedDocument[int], clock: Clock):
    await cached.get()
    clock.advance(TTL_SECONDS)

    assert await cached.get() == 2


async def test_renewing_fetches_whatever_the_age_of_the_copy(cached: CachedDocument[int]):
    await cached.get()

    assert await cached.refetch() == 2
    assert await cached.get() == 2


async def test_it_tells_how_long_ago_it_asked(cached: CachedDocument[int], clock: Clock):
    await cached.get()
    clock.advance(7)

    assert cached.age() == 7


async def test_without_a_copy_a_failure_reaches_whoever_asks(cached: CachedDocument[int], source: Source):
    source.fails_with = ProviderUnavailable("down")

    with pytest.raises(ProviderUnavailable, match="down"):
        await cached.get()


async def test_and_the_next_one_who_asks_tries_again_at_once(cached: CachedDocument[int], source: Source):
    source.fails_with = ProviderUnavailable("down")
    with pytest.raises(ProviderUnavailable):
        await cached.get()
    source.fails_with = None

    assert await cached.get() == 2


async def test_an_old_copy_serves_while_the_provider_is_away(
    cached: CachedDocument[int], source: Source, clock: Clock, caplog: pytest.LogCaptureFixture
):
    await cached.get()
    clock.advance(10 * TTL_SECONDS)
    source.fails_with = ProviderUnavailable("down")

    with caplog.at_level(logging.WARNING):
        assert await cached.get() == 1
    assert "provider document served stale" in caplog.text


async def test_while_it_is_away_it_is_asked_twice_a_minute_and_not_at_every_request(
    cached: CachedDocument[int], source: Source, clock: Clock
):
    await cached.get()
    clock.advance(TTL_SECONDS)
    source.fails_with = ProviderUnavailable("down")
    for _ in range(100):
        await cached.get()
    asked_meanwhile = source.asked - 1
    clock.advance(DOCUMENT_RETRY_SECONDS)
    await cached.get()

    assert (asked_meanwhile, source.asked - 1) == (1, 2)


async def test_once_it_is_back_so_is_the_hour(cached: CachedDocument[int], source: Source, clock: Clock):
    await cached.get()
    clock.advance(TTL_SECONDS)
    source.fails_with = ProviderUnavailable("down")
    await cached.get()
    source.fails_with = None
    clock.advance(DOCUMENT_RETRY_SECONDS)
    fresh = await cached.get()
    clock.advance(TTL_SECONDS - 1)

    assert await cached.get() == fresh == 3


async def test_a_mistake_of_our_own_is_not_taken_for_a_provider_that_is_away(
    cached: CachedDocument[int], source: Source
):
    await cached.get()
    source.fails_with = KeyError("a bug")

    with pytest.raises(KeyError):
        await cached.refetch()
