"""A return path that is too long for a cookie: the login, or the logout, comes back to all of it."""

from __future__ import annotations

import functools
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from html import unescape
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from pymongo import MongoClient

from app.bff.crypto import Vault
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Provider
from app.bff.errors import StoreUnavailable
from app.bff.sessions.interfaces import ReturnPaths
from app.bff.sessions.memory import MemoryReturnPaths
from app.bff.sessions.mongo.connection import connect, disconnect
from app.bff.sessions.mongo.return_paths import MongoReturnPaths
from tests.bff.harness import (
    KEY,
    Browser,
    Clock,
    RunningApp,
    refresh_target,
)

LONG = {
    "a query": "/orders?" + "&".join(f"item={number}" for number in range(120)),
    "a fragment": "/#/orders/7?" + 1100 * "x",
    "a path": "/" + 200 * "é/%2F",
    "just too long for a cookie": "/" + 128 * "x",
    "as long as it may be": "/orders?" + 8184 * "y",
}
each_kind = pytest.mark.parametrize("path", LONG.values(), ids=LONG)


@each_kind
async def test_a_login_ends_there(path: str, browser: Browser):
    answer = await browser.login(return_url=path)

    assert unescape(refresh_target(answer.text)) == path


@pytest.mark.parametrize("length", [100, 1025, 8192])
async def test_a_page_that_needs_a_login_is_come_back_to(length: int, browser: Browser):
    page = ("/account?x=" + 2000 * "%C3%A9,")[:length]
    to_login = await browser.get(page)
    away = await browser.get(to_login.headers["Location"])
    answer = await browser.get(await browser.choose(away.headers["Location"]))

    assert unescape(refresh_target(answer.text)) == page


async def test_a_failed_login_offers_another_one_that_comes_back_there(provider: Provider, browser: Browser):
    provider.overrides["callback"] = {"error": "access_denied", "code": None}
    page = await browser.get(await browser.choose(await browser.start_login(LONG["a query"])))

    assert f"/bff/login?returnUrl={quote(LONG['a query'], safe='')}" in unescape(page.text)


async def by_link(browser: Browser) -> httpx2.Response:
    return await browser.get(f"{await browser.logout_url()}&returnUrl={quote(LONG['a query'])}")


async def by_script(browser: Browser) -> httpx2.Response:
    response = await browser.fetch(f"/bff/logout?returnUrl={quote(LONG['a query'])}", "POST")
    return await browser.get(response.json()["url"])


@pytest.mark.parametrize("leaves", [by_link, by_script])
async def test_a_logout_ends_there(leaves: Any, browser: Browser):
    await browser.login()
    out = await leaves(browser)
    back = await browser.http.get(out.headers["Location"])
    response = await browser.navigate_from_other_site(back.headers["Location"])

    assert response.headers["Location"] == LONG["a query"]


async def test_five_tabs_with_long_urls_all_come_back(browser: Browser):
    paths = [f"/orders/{number}?" + 1000 * "x" for number in range(5)]
    tabs = {path: await browser.start_login(path) for path in paths}

    for path, away in tabs.items():
        assert refresh_target((await browser.get(await browser.choose(away))).text) == path


# What no login returns to


