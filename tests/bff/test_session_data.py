"""Own data in a session: `self.session_data`, `self.flash`, and what every store promises for them."""

from __future__ import annotations

import asyncio
import json
import math
import os
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from pymongo import MongoClient

from app.bff import ApiHandler, BaseHandler, authenticated
from app.bff.crypto import SEAL_BYTES, Vault
from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Provider
from app.bff.errors import NoSession, StoreUnavailable, TooLarge
from app.bff.sessions.data import SessionData
from app.bff.sessions.interfaces import MAX_DATA_BYTES, MAX_DATA_FIELDS, ReencryptResult, SessionStore
from app.bff.sessions.memory import MemorySessions
from app.bff.sessions.mongo.connection import connect
from app.bff.sessions.mongo.sessions import MongoSessions
from app.bff.sessions.session import Reason, Session
from tests.bff.harness import (
    KEY,
    Browser,
    Clock,
    RunningApp,
    new_browser,
    running_app,
    sign_in,
    user_tokens_of_another_process,
)
from tests.bff.test_session_store import STORES, a_session

DATABASE = "test-session-data"
EXPIRED = 301  # seconds


@pytest.fixture
def clock() -> Clock:
    return Clock(now=float(int(time.time())))  # MongoDB keeps milliseconds, and no less


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, mongod: Mongod, clock: Clock) -> AsyncIterator[SessionStore]:
    store = STORES[request.param](f"{mongod.uri}/{DATABASE}", clock)
    yield store
    await store.close()


@pytest.fixture
async def stored(store: SessionStore, clock: Clock) -> Session:
    session = a_session(clock)
    await store.create(session)
    return session


@pytest.fixture
def data(store: SessionStore, stored: Session, clock: Clock) -> SessionData:
    return SessionData(store, stored.ref, clock)


# Values


@pytest.mark.parametrize(
    "value",
    [None, 0, True, "Zoë 😀", [], {"a": [1, {"b": None}]}],
    ids=repr,
)
async def test_a_value_is_read_back(value: Any, data: SessionData):
    await data.set("basket", value)

    assert await data.get("basket", "another") == value


@pytest.mark.parametrize(
    "key",
    ["a", "x" * 64, "a.b", "$set", "a b", "%", "é", "data.x", "\x00", "flash"],
    ids=repr,
)
async def test_a_key_is_any_text_of_64_characters(key: str, data: SessionData):
    await data.set(key, 1)
    await data.set("other", 2)

    assert [await data.get(key), await data.get("other")] == [1, 2]
    await data.delete(key)
    assert [await data.get(key), await data.get("other")] == [None, 2]


@pytest.mark.parametrize("key", ["", "x" * 65], ids=len)
async def test_another_key_is_a_mistake(key: str, data: SessionData):
    for work in (data.get(key), data.set(key, 1), data.delete(key)):
        with pytest.raises(ValueError, match="1 to 64 characters"):
            await work


@pytest.mark.parametrize(
    "value",
    [math.nan, [math.inf], "\ud83d", object(), {1, 2}, b"x"],
    ids=["NaN", "infinity", "surrogate", "object", "set", "bytes"],
)
async def test_what_is_no_json_is_a_mistake_and_the_old_value_stays(value: Any, data: SessionData):
    await data.set("step", 1)
    with pytest.raises((ValueError, TypeError)):
        await data.set("step", value)

    assert await data.get("step") == 1


async def test_an_unknown_key_has_the_default_and_is_deleted_without_effect(data: SessionData):
    await data.delete("basket")

    assert await data.get("basket") is None
    assert await data.get("basket", []) == []


# Limits


async def test_all_keys_and_values_together_have_16_kb(data: SessionData):
    await data.set("ab", "x" * (MAX_DATA_BYTES - 4))  # two quotes
    for key in ("c", "ab"):
        with pytest.raises(TooLarge):
            await data.set(key, "x" * (MAX_DATA_BYTES - 3 if key == "ab" else 1))
    with pytest.raises(TooLarge):
        await data.add_flash("Saved.")
    await data.set("ab", "x" * (MAX_DATA_BYTES - 100))

    await data.set("c", "fits")
    await data.delete("ab")
    await data.set("d", "x" * (MAX_DATA_BYTES - 100))


