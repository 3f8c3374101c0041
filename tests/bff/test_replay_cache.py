"""What every ReplayCache promises: a key added by one process is present for all."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator

import pytest

from app.bff.dev.mongod import Mongod
from app.bff.errors import StoreUnavailable
from app.bff.sessions.interfaces import ReplayCache
from app.bff.sessions.memory import MemoryReplayCache
from app.bff.sessions.mongo.connection import connect, disconnect
from app.bff.sessions.mongo.replay import MongoReplayCache
from tests.bff.harness import Clock

DATABASE = "test-replay-cache"  # one for all tests: each key is another
DRIVERS = ["motor", "pymongo"]


@pytest.fixture
def clock() -> Clock:
    return Clock(now=float(int(time.time())))  # MongoDB keeps milliseconds, and no less


@pytest.fixture
def key() -> str:
    return secrets.token_hex(32)


@pytest.fixture(params=["memory", *DRIVERS])
async def cache(request: pytest.FixtureRequest, mongod: Mongod, clock: Clock) -> AsyncIterator[ReplayCache]:
    if request.param == "memory":
        yield MemoryReplayCache(clock=clock)
        return
    client = connect(f"{mongod.uri}/{DATABASE}", driver=request.param)
    cache = MongoReplayCache(client, clock=clock)
    await cache.open()
    yield cache
    await disconnect(client)


async def test_an_unknown_key_is_absent(cache: ReplayCache, key: str):
    assert not await cache.has(key)


async def test_a_key_is_present_until_it_expires(cache: ReplayCache, key: str, clock: Clock):
    await cache.add(key, until=clock() + 60)

    clock.advance(59)
    assert await cache.has(key)
    clock.advance(1)
    assert not await cache.has(key)


async def test_keys_are_independent(cache: ReplayCache, key: str, clock: Clock):
    await cache.add("another", until=clock() + 60)

    assert not await cache.has(key)


async def test_adding_twice_and_opening_twice_are_harmless(cache: ReplayCache, key: str, clock: Clock):
    await cache.add(key, until=clock() + 60)
    await cache.open()
    await cache.add(key, until=clock() + 60)

    assert await cache.has(key)


async def test_of_all_that_add_a_key_at_once_one_is_the_first(cache: ReplayCache, key: str, clock: Clock):
    added = await asyncio.gather(*(cache.add(key, until=clock() + 60) for _ in range(10)))
    clock.advance(60)  # not purged yet, perhaps

    assert sorted(added) == [False] * 9 + [True]
    assert await cache.add(key, until=clock() + 60)


async def test_memory_purges_expired_entries_at_each_use(clock: Clock):
    cache = MemoryReplayCache(clock=clock)
    for number in range(5):
        await cache.add(str(number), until=clock() + 60)
        clock.advance(60)

    assert len(vars(cache)["_used"]) == 1


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_key_is_shared_by_processes_and_purged_by_mongodb(
    mongod: Mongod, clock: Clock, key: str, driver: str
):
    clients = [connect(f"{mongod.uri}/{DATABASE}", driver=driver) for _ in range(2)]
    one, another = (MongoReplayCache(client, clock=clock) for client in clients)
    await one.open()
    await one.add(key, until=clock() + 60)

    assert await another.has(key)
    indexes = await clients[0].get_default_database().get_collection("logout_tokens").index_information()
    assert indexes["expires_at_1"]["expireAfterSeconds"] == 0
    for client in clients:
        await disconnect(client)


async def test_a_database_that_is_down_raises_store_unavailable(clock: Clock, key: str):
    client = connect("mongodb://127.0.0.1:1/x", driver="motor")
    with pytest.raises(StoreUnavailable):
        await MongoReplayCache(client, clock=clock).has(key)
    await disconnect(client)