async def test_a_page_whose_url_is_longer_than_a_return_path_leads_home_with_a_log_line(
    browser: Browser, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    answer = await browser.get("/account?" + 8192 * "x")

    assert answer.headers["Location"] == "/bff/login?returnUrl=%2F"
    assert caplog.text.count("return path refused") == 1


class NoPaths(MemoryReturnPaths):
    async def put(self, key: str, path: str, *, until: float) -> bool:
        raise StoreUnavailable


class LosesPaths(MemoryReturnPaths):
    async def get(self, key: str) -> str | None:
        raise StoreUnavailable


class Full(MemoryReturnPaths):
    async def put(self, key: str, path: str, *, until: float) -> bool:
        return False


@pytest.mark.parametrize("store", [NoPaths, LosesPaths, Full])
@pytest.mark.parametrize(("kind", "part"), [("a query", "/orders"), ("a fragment", "/"), ("a path", "/")])
async def test_without_the_store_a_login_ends_at_the_page_without_its_query(
    kind: str, part: str, store: type[MemoryReturnPaths], app: RunningApp, browser: Browser
):
    app.tornado.settings["services"] = replace(app.services, return_paths=store())
    answer = await browser.login(return_url=LONG[kind])

    assert refresh_target(answer.text) == part


async def test_the_log_says_that_a_path_was_shortened(
    app: RunningApp, browser: Browser, caplog: pytest.LogCaptureFixture
):
    app.tornado.settings["services"] = replace(app.services, return_paths=Full())
    await browser.start_login(LONG["a query"])

    [shortened] = [record for record in caplog.records if record.message == "return path shortened"]
    assert vars(shortened)["bytes"] == len(LONG["a query"])
    assert "item=" not in str(vars(shortened))


async def test_a_short_path_needs_no_store(app: RunningApp, browser: Browser):
    app.tornado.settings["services"] = replace(app.services, return_paths=NoPaths())

    assert refresh_target((await browser.login(return_url="/account")).text) == "/account"


# What every ReturnPaths promises

DATABASE = "test-return-paths"


Build = Callable[..., ReturnPaths]


@pytest.fixture
async def in_mongodb(mongod: Mongod, clock: Clock) -> AsyncIterator[Build]:
    """Builds stores; `database` and `limit` may be chosen."""
    clients = []

    def build(
        driver: str = "motor", database: str = DATABASE, key: bytes = KEY, limit: int = 1000
    ) -> ReturnPaths:
        clients.append(connect(f"{mongod.uri}/{database}", driver=driver))
        return MongoReturnPaths(clients[-1], Vault([key]), clock=clock, limit=limit)

    yield build
    for client in clients:
        await disconnect(client)


@pytest.fixture(params=["memory", "motor", "pymongo"])
def build(request: pytest.FixtureRequest, in_mongodb: Build, clock: Clock) -> Build:
    if request.param == "memory":
        return lambda database="", limit=1000: MemoryReturnPaths(clock=clock, limit=limit)
    return functools.partial(in_mongodb, request.param)


@pytest.fixture
async def store(build: Build) -> ReturnPaths:
    store = build()
    await store.open()
    return store


@pytest.fixture
def clock() -> Clock:
    return Clock(now=float(int(time.time())))  # MongoDB keeps milliseconds, and no less


@pytest.fixture
def key() -> str:
    return secrets.token_urlsafe(32)


@each_kind
async def test_a_path_is_there_until_it_expires(path: str, store: ReturnPaths, key: str, clock: Clock):
    assert await store.put(key, path, until=clock() + 600)
    assert await store.get(key) == path

    clock.advance(600)
    assert await store.get(key) is None


async def test_an_unknown_key_has_none(store: ReturnPaths, key: str):
    assert await store.get(key) is None


async def test_there_is_room_for_so_many_until_they_expire(build: Build, clock: Clock):
    store = build(database=f"{DATABASE}-{secrets.token_hex(4)}", limit=3)
    stored = [await store.put(f"key-{number}", "/x", until=clock() + 60) for number in range(5)]
    clock.advance(60)  # there is no TTL index: the store was not opened

    assert stored == [True, True, True, False, False]
    assert await store.put("key-5", "/x", until=clock() + 60)


async def test_a_dump_of_the_database_shows_neither_path_nor_state(
    in_mongodb: Build, mongod: Mongod, clock: Clock, key: str
):
    await in_mongodb(database=f"{DATABASE}-dump").put(key, "/recognisable", until=clock() + 60)
    with MongoClient(mongod.uri) as client:
        dump = str(list(client[f"{DATABASE}-dump"]["return_paths"].find()))

    assert "expires_at" in dump
    assert "recognisable" not in dump
    assert key not in dump


async def test_a_path_whose_key_has_left_the_ring_is_none(in_mongodb: Build, clock: Clock, key: str):
    await in_mongodb().put(key, "/x", until=clock() + 60)

    assert await in_mongodb(key=os.urandom(32)).get(key) is None