async def test_there_are_at_most_a_thousand_keys(mongod: Mongod, clock: Clock):
    session, client = a_session(clock), connect(f"{mongod.uri}/{DATABASE}", driver="pymongo")
    fields, sealed = [f"data.{number}" for number in range(MAX_DATA_FIELDS)], b"x" * SEAL_BYTES
    in_memory, in_mongodb = MemorySessions(clock=clock), MongoSessions(client, Vault([KEY]), clock=clock)
    for store in (in_memory, in_mongodb):
        await store.create(session)
    in_memory._data[session.ref] = dict.fromkeys(fields, b"1")
    records = client.get_default_database()["sessions"]
    await records.update_one({"_id": session.ref}, {"$set": dict.fromkeys(fields, sealed)})

    for store in (in_memory, in_mongodb):
        data = SessionData(store, session.ref, clock)
        await data.set("7", 2)
        with pytest.raises(TooLarge):
            await data.set("x", 1)
    await in_mongodb.close()


# A session that is over


async def test_no_write_brings_a_session_back(store: SessionStore, stored: Session, data: SessionData):
    await data.set("basket", 1)
    await store.delete(stored.ref, reason=Reason.SIGNED_OUT)
    for work in (data.set("basket", 2), data.set("new", 2), data.add_flash("Saved.")):
        with pytest.raises(NoSession):
            await work
    await data.delete("basket")

    assert await data.get("basket") is None
    assert await store.get(stored.ref) is None


async def test_data_are_gone_when_the_session_expires(
    store: SessionStore, stored: Session, data: SessionData, clock: Clock
):
    await data.set("basket", 1)
    clock.advance(3600)

    assert await data.get("basket") is None
    with pytest.raises(NoSession):
        await data.set("basket", 2)


async def test_a_new_session_under_another_ref_has_none(store: SessionStore, data: SessionData, clock: Clock):
    await data.set("basket", 1)
    other = a_session(clock)
    await store.create(other)

    assert await SessionData(store, other.ref, clock).get("basket") is None


# Concurrent writes


async def test_a_write_and_a_refresh_at_the_same_moment_lose_nothing(
    store: SessionStore, stored: Session, data: SessionData
):
    saves, version = [], stored
    for number in range(10):
        renewed = replace(version, tokens=replace(version.tokens, access_token=f"at-{number}"))
        results = await asyncio.gather(
            store.save(renewed), *(data.set(f"{number} {each}", each) for each in range(5))
        )
        assert results[0] is not None
        version = results[0]
        saves.append(version.version)

    found = await store.get(stored.ref)
    assert found is not None
    assert (found.tokens.access_token, found.version) == ("at-9", 11)
    assert [await data.get(f"{number} 4") for number in range(10)] == [4] * 10


@pytest.fixture(params=["motor", "pymongo"])
async def in_mongodb(
    request: pytest.FixtureRequest, provider: Provider, api: DemoApi, clock: Clock, mongod: Mongod
) -> AsyncIterator[RunningApp]:
    settings = {"session_store": f"{mongod.uri}/{DATABASE}", "mongodb_driver": request.param}
    async with running_app(provider, api, clock=clock, **settings) as app:
        yield app


async def test_two_hundred_writes_of_two_processes_during_refreshes_lose_no_value_and_no_token(
    in_mongodb: RunningApp, mongod: Mongod, provider: Provider, clock: Clock
):
    app, another = (
        in_mongodb,
        MongoSessions(connect(f"{mongod.uri}/{DATABASE}", driver="pymongo"), Vault([KEY]), clock=clock),
    )
    async with new_browser(app) as browser:
        session = await sign_in(app, browser)
        tokens = [app.services.tokens, user_tokens_of_another_process(app, clock, sessions=another)]
        processes = [SessionData(each, session.ref, clock) for each in (app.services.sessions, another)]

        async def write(number: int) -> None:
            await processes[number % 2].set(f"key-{number}", number)

        for round_ in range(4):
            clock.advance(EXPIRED)
            current = await another.get(session.ref)
            assert current is not None
            writes = [write(number) for number in range(round_ * 50, round_ * 50 + 50)]
            await asyncio.gather(*(each.get(current) for each in tokens), *writes)

        assert provider.counts["token:refresh_token"] == 4
        now = await another.get(session.ref)
        assert now is not None
        assert provider.is_active(now.tokens.refresh_token or "")
        found = await asyncio.gather(*(processes[0].get(f"key-{number}") for number in range(200)))
        assert found == list(range(200))
    await another.close()


