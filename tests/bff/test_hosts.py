"""Which host a browser has opened: a login begins on that of BFF_BASE_URL, and causes no loop."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.web.hosts import opened_elsewhere
from tests.bff.harness import (
    Browser,
    Clock,
    RunningApp,
    new_browser,
    query_params,
    refresh_target,
    running_app,
)

PAGE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
OLD_BROWSER = {"Accept": "text/html"}
SITE, HERE = "https://app.example", "http://localhost:8888"


@pytest.mark.parametrize("headers", [PAGE, OLD_BROWSER], ids=["page", "old browser"])
@pytest.mark.parametrize(
    ("base_url", "host", "is_elsewhere"),
    [
        (SITE, "app.example", False),
        (SITE, "APP.example:443", False),
        (SITE, "app.example:8443", False),  # cookies are shared by all ports
        (SITE, "www.app.example", True),
        (SITE, "app.example.", True),
        (SITE, "203.0.113.9", True),
        (SITE, "127.0.0.1:8888", False),  # a proxy's name for this server
        (SITE, "localhost:8888", False),
        (SITE, "[::1]:8888", False),
        (SITE, "upstream", True),  # another such name: the login that it comes back to goes on
        (SITE, "", False),
        (SITE, "[", False),
        (HERE, "localhost:8888", False),
        (HERE, "127.0.0.1:8888", True),
        (HERE, "[::1]:8888", True),
        (HERE, "app.localhost:8888", True),
    ],
)
def test_a_browser_has_opened_another_host(
    base_url: str, host: str, is_elsewhere: bool, headers: dict[str, str]
):
    assert opened_elsewhere({"Host": host, **headers}, base_url, is_from_proxy=False) is is_elsewhere


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Accept": "application/json"},
        {"Accept": "text/html", "X-CSRF": "1"},
        {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    ],
)
def test_what_is_no_navigation_of_a_window_stays_where_it_is(headers: dict[str, str]):
    assert not opened_elsewhere({"Host": "www.app.example", **headers}, SITE, is_from_proxy=False)


@pytest.mark.parametrize(
    ("forwarded", "from_proxy"),
    [("app.example", False), ("www.app.example", True), ("app.example, inner", False)],
)
def test_a_trusted_proxy_tells_the_host_of_the_browser_and_no_other(forwarded: str, from_proxy: bool):
    headers = {"Host": "upstream", "X-Forwarded-Host": forwarded, **PAGE}

    assert opened_elsewhere(headers, SITE, is_from_proxy=True) is from_proxy
    assert opened_elsewhere(headers, SITE, is_from_proxy=False)


# Moved before a login


def by_address(app: RunningApp) -> dict[str, str]:
    return {"Host": f"127.0.0.1:{urlsplit(app.base_url).port}"}


async def test_a_page_that_needs_a_login_leads_to_one_on_the_host_of_the_base_url(
    app: RunningApp, browser: Browser
):
    target = (await browser.get("/account?x=1", **by_address(app))).headers["Location"]
    away = (await browser.get(target)).headers["Location"]
    arrived = await browser.get(await browser.choose(away))

    assert target.startswith(f"{app.base_url}/bff/login?")
    assert refresh_target(arrived.text) == "/account?x=1"


@pytest.mark.parametrize("query", ["", "?returnUrl=%2Forders%3Fx%3D1%23y&prompt=login&max_age=60"])
async def test_a_login_link_leads_to_the_same_on_the_host_of_the_base_url(
    query: str, app: RunningApp, browser: Browser
):
    answer = await browser.get(f"/bff/login{query}", **by_address(app))

    assert answer.headers["Location"].startswith(f"{app.base_url}/bff/login?")
    assert query_params(answer.headers["Location"]) == {**query_params(query), "moved": "true"}
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/account", "/bff/login", "/bff/login?returnUrl=/x"])
@pytest.mark.parametrize("host", ["upstream", "10.0.0.5:8888", "evil.example"])
async def test_a_proxy_that_replaces_the_host_causes_no_loop(
    host: str, path: str, provider: Provider, browser: Browser
):
    targets = [path]
    while not targets[-1].startswith(provider.issuer):
        targets.append((await browser.get(targets[-1], Host=host)).headers["Location"])

    assert len(targets) == 3
    assert targets[1].startswith(f"{browser.app.base_url}/bff/login?")


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/nowhere", "/bff/logout"])
async def test_nothing_else_is_moved(path: str, app: RunningApp, browser: Browser):
    location = (await browser.get(path, **by_address(app))).headers.get("Location", "/")

    assert location.startswith("/")


async def test_a_call_of_a_page_is_told_the_login_url_as_ever(app: RunningApp, browser: Browser):
    answer = await browser.fetch("/api/echo", headers=by_address(app))

    assert answer.json()["login_url"] == "/bff/login"


# Two applications on one host


async def test_two_applications_on_one_host_leave_each_others_sessions_and_logins_alone(
    provider: Provider, api: DemoApi, clock: Clock
):
    async with running_app(provider, api, clock=clock) as one, new_browser(one) as browser:
        registered = provider.clients["app"]
        await browser.login()
        pending = await browser.start_login("/pending")
        async with (
            running_app(provider, api, clock=clock, cookie_name="shop") as other,
            new_browser(other) as same_browser,
        ):
            same_browser.http.cookies.jar = browser.http.cookies.jar  # one jar for all ports of a host
            await same_browser.login()
            await same_browser.start_login()
            await same_browser.logout()
        provider.clients["app"] = registered

        assert await one.session_of(browser)
        assert refresh_target((await browser.get(await browser.choose(pending))).text) == "/pending"
        assert {"bff", "shop-logout"} <= browser.cookie_names()
