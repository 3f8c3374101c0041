"""CachedDocument: fetched once for all, for an hour, and still served while the provider is away."""

from __future__ import annotations

import asyncio
import logging

import pytest

from app.bff.errors import ProviderUnavailable
from app.bff.oidc.cache import KEPT_SECONDS, RETRY_SECONDS, CachedDocument
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
def kept(source: Source, clock: Clock) -> CachedDocument[int]:
    return CachedDocument(source.fetch, clock=clock)


def test_nothing_is_fetched_before_somebody_asks(kept: CachedDocument[int], source: Source):
    assert source.asked == 0
    assert kept.age() == float("inf")


async def test_ten_who_ask_at_once_cause_one_fetch(kept: CachedDocument[int], source: Source):
    assert await asyncio.gather(*(kept.get() for _ in range(10))) == [1] * 10
    assert source.asked == 1


async def test_a_copy_serves_for_an_hour(kept: CachedDocument[int], clock: Clock):
    await kept.get()
    clock.advance(KEPT_SECONDS - 1)

    assert await kept.get() == 1


async def test_after_that_it_is_fetched_again(kept: CachedDocument[int], clock: Clock):
    await kept.get()
    clock.advance(KEPT_SECONDS)

    assert await kept.get() == 2


async def test_renewing_fetches_whatever_the_age_of_the_copy(kept: CachedDocument[int]):
    await kept.get()

    assert await kept.renew() == 2
    assert await kept.get() == 2


async def test_it_tells_how_long_ago_it_asked(kept: CachedDocument[int], clock: Clock):
    await kept.get()
    clock.advance(7)

    assert kept.age() == 7


async def test_without_a_copy_a_failure_reaches_whoever_asks(kept: CachedDocument[int], source: Source):
    source.fails_with = ProviderUnavailable("down")

    with pytest.raises(ProviderUnavailable, match="down"):
        await kept.get()


async def test_and_the_next_one_who_asks_tries_again_at_once(kept: CachedDocument[int], source: Source):
    source.fails_with = ProviderUnavailable("down")
    with pytest.raises(ProviderUnavailable):
        await kept.get()
    source.fails_with = None

    assert await kept.get() == 2


async def test_an_old_copy_serves_while_the_provider_is_away(
    kept: CachedDocument[int], source: Source, clock: Clock, caplog: pytest.LogCaptureFixture
):
    await kept.get()
    clock.advance(10 * KEPT_SECONDS)
    source.fails_with = ProviderUnavailable("down")

    with caplog.at_level(logging.WARNING):
        assert await kept.get() == 1
    assert "the last good copy serves" in caplog.text


async def test_while_it_is_away_it_is_asked_twice_a_minute_and_not_at_every_request(
    kept: CachedDocument[int], source: Source, clock: Clock
):
    await kept.get()
    clock.advance(KEPT_SECONDS)
    source.fails_with = ProviderUnavailable("down")
    for _ in range(100):
        await kept.get()
    asked_meanwhile = source.asked - 1
    clock.advance(RETRY_SECONDS)
    await kept.get()

    assert (asked_meanwhile, source.asked - 1) == (1, 2)


async def test_once_it_is_back_so_is_the_hour(kept: CachedDocument[int], source: Source, clock: Clock):
    await kept.get()
    clock.advance(KEPT_SECONDS)
    source.fails_with = ProviderUnavailable("down")
    await kept.get()
    source.fails_with = None
    clock.advance(RETRY_SECONDS)
    fresh = await kept.get()
    clock.advance(KEPT_SECONDS - 1)

    assert await kept.get() == fresh == 3


async def test_a_mistake_of_our_own_is_not_taken_for_a_provider_that_is_away(
    kept: CachedDocument[int], source: Source
):
    await kept.get()
    source.fails_with = KeyError("a bug")

    with pytest.raises(KeyError):
        await kept.renew()
