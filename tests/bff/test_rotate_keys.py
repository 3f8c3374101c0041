"""New keys under load: no session is lost, no token overwritten, and then the old key goes."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Provider
from tests.bff.harness import CLIENT_ID, CLIENT_SECRET, Browser, Clock, RunningApp, running_app
from tests.bff.subprocesses import APPLICATION, app_settings, running_process

OLD, NEW = os.urandom(32), os.urandom(32)
PEOPLE, AWAY = 20, 500
LIFETIME = 60  # of an access token, in seconds


class Company:
    """Applications that come and go, and people who stay signed in: a cookie does not know ports."""

    def __init__(self, provider: Provider, api: DemoApi, clock: Clock, store: dict[str, Any]) -> None:
        self.provider = provider
        self.store = store
        self.cookies: list[Any] = []
        self._api = api
        self._clock = clock

    @asynccontextmanager
    async def application(self, *keys: bytes) -> AsyncIterator[RunningApp]:
        parts = self.provider, self._api
        async with running_app(*parts, clock=self._clock, encryption_keys=keys, **self.store) as app:
            yield app

    async def all_sign_in(self, app: RunningApp) -> None:
        for _ in range(PEOPLE):
            browser = Browser(app)
            await browser.login("alice")
            self.cookies.append(browser.http.cookies)
            await browser.http.aclose()

    async def others_are_away(self, app: RunningApp) -> None:
        """They are signed in, and do nothing."""
        [session, *_] = [session async for session in app.services.sessions.every()]
        away = [replace(session, ref=f"away-{number}") for number in range(AWAY)]
        await asyncio.gather(*map(app.services.sessions.create, away))

    async def all_call(self, *apps: RunningApp) -> Counter[int]:
        """One call of each person at each application, all at once, with a token that has just expired."""
        self._clock.advance(LIFETIME)
        async with AsyncExitStack() as stack:
            calls = []
            for cookies in self.cookies:
                for app in apps:
                    browser = Browser(app)
                    stack.push_async_callback(browser.http.aclose)
                    browser.http.cookies = cookies
                    calls.append(browser.fetch("/api/echo"))
            return Counter(answer.status_code for answer in await asyncio.gather(*calls))


@pytest.fixture(params=["motor", "pymongo"])
def company(
    request: pytest.FixtureRequest, provider: Provider, api: DemoApi, clock: Clock, mongod: Mongod
) -> Company:
    provider.access_token_seconds = LIFETIME
    uri = f"{mongod.uri}/test-rotate-keys-{secrets.token_hex(4)}"
    return Company(provider, api, clock, {"session_store": uri, "mongodb_driver": request.param})


@asynccontextmanager
async def rotating(folder: Path, company: Company, *keys: bytes) -> AsyncIterator[Any]:
    settings = app_settings(
        BFF_ISSUER=company.provider.issuer,
        BFF_CLIENT_ID=CLIENT_ID,
        BFF_CLIENT_SECRET=CLIENT_SECRET,
        BFF_SESSION_STORE=company.store["session_store"],
        BFF_MONGODB_DRIVER=company.store["mongodb_driver"],
        BFF_ENCRYPTION_KEYS=",".join(base64.b64encode(key).decode() for key in keys),
    )
    async with running_process(APPLICATION, folder, "rotate-keys", **settings) as command:
        yield command


def refreshes(provider: Provider) -> int:
    return provider.counts["token:refresh_token"]


async def test_sealing_back_and_forth_while_two_processes_refresh_loses_no_session_and_no_token(
    company: Company,
):
    async with company.application(NEW, OLD) as one, company.application(OLD, NEW) as another:
        await company.all_sign_in(another)
        for _ in range(3):
            calls = asyncio.create_task(company.all_call(one, another))
            while not calls.done():
                for app in (one, another):
                    await app.services.sessions.reencrypt()
            assert await calls == {200: 2 * PEOPLE}

        assert refreshes(company.provider) == 3 * PEOPLE
        refresh_tokens = [
            session.tokens.refresh_token or "" async for session in one.services.sessions.every()
        ]
        assert [company.provider.is_active(token) for token in refresh_tokens] == [True] * PEOPLE


async def test_while_two_processes_refresh_all_the_time_no_session_ends_and_then_the_old_key_goes(
    company: Company, tmp_path: Path
):
    async with company.application(OLD) as before:
        await company.all_sign_in(before)
        await company.others_are_away(before)
    answers: Counter[int] = Counter()
    async with (
        company.application(NEW, OLD) as one,
        company.application(NEW, OLD) as another,
        rotating(tmp_path, company, NEW, OLD) as command,
    ):
        while command.process.returncode is None:
            answers += await company.all_call(one, another)
    assert refreshes(company.provider) >= PEOPLE
    async with company.application(NEW) as after:
        answers += await company.all_call(after)
        sessions = [session async for session in after.services.sessions.every()]

    assert command.process.returncode == 0
    assert all('"audit"' in line for line in command.stderr.splitlines())
    assert "0 could not be decrypted.\nThe old keys can be removed" in command.stdout
    assert set(answers) == {200}
    assert len(sessions) == PEOPLE + AWAY
