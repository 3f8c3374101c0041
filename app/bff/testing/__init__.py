"""A pytest plugin for the tests of your application.

tests/conftest.py loads it: `pytest_plugins = ["app.bff.testing"]`. pytest.ini names what is tested:

    bff_settings = app.settings:Settings
    bff_routes = app.main:ROUTES
    bff_lifespan = app.main:lifespan
    bff_hooks = app.main:HOOKS

Every test gets an application of its own, on a real port, in the event loop of the test: your routes, your
lifespan and your settings, with sessions in memory (in MongoDB with `--bff-mongodb-driver motor`), the
development provider and a stand-in for your APIs.
`BFF_` variables of your shell and `.env` have no effect. The fixtures:

| fixture | what it is |
|---|---|
| `app` | the running application (`RunningApp`): `base_url`, `settings`, `services`, `session_of(browser)` |
| `browser` | a browser without rendering (`Browser`): `get`, `submit`, `fetch`, `login`, `logout` |
| `alice`, `bob` | such browsers, in which Alice and Bob are signed in |
| `api` | the stand-in for the APIs of all named clients (`StandInApi`): `answers`, `requests`, `stop` |
| `provider` | the development provider: `fails`, `holds`, `overrides`, `counts`, `end_sessions`, … |
| `clock` | the time that application and provider see (`Clock`): `advance(seconds)` |
| `page` | a Playwright page of a real Chromium; the test is skipped where there is none |
| `settings` | settings that differ from the defaults; override it to choose some |
| `session_store`, `mongod` | with `--bff-mongodb-driver`: the settings of the store, the MongoDB server |
| `application` | settings, routes, lifespan, hooks (`ApplicationParts`); override it to test others |

A page, for a browser that is signed in and for one that is not:

    from app.bff.testing import Browser

    async def test_the_account_page_greets_alice(alice: Browser) -> None:
        response = await alice.get("/account")

        assert response.status_code == 200
        assert "Alice Adams" in response.text

    async def test_the_account_page_asks_to_sign_in(browser: Browser) -> None:
        response = await browser.get("/account")

        assert response.headers["Location"].startswith("/bff/login")

An API. The test defines the answers, and reads the requests with the user of their token:

    from app.bff.testing import Browser, StandInApi

    async def test_orders_are_listed(alice: Browser, api: StandInApi) -> None:
        api.answers("GET", "orders", json=[{"id": 17, "title": "Tea"}])

        response = await alice.fetch("/orders")

        assert response.json() == [{"id": 17, "title": "Tea"}]
        assert api.requests[-1].user == "alice"

An access token that has expired. It lives for 300 seconds, and no test has to wait for them:

    from app.bff.testing import Browser, Clock, Provider, StandInApi

    async def test_an_expired_token_is_refreshed(
        alice: Browser, api: StandInApi, provider: Provider, clock: Clock
    ) -> None:
        api.answers("GET", "orders", json=[])
        clock.advance(301)

        assert (await alice.fetch("/orders")).status_code == 200
        assert provider.counts["token:refresh_token"] == 1

A provider that does not answer, when a token has to be refreshed:

    from app.bff.testing import Browser, Clock, Failure, Provider

    async def test_an_outage_of_the_provider_ends_no_session(
        alice: Browser, provider: Provider, clock: Clock
    ) -> None:
        clock.advance(301)
        provider.fails["token"] = Failure()  # 503
        outage = await alice.fetch("/orders")
        del provider.fails["token"]

        assert outage.json()["code"] == "provider_unavailable"
        assert (await alice.fetch("/bff/user")).status_code == 200

A journey in a real browser:

    from playwright.async_api import Page, expect

    from app.bff.testing import sign_in

    async def test_alice_signs_in(page: Page) -> None:
        await sign_in(page, "alice")

        await expect(page.get_by_text("Alice Adams")).to_be_visible()

Other settings, for a module, a class or (in conftest.py) all tests; `.env` is not read:

    @pytest.fixture
    def settings() -> dict[str, Any]:
        return {"session_idle_seconds": 60, "orders_page_size": 10}

All your routes at once, see `app.bff.testing.checks`:

    from app.bff.testing import RunningApp, checks

    async def test_every_route_keeps_the_rules(app: RunningApp) -> None:
        await checks.check_routes(app)
"""

from __future__ import annotations

from typing import Any

import pytest

from app.bff.dev.provider import Failure, Provider
from app.bff.testing import checks
from app.bff.testing.application import (
    ApplicationParts,
    Clock,
    RunningApp,
    forget_settings_of_the_shell,
    running_app,
)
from app.bff.testing.browsers import Browser
from app.bff.testing.chromium import NO_CHROMIUM, sign_in
from app.bff.testing.fixtures import (
    alice,
    api,
    app,
    application,
    bob,
    browser,
    clock,
    mongod,
    page,
    provider,
    session_store,
    settings,
)
from app.bff.testing.stand_in import ApiRequest, StandInApi

__all__ = [
    "ApiRequest",
    "ApplicationParts",
    "Browser",
    "Clock",
    "Failure",
    "Provider",
    "RunningApp",
    "StandInApi",
    "alice",
    "api",
    "app",
    "application",
    "bob",
    "browser",
    "checks",
    "clock",
    "mongod",
    "page",
    "provider",
    "running_app",
    "session_store",
    "settings",
    "sign_in",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("bff_settings", "the class of the application's settings, as module:name")
    parser.addini("bff_routes", "the application's routes, as module:name")
    parser.addini("bff_lifespan", "the application's lifespan, as module:name (optional)")
    parser.addini("bff_hooks", "the application's hooks, as module:name (optional)")
    parser.addoption(
        "--bff-mongodb-driver",
        choices=["motor", "pymongo"],
        help="keep sessions in a MongoDB server that this run starts, through this driver, instead of memory",
    )


def pytest_configure(config: pytest.Config) -> None:
    forget_settings_of_the_shell()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say at the end how many tests were skipped because there is no Chromium."""
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    reasons = [text.partition(NO_CHROMIUM)[2].rstrip("')") for text in skipped if NO_CHROMIUM in text]
    if reasons:
        terminalreporter.write_line(
            f"Skipped for want of a browser: {len(reasons)}. {NO_CHROMIUM}{reasons[0]}", yellow=True
        )
