"""HEAD answers wherever GET does: the same status and headers, no body, and nothing is started or ended."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from tornado.web import RequestHandler

from app.bff import ApiHandler, BaseHandler, SocketHandler, authenticated, url
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.handlers.web import methods_of
from tests.bff.harness import (
    FETCH_HEADERS,
    NAVIGATION_HEADERS,
    Browser,
    Clock,
    RunningApp,
    new_browser,
    query_params,
    running_app,
    sign_in,
)
from tests.bff.test_routes import ROUTES

# Different in every response.
VARYING = {"x-request-id", "content-security-policy", "date", "set-cookie", "location", "content-length"}
VARYING |= {"transfer-encoding"}
FETCHED = {**FETCH_HEADERS, "X-CSRF": "1"}
UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}


class Report(BaseHandler):
    @authenticated
    def get(self, name: str) -> None:
        self.set_header("X-Name", name)
        self.finish("a" * 100)


class Ticker(ApiHandler):
    """A stream without an end."""

    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        while True:
            self.write("data: tick\n\n")
            await self.flush()
            await asyncio.sleep(0)


class Special(BaseHandler):
    def get(self) -> None:
        self.finish("get")

    async def head(self) -> None:
        self.set_header("X-Mine", "head")


class OnlyPost(ApiHandler):
    def post(self) -> None:
        self.set_status(204)


class Chat(SocketHandler):
    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message)


class Plain(RequestHandler):
    def post(self) -> None:
        self.set_status(204)


OWN = [
    url(r"/report/(\w+)", Report),
    url("/ticker", Ticker),
    url("/special", Special),
    url("/only-post", OnlyPost),
    url("/chat", Chat),
]


@pytest.fixture
async def app(app: RunningApp) -> RunningApp:
    app.tornado.add_handlers(".*", OWN)
    return app


def comparable(response: httpx2.Response) -> dict[str, Any]:
    headers = {name: value for name, value in response.headers.items() if name not in VARYING}
    return {"status": response.status_code, **headers}


async def begun(browser: Browser, path: str, headers: dict[str, str]) -> httpx2.Response:
    async with browser.http.stream("GET", path, headers=headers) as response:
        return response


# The same answer


@pytest.mark.parametrize("path", [*ROUTES, "/nowhere", "/static/css/app.css", "/static/none"])
async def test_head_answers_as_get_does(path: str, app: RunningApp, browser: Browser):
    for signed_in in (False, True):
        if signed_in:
            await browser.login()
        for headers in (NAVIGATION_HEADERS, FETCH_HEADERS, FETCHED):
            before = dict(browser.http.cookies)
            head = await browser.http.head(path, headers=headers)

            assert dict(browser.http.cookies) == before
            assert head.content == b""
            assert comparable(head) == comparable(await begun(browser, path, headers)), headers


async def test_the_length_is_that_of_the_body_that_is_left_out(app: RunningApp, browser: Browser):
    await browser.login()
    for path in ("/", "/account", "/report/x", "/bff/user", "/static/css/app.css"):
        got, head = [await browser.http.request(method, path, headers=FETCHED) for method in ("GET", "HEAD")]

        assert head.headers["Content-Length"] == str(len(got.content)), path


async def test_head_of_a_page_that_needs_a_session_leads_to_the_login(app: RunningApp, browser: Browser):
    head = await browser.http.head("/report/x", headers=NAVIGATION_HEADERS)

    assert (head.status_code, head.headers["Location"]) == (302, "/bff/login?returnUrl=%2Freport%2Fx")
    assert (await browser.http.head("/report/x", headers=FETCH_HEADERS)).status_code == 401


async def test_a_handler_s_own_head_is_used(app: RunningApp, browser: Browser):
    assert (await browser.http.head("/special")).headers["X-Mine"] == "head"


async def test_the_connection_serves_the_next_request_after_the_head_of_a_stream(
    app: RunningApp, browser: Browser
):
    await browser.login()
    for path in ("/ticker", "/bff/events", "/ticker"):
        async with asyncio.timeout(10):
            head = await browser.http.head(path, headers=FETCHED)

        assert (head.status_code, head.headers["Content-Type"]) == (200, "text/event-stream")
        assert (await browser.fetch("/bff/user")).status_code == 200


async def test_head_uses_the_session_as_get_does(app: RunningApp, browser: Browser, clock: Clock):
    await browser.login()
    for _ in range(3):
        clock.advance(3000)
        assert (await browser.http.head("/bff/user", headers=FETCHED)).status_code == 200

    clock.advance(3000)
    await browser.http.head("/bff/user?slide=false", headers=FETCHED)
    clock.advance(3000)
    assert (await browser.fetch("/bff/user")).status_code == 401


# Methods


@pytest.mark.parametrize(
    ("handler", "methods"),
    [
        (Report, ["GET", "HEAD"]),
        (Special, ["GET", "HEAD"]),
        (OnlyPost, ["POST"]),
        (Chat, ["GET"]),
        (Plain, ["POST"]),
    ],
)
def test_head_is_implemented_where_get_is(handler: type[RequestHandler], methods: list[str]):
    assert methods_of(handler) == methods


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("HEAD", "/only-post", "POST"),
        ("GET", "/only-post", "POST"),
        ("DELETE", "/report/x", "GET, HEAD"),
        ("HEAD", "/bff/backchannel", "POST"),
        ("HEAD", "/bff/sessions/x", "DELETE"),
        ("DELETE", "/bff/login", "GET, HEAD, POST"),
        ("POST", "/bff/silent-login", "GET, HEAD"),
    ],
)
async def test_405_lists_head_where_it_is_answered(
    method: str, path: str, allowed: str, app: RunningApp, browser: Browser
):
    response = await browser.http.request(method, path, headers=FETCHED)

    assert (response.status_code, response.headers["Allow"]) == (405, allowed)


async def test_head_opens_no_socket(app: RunningApp, browser: Browser):
    await browser.login()
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Origin": app.base_url}
    head = await browser.http.head("/chat", headers={**UPGRADE, **key})

    assert (head.status_code, head.headers["Allow"]) == (405, "GET")
    assert not app.services.in_flight_requests


# Nothing is started, and nothing ended


async def test_head_of_a_login_starts_no_attempt(app: RunningApp, provider: Provider, browser: Browser):
    for path in ("/bff/login?returnUrl=/account", "/bff/login?prompt=none", "/bff/silent-login"):
        head = await browser.http.head(path, headers=NAVIGATION_HEADERS)

        assert (head.status_code, "Set-Cookie" in head.headers) == (302, False)
        assert head.headers["Location"] == f"{provider.issuer}/authorize"
    refused = await browser.http.head("/bff/login?returnUrl=//evil.example", headers=NAVIGATION_HEADERS)
    assert refused.status_code == (await browser.get("/bff/login?returnUrl=//evil.example")).status_code


async def test_head_of_a_callback_completes_no_login(app: RunningApp, provider: Provider, browser: Browser):
    callback = await browser.choose(await browser.start_login())
    head = await browser.http.head(callback, headers={**NAVIGATION_HEADERS, "Sec-Fetch-Site": "same-origin"})

    assert (head.status_code, provider.counts["token"]) == (204, 0)
    assert "Set-Cookie" not in head.headers
    await browser.get(callback)
    assert await app.session_of(browser)


async def test_head_of_a_logout_ends_no_session(app: RunningApp, browser: Browser):
    await browser.login()
    link = await browser.logout_url()
    head = await browser.http.head(link, headers=NAVIGATION_HEADERS)

    assert (head.status_code, "Set-Cookie" in head.headers) == (204, False)
    assert (await browser.http.head("/bff/logout?sid=x", headers=NAVIGATION_HEADERS)).status_code == 400
    assert await app.session_of(browser)


async def test_head_of_a_logout_s_callback_revokes_nothing(
    app: RunningApp, provider: Provider, browser: Browser
):
    session = await sign_in(app, browser)
    away = await browser.get(await browser.logout_url())
    state = query_params(away.headers["Location"])["state"]
    back = f"/bff/logout/callback?state={state}"
    head = await browser.http.head(back, headers=NAVIGATION_HEADERS)

    assert (head.status_code, head.headers["Location"]) == (302, "/")
    assert provider.is_active(str(session.tokens.refresh_token))
    await browser.get(back)
    assert not provider.is_active(str(session.tokens.refresh_token))


async def test_head_of_a_front_channel_logout_ends_no_session(app: RunningApp, browser: Browser):
    session = await sign_in(app, browser)
    params = {"iss": session.issuer, "sid": session.sid}
    for sent, status in ((params, 200), ({}, 400)):
        head = await browser.http.head("/bff/frontchannel", params=sent)
        assert head.status_code == status

    assert await app.session_of(browser)


async def test_head_of_the_events_takes_no_stream(provider: Provider, api: DemoApi, clock: Clock):
    async with (
        running_app(provider, api, clock=clock, max_event_streams_per_session=1) as app,
        new_browser(app) as browser,
    ):
        await browser.login()
        heads = [await browser.http.head("/bff/events", headers=FETCHED) for _ in range(3)]

        assert [head.status_code for head in heads] == [200, 200, 200]
        assert (await begun(browser, "/bff/events", FETCHED)).status_code == 200
