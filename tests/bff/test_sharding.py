"""Sharding by hashed `_id`: what a request asks of the database goes to one shard.

There is no mongos to be had here, so the server's profiler lists the commands, and their filters are judged:
one that names the `_id` is sent to the shard that has it (MongoDB manual, "Targeted operations").
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from pymongo import MongoClient

from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Provider
from tests.bff.harness import Browser, Clock, RunningApp, new_browser, running_app

# Asks every shard: once for a page of sessions, for a logout by the provider, for an operator's command.
TO_EVERY_SHARD = {("sessions", "user"), ("sessions", "sid")}


class Profile:
    """The commands that the application has sent since the last call."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self._seen = 0

    def commands(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Return collection and filter, or the document inserted, of each."""
        ours = {"ns": {"$ne": f"{self._database.name}.system.profile"}}  # the profiler's own is listed, too
        found = list(self._database["system.profile"].find(ours).sort("ts", 1))[self._seen :]
        self._seen += len(found)
        return [(each["ns"].split(".", 1)[1], _filter(each["command"])) for each in found]


def _filter(command: Mapping[str, Any]) -> Mapping[str, Any]:
    """An insert has no filter: its documents have an `_id`."""
    found: Any = command.get("filter", command.get("q", command.get("query")))
    return {"_id": None} if found is None and "insert" in command else found


@pytest.fixture
def uri(mongod: Mongod) -> str:
    return f"{mongod.uri}/test-sharding-{secrets.token_hex(4)}"


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock, uri: str) -> AsyncIterator[RunningApp]:
    async with running_app(provider, api, clock=clock, session_store=uri) as app:
        yield app


@pytest.fixture
async def profile(app: RunningApp, uri: str) -> AsyncIterator[Profile]:
    with MongoClient[Any](uri) as client:
        database = client.get_default_database()
        database.command("profile", 2)
        yield Profile(database)


def to_every_shard(profile: Profile) -> set[tuple[str, str]]:
    commands = profile.commands()
    assert commands
    return {(name, next(iter(found))) for name, found in commands if "_id" not in found}


async def test_requests_of_a_session_go_to_its_shard(app: RunningApp, profile: Profile, clock: Clock):
    async with new_browser(app) as browser:
        await browser.login()
        assert (await browser.fetch("/bff/user")).status_code == 200
        clock.advance(301)
        assert (await browser.fetch("/api/echo")).status_code == 200  # with a refresh

    assert to_every_shard(profile) == set()


async def test_a_logout_asks_every_shard_once_for_sessions_with_the_same_sid(
    app: RunningApp, browser: Browser, profile: Profile
):
    await browser.login()
    profile.commands()
    await browser.logout()

    assert to_every_shard(profile) <= TO_EVERY_SHARD


async def test_the_list_of_a_user_s_sessions_asks_every_shard(
    app: RunningApp, browser: Browser, profile: Profile
):
    await browser.login()
    profile.commands()
    await browser.fetch("/bff/sessions")

    assert to_every_shard(profile) == {("sessions", "user")}
