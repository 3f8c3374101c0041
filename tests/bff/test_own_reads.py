"""`"csrf": "same-origin"`: images, downloads and event streams of an API, which cannot send `X-CSRF`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from app.bff.web.headers import as_a_file, security_headers
from tests.bff.harness import (
    Browser,
    Clock,
    RunningApp,
    last_request_headers,
    new_browser,
    refresh_target,
    running_app,
)

SECRET = "0123456789abcdef0123456789abcdef"
APIS = [
    {"path": "/api", "client": "apiClient", "csrf": "same-origin"},
    {"path": "/strict", "client": "apiClient"},
]
IMAGE = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
LINK = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
POLICY = security_headers(nonce=None, https=True)["Content-Security-Policy"]
SANDBOX = ("Content-Security-Policy", f"{POLICY}; sandbox")


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    async with running_app(provider, api, clock=clock, remote_apis=APIS, forward_auth_secret=SECRET) as app:
        yield app


@pytest.fixture
async def browser(app: RunningApp) -> AsyncIterator[Browser]:
    async with new_browser(app) as browser:
        await browser.login()
        yield browser


async def decision(browser: Browser, method: str, uri: str, headers: dict[str, str]) -> httpx2.Response:
    """What a proxy is told that carries the request itself."""
    forwarded = {"X-Forward-Auth-Secret": SECRET, "X-Forwarded-Method": method, "X-Forwarded-Uri": uri}
    return await browser.http.get("/bff/forward-auth", headers={**forwarded, **headers})


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/api/echo", IMAGE, 200),
        ("HEAD", "/api/echo", IMAGE, 200),
        ("GET", "/api/echo", LINK, 200),
        ("GET", "/api/echo", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("GET", "/api/echo", {**LINK, "Sec-Fetch-Site": "none"}, 403),
        ("GET", "/api/echo", {**LINK, "Sec-Fetch-Site": "cross-site"}, 403),
        ("GET", "/api/echo", {**IMAGE, "Sec-Fetch-Dest": "script"}, 403),
        ("GET", "/api/echo", {**LINK, "Sec-Fetch-Dest": "iframe"}, 403),
        ("GET", "/api/echo", {}, 403),
        ("POST", "/api/echo", IMAGE, 403),
        ("POST", "/api/echo", {**IMAGE, "X-CSRF": "1"}, 200),
        ("GET", "/strict/echo", IMAGE, 403),
        ("GET", "/strict/echo", {**IMAGE, "X-CSRF": "1"}, 200),
    ],
)
async def test_a_request_and_the_question_of_a_proxy_are_decided_alike(
    method: str, path: str, headers: dict[str, str], status: int, browser: Browser
):
    response = await browser.http.request(method, path, headers=headers)
    asked = await decision(browser, method, path, headers)

    assert (response.status_code, asked.status_code) == (status, 204 if status == 200 else 403)
    if status == 403:
        assert response.json()["code"] == asked.json()["code"] == "csrf_rejected"


async def test_it_is_the_users_request_as_any_other(api: DemoApi, browser: Browser):
    response = await browser.http.get("/api/echo", headers=IMAGE)
    heard = last_request_headers(api)

    assert response.json()["user"] == "alice"
    assert not [name for name in heard if name.startswith(("sec-fetch", "cookie", "x-csrf"))]


async def test_without_a_session_it_is_401(app: RunningApp):
    async with new_browser(app) as anonymous:
        assert (await anonymous.http.get("/api/echo", headers=LINK)).status_code == 401


# A response that may be shown


@pytest.mark.parametrize(
    ("status", "given", "disposition"),
    [
        (200, None, "attachment"),
        (206, 'inline; filename="a;b.pdf"', 'attachment; filename="a;b.pdf"'),
        (200, "INLINE ; filename*=UTF-8''%E2%82%AC.pdf", "attachment; filename*=UTF-8''%E2%82%AC.pdf"),
        (200, "attachment; filename=a", "attachment; filename=a"),
        (200, "", "attachment"),
        (404, None, None),
        (302, "inline", None),
    ],
)
def test_a_navigation_saves_it(status: int, given: str | None, disposition: str | None):
    headers = [("Content-Type", "text/html"), *([] if given is None else [("content-disposition", given)])]
    expected = [] if disposition is None else [("Content-Disposition", disposition)]

    assert as_a_file(headers, status) == [("Content-Type", "text/html"), *expected, SANDBOX]


@pytest.mark.parametrize(
    ("path", "headers", "is_file"),
    [
        ("/api/echo", LINK, True),
        ("/api/echo", IMAGE, True),
        ("/api/echo", {"Sec-Fetch-Site": "same-origin"}, True),
        ("/api/echo", {**LINK, "X-CSRF": "1"}, False),
        ("/strict/echo", {**IMAGE, "X-CSRF": "1"}, False),
    ],
)
async def test_what_comes_without_the_header_is_a_file(
    path: str, headers: dict[str, str], is_file: bool, api: DemoApi, browser: Browser
):
    api.fails["echo"] = Failure(200, b"<script>alert(1)</script>", {"Content-Type": "text/html"})
    response = await browser.http.get(path, headers=headers)
    asked = await decision(browser, "GET", path, headers)

    for each in (response, asked):
        assert each.headers.get("Content-Disposition") == ("attachment" if is_file else None)
        assert ("sandbox" in each.headers.get("Content-Security-Policy", "")) == is_file
    assert len(response.headers.get_list("Content-Security-Policy")) == 1


@pytest.mark.parametrize(
    ("return_url", "target"),
    [
        *(("/api/echo?page=2", "/"), ("/api", "/"), ("/api#top", "/"), ("/strict/echo", "/")),
        *(("/apis", "/apis"), ("/x?y=/api/echo", "/x?y=/api/echo"), ("/%61pi/echo", "/%61pi/echo")),
    ],
)
async def test_no_login_that_another_site_has_started_ends_as_a_request_of_this_one(
    return_url: str, target: str, app: RunningApp
):
    async with new_browser(app) as browser:
        assert refresh_target((await browser.login(return_url=return_url)).text) == target


async def test_a_response_that_is_stored_is_stored_for_requests_that_say_the_same(
    provider: Provider, api: DemoApi, clock: Clock
):
    apis: list[dict[str, Any]] = [{**APIS[0], "cache": "private"}]
    api.fails["echo"] = Failure(200, b"{}", {"Cache-Control": "max-age=60"})
    async with running_app(provider, api, clock=clock, remote_apis=apis) as app, new_browser(app) as browser:
        await browser.login()
        response = await browser.http.get("/api/echo", headers=IMAGE)

    assert response.headers["Cache-Control"] == "private, no-cache, max-age=60"
    assert {"X-CSRF", "Sec-Fetch-Site", "Cookie"} <= set(response.headers["Vary"].split(", "))