async def test_after_a_logout_among_the_writes_nothing_comes_back(
    in_mongodb: RunningApp, provider: Provider, clock: Clock, mongod: Mongod
):
    app = in_mongodb
    async with new_browser(app) as browser:
        session = await sign_in(app, browser)
        clock.advance(EXPIRED)
        data = app.services.session_data(session.ref)
        works = [data.set(f"key-{number}", number) for number in range(100)]
        works.insert(50, app.services.tokens.end(session.ref, Reason.SIGNED_OUT))
        works.insert(51, app.services.tokens.for_session(session.ref))
        results = await asyncio.gather(*works, return_exceptions=True)

        assert {type(each) for each in results} <= {type(None), str, NoSession}
        assert await app.services.sessions.get(session.ref) is None
        assert await data.get("key-1") is None
    client = connect(f"{mongod.uri}/{DATABASE}", driver="pymongo")
    left = await client.get_default_database()["sessions"].find_one({"_id": session.ref})
    assert left.keys() == {"_id", "ended", "forget_at", "hint"}
    await client.close()


# At rest


async def test_values_and_messages_are_sealed_for_their_place_and_reencrypted(mongod: Mongod, clock: Clock):
    old, new = os.urandom(32), os.urandom(32)
    client = connect(f"{mongod.uri}/{DATABASE}-{secrets.token_hex(4)}", driver="pymongo")
    records, session = client.get_default_database()["sessions"], a_session(clock)
    before = MongoSessions(client, Vault([old]), clock=clock)
    await before.create(session)
    data = SessionData(before, session.ref, clock)
    await data.set("basket", "tulips")
    await data.add_flash("Saved.")
    assert b"tulips" not in repr(await records.find_one({})).encode()

    between = MongoSessions(client, Vault([new, old]), clock=clock)
    await between.save(session)  # a refresh has sealed the session itself already
    assert await between.reencrypt() == ReencryptResult(done=1)
    assert await between.reencrypt() == ReencryptResult()

    after = MongoSessions(client, Vault([new]), clock=clock)
    assert await SessionData(after, session.ref, clock).get("basket") == "tulips"
    found = await after.get(session.ref)
    assert found is not None
    assert [message for _, message in found.flashes] == ["Saved."]
    record = await records.find_one({"_id": session.ref})
    await records.update_one({"_id": session.ref}, {"$set": {"data.other": record["data"]["basket"]}})
    assert await SessionData(after, session.ref, clock).get("other") is None  # it is not at its place
    await client.drop_database(client.get_default_database())
    await after.close()


async def test_a_value_that_is_written_during_the_rotation_is_not_overwritten(mongod: Mongod, clock: Clock):
    old, new = os.urandom(32), os.urandom(32)
    client = connect(f"{mongod.uri}/{DATABASE}-{secrets.token_hex(4)}", driver="pymongo")
    session, before = a_session(clock), MongoSessions(client, Vault([old]), clock=clock)
    await before.create(session)
    await SessionData(before, session.ref, clock).set("step", 1)

    class Slow(Vault):
        """Between the read and the write of the rotation the value changes."""

        def open(self, sealed: bytes, *, place: str) -> bytes:
            opened = super().open(sealed, place=place)
            if "data.step" in place and not self.changed:
                self.changed = True
                records.update_one({"_id": session.ref}, {"$set": {"data.step": newer}})
            return opened

    with MongoClient(mongod.uri) as other:
        name = client.get_default_database().name
        records = other[name]["sessions"]
        newer = Vault([old]).seal(b"2", place=f"session data {session.ref} data.step")
        vault = Slow([new, old])
        vault.changed = False
        rotating = MongoSessions(client, vault, clock=clock)
        assert await rotating.reencrypt() == ReencryptResult(conflicts=1)
        assert await rotating.reencrypt() == ReencryptResult(done=1)
        other.drop_database(name)
    await rotating.close()


# In handlers


class Save(BaseHandler):
    @authenticated
    async def post(self) -> None:
        self.flash(self.params.get("say", "Saved."))
        self.redirect("/")


