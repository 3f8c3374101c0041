"""Fixtures: real parts on real ports, each test with its own, but for one mongod for all."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.sessions.session import Session
from app.bff.testing.fixtures import mongod  # noqa: F401  (a fixture)
from tests.bff.browser_users import alice, chromium, site  # noqa: F401  (fixtures)
from tests.bff.harness import Browser, Clock, RunningApp, running_app, sign_in

# A test says itself what the settings are; those of the developer's shell must not get in.
for name in [name for name in os.environ if name.startswith("BFF_")]:
    del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest first, so that no worker is still busy with one when the others have ended."""
    items.sort(key=lambda item: "template" not in item.path.parts)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def provider(clock: Clock) -> AsyncIterator[Provider]:
    provider = Provider([], clock=clock)
    await provider.start()
    yield provider
    await provider.stop()


@pytest.fixture
async def api(provider: Provider) -> AsyncIterator[DemoApi]:
    api = DemoApi(provider)
    await api.start()
    yield api
    await api.stop()


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    """The application with sessions in memory; see `running_app` for one with other settings."""
    async with running_app(provider, api, clock=clock) as app:
        yield app


@pytest.fixture
async def browser(app: RunningApp) -> AsyncIterator[Browser]:
    browser = Browser(app)
    yield browser
    await browser.http.aclose()


@pytest.fixture
async def session(app: RunningApp, browser: Browser) -> Session:
    """What a request that arrives now finds: alice has just signed in."""
    return await sign_in(app, browser)