class SayWhatWasSent(ApiHandler):
    @authenticated
    async def post(self) -> None:
        self.flash(json.loads(self.request.body))
        self.finish_json(True)


class SaveTwice(ApiHandler):
    @authenticated
    async def post(self) -> None:
        self.flash("One <b>.")
        await asyncio.sleep(0)
        self.flash("Two.")
        self.finish_json(True)


class SaveAndFail(ApiHandler):
    @authenticated
    async def post(self) -> None:
        self.flash("Saved.")
        raise StoreUnavailable


class Step(ApiHandler):
    async def get(self) -> None:
        self.finish_json(await self.session_data.get("step", 0))

    async def post(self) -> None:
        await self.session_data.set("step", self.params.get("step"))
        self.set_status(204)


ROUTES = [("/save", Save), ("/twice", SaveTwice), ("/fail", SaveAndFail), ("/step", Step)]
ROUTES += [("/say", SayWhatWasSent)]


@pytest.fixture
async def site(app: RunningApp) -> RunningApp:
    app.tornado.add_handlers(".*", ROUTES)
    return app


async def messages(browser: Browser, path: str = "/") -> list[str]:
    page = (await browser.get(path)).text
    return [part.partition("</p>")[0] for part in page.split('role="status"><p>')[1:]]


async def test_a_message_is_on_the_next_page_once(site: RunningApp, browser: Browser, session: Session):
    response = await browser.submit("/save")

    assert response.status_code == 302
    assert await messages(browser) == ["Saved."]
    assert await messages(browser) == []


async def test_messages_come_in_order_escaped_and_on_an_error_page_too(
    site: RunningApp, browser: Browser, session: Session
):
    await browser.fetch("/twice", "POST")

    assert await messages(browser, "/nowhere") == ["One &lt;b&gt;.", "Two."]
    assert await messages(browser) == []


async def test_a_message_of_a_handler_that_fails_is_shown_as_well(
    site: RunningApp, browser: Browser, session: Session
):
    assert (await browser.fetch("/fail", "POST")).status_code == 503
    assert await messages(browser) == ["Saved."]


async def test_what_is_fetched_without_being_shown_leaves_the_message(
    site: RunningApp, browser: Browser, session: Session
):
    await browser.submit("/save")
    await browser.get("/", Sec_Purpose="prefetch")
    await browser.http.head("/")
    await browser.fetch("/bff/user")

    assert await messages(browser) == ["Saved."]


async def test_a_message_that_does_not_fit_is_logged_and_the_response_is_sent(
    site: RunningApp, browser: Browser, session: Session, caplog: pytest.LogCaptureFixture
):
    response = await browser.submit("/save?say=" + "x" * 20_000)

    assert response.status_code == 302
    assert any(record.message == "flash message not stored or removed" for record in caplog.records)
    assert await messages(browser) == []


async def test_what_cannot_be_stored_as_it_is_is_answered_all_the_same(
    site: RunningApp, browser: Browser, session: Session
):
    odd, none = [await browser.fetch("/say", "POST", content=body) for body in (rb'"A \ud800."', b"17")]

    assert (odd.status_code, none.status_code) == (200, 500)
    assert await messages(browser) == ["A ?."]


async def test_without_a_session_there_is_neither_data_nor_message(site: RunningApp, browser: Browser):
    assert (await browser.fetch("/save", "POST")).json()["code"] == "no_session"
    assert (await browser.fetch("/step")).json()["code"] == "no_session"


async def test_data_are_those_of_the_session_and_too_much_is_413(
    site: RunningApp, browser: Browser, session: Session
):
    assert (await browser.fetch("/step")).json() == 0
    assert (await browser.fetch("/step?step=2", "POST")).status_code == 204
    assert (await browser.fetch("/step")).json() == "2"
    large = await browser.fetch("/step?step=" + "x" * 20_000, "POST")
    assert (large.status_code, large.json()["code"]) == (413, "too_large")
    await browser.logout()
    await browser.login()
    assert (await browser.fetch("/step")).json() == 0


async def test_in_memory_nothing_is_left_of_a_session_that_has_ended(clock: Clock):
    store, session = MemorySessions(clock=clock), a_session(clock)
    await store.create(session)
    await SessionData(store, session.ref, clock).set("basket", 1)
    await store.delete(session.ref, reason=Reason.SIGNED_OUT)

    assert store._data == {}
