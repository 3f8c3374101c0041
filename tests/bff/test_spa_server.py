"""BFF_SPA as the URL of a development server: what no route claims is forwarded to it, WebSockets too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, WSServerHandshakeError
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from app.bff import url
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.settings.spa import spa_location
from app.bff.spa.document import hash_of
from app.bff.spa.forwarding import browser_headers, server_headers
from app.bff.web.csp import parsed
from tests.bff.application.handlers import Account
from tests.bff.harness import FETCH_HEADERS, NAVIGATION_HEADERS, Browser, Clock, RunningApp, running_app
from tests.bff.subprocesses import free_ports

INLINE = 'window.preamble = "installed"'
PAGE = f"<!doctype html><script type=module>{INLINE}</script><script type=module src=/main.js></script>"


class Any404(RequestHandler):
    """Answers everything with what it was asked, and headers of its own."""

    def _answer(self) -> None:
        self.set_status(418)
        self.set_header("Cache-Control", "max-age=7")
        self.set_header("X-Own", "yes")
        self.add_header("Set-Cookie", "bff=planted")
        headers = {name.lower(): value for name, value in self.request.headers.get_all()}
        body = {"method": self.request.method, "uri": self.request.uri, "headers": headers}
        self.finish(json.dumps({**body, "body": self.request.body.decode()}))

    get = post = put = delete = _answer


class Page(RequestHandler):
    def get(self) -> None:
        self.finish(PAGE)

    def head(self) -> None:
        self.set_header("Content-Length", str(len(PAGE)))


class Slow(RequestHandler):
    def initialize(self, go_on: asyncio.Event) -> None:
        self.go_on = go_on

    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.write("first")
        await self.flush()
        await self.go_on.wait()
        self.write("second")


class Hmr(WebSocketHandler):
    seen: dict[str, str] = {}

    def check_origin(self, origin: str) -> bool:
        return True

    def prepare(self) -> None:
        Hmr.seen = dict(self.request.headers.get_all())

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return "vite-hmr" if "vite-hmr" in subprotocols else None

    def open(self, *args: str) -> None:
        self.write_message('{"type":"connected"}')

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)


class Elsewhere(RequestHandler):
    def get(self) -> None:
        self.redirect(f"http://{self.request.host}/moved?x=1")


class DevServer:
    def __init__(self) -> None:
        self.port = free_ports(1)
        self.go_on = asyncio.Event()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        routes: list[Any] = [("/", Page), ("/slow", Slow, {"go_on": self.go_on}), ("/hmr", Hmr)]
        application = Application([*routes, ("/elsewhere", Elsewhere), ("/.*", Any404)], log_function=_silent)
        self._server = HTTPServer(application)
        self._server.add_sockets(bind_sockets(self.port, "127.0.0.1"))

    async def stop(self) -> None:
        self._server.stop()
        await self._server.close_all_connections()


def _silent(handler: RequestHandler) -> None:
    pass


@pytest.fixture
async def server() -> AsyncIterator[DevServer]:
    server = DevServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def app(server: DevServer, provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    routes = [url("/account", Account)]
    async with running_app(provider, api, clock=clock, routes=routes, spa=server.origin, debug=True) as app:
        yield app


async def test_what_no_route_claims_is_forwarded_with_its_own_headers_and_status(
    browser: Browser, server: DevServer
):
    await browser.login("alice")

    response = await browser.http.post(
        "/@vite/x%2fy?import&t=1", content="data", headers={**FETCH_HEADERS, "Origin": browser.base_url}
    )
    received = response.json()

    assert (response.status_code, response.headers["Cache-Control"]) == (418, "max-age=7")
    assert (response.headers["X-Own"], "Set-Cookie" in response.headers) == ("yes", False)
    assert (received["method"], received["uri"]) == ("POST", "/@vite/x%2fy?import&t=1")
    assert received["body"] == "data"
    assert "cookie" not in received["headers"]
    assert received["headers"]["host"] == server.origin.removeprefix("http://")
    assert received["headers"]["origin"] == server.origin
    assert received["headers"]["sec-fetch-site"] == "same-origin"


@pytest.mark.parametrize("path", ["/static/src/x.js", "/favicon.ico", "/.vite/deps/vue.js", "/%2e%2e/x"])
async def test_so_are_paths_that_a_build_would_not_have(browser: Browser, path: str):
    assert (await browser.fetch(path, csrf=False)).status_code == 418


async def test_routes_remote_apis_and_files_of_the_engine_come_first(browser: Browser):
    await browser.login("alice")

    assert "Alice Adams" in (await browser.get("/account")).text
    assert (await browser.fetch("/api/echo")).status_code == 200
    assert (await browser.get("/static/css/app.css")).headers["Content-Type"] == "text/css"
    assert (await browser.fetch("/bff/nothing", csrf=False)).json()["code"] == "not_found"


async def test_data_is_never_asked_of_it(browser: Browser):
    response = await browser.fetch("/orders/nothing")

    assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_a_page_may_run_its_own_inline_scripts_and_what_a_development_server_needs(browser: Browser):
    response = await browser.get("/")
    policy = parsed(response.headers["Content-Security-Policy"])

    assert response.text == PAGE
    assert policy["script-src"] == ["'self'", hash_of(INLINE), "'unsafe-eval'"]
    assert policy["style-src"] == ["'self'", "'unsafe-inline'"]
    assert policy["connect-src"] == ["'self'", browser.base_url.replace("http", "ws")]
    assert policy["default-src"] == ["'none'"]


async def test_a_page_that_the_browser_has_comes_again_with_the_policy_of_its_scripts(browser: Browser):
    first = await browser.get("/")
    conditional = {**NAVIGATION_HEADERS, "If-None-Match": first.headers["ETag"]}
    again = await browser.http.get("/", headers=conditional)

    assert (again.status_code, again.text) == (200, PAGE)
    assert again.headers["Content-Security-Policy"] == first.headers["Content-Security-Policy"]


async def test_a_head_of_a_page_is_the_servers(browser: Browser):
    response = await browser.http.head("/", headers=FETCH_HEADERS)

    assert (response.status_code, response.headers["Content-Length"]) == (200, str(len(PAGE)))


async def test_a_response_is_passed_on_as_it_arrives(browser: Browser, server: DevServer):
    async with browser.http.stream("GET", "/slow", headers=FETCH_HEADERS) as response:
        chunks = response.aiter_text()

        assert await anext(chunks) == "first"
        server.go_on.set()
        assert await anext(chunks) == "second"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("evil.example", 403), ("localhost.evil.example:8888", 403), ("127.0.0.1.nip.io", 403), ("", 403)),
        *(("app.localhost", 418), ("127.0.0.1:8888", 418), ("[::1]:8888", 418), ("192.168.0.7", 418)),
    ],
)
async def test_a_site_whose_name_leads_here_does_not_read_the_source_code(
    host: str, status: int, browser: Browser
):
    assert (await browser.http.get("/src/main.ts", headers={"Host": host})).status_code == status


async def test_a_redirect_on_the_server_is_one_on_this_site(browser: Browser):
    assert (await browser.fetch("/elsewhere", csrf=False)).headers["Location"] == "/moved?x=1"


async def test_its_client_gets_a_websocket_with_the_subprotocol(app: RunningApp, server: DevServer):
    headers = {"Origin": app.base_url, "Cookie": "bff=secret"}
    async with (
        ClientSession() as http,
        http.ws_connect(f"{app.base_url}/hmr?token=x", protocols=["vite-hmr"], headers=headers) as socket,
    ):
        assert socket.protocol == "vite-hmr"
        assert await socket.receive_str() == '{"type":"connected"}'
        await socket.send_str("ping")
        assert await socket.receive_str() == "ping"

    assert Hmr.seen["Origin"] == server.origin
    assert "Cookie" not in Hmr.seen


async def test_another_site_gets_none(app: RunningApp):
    async with ClientSession() as http:
        with pytest.raises(WSServerHandshakeError, match="403"):
            await http.ws_connect(f"{app.base_url}/hmr", headers={"Origin": "http://evil.example"})


async def test_as_long_as_it_is_not_up_a_page_says_so_and_looks_again(browser: Browser, server: DevServer):
    await server.stop()

    page = await browser.get("/orders/5")
    assert (page.status_code, page.headers["Retry-After"]) == (503, "1")
    assert server.origin in page.text
    assert '<meta http-equiv="refresh" content="1">' in page.text
    assert (await browser.fetch("/main.js", csrf=False)).json()["code"] == "api_unreachable"

    await server.start()
    assert (await browser.get("/")).text == PAGE


@pytest.mark.parametrize(
    ("value", "debug", "why"),
    [
        ("http://localhost:5173", False, "needs BFF_DEBUG"),
        ("https://vite.example.com", False, "needs BFF_DEBUG"),
        ("http://localhost:5173/app", True, "without a path"),
        ("http://user:password@localhost:5173", True, "without user name"),
        ("ftp://localhost", True, "http"),
        ("/no/such/folder", False, "no index.html in /no/such/folder"),
        ("/no/such/folder", True, "build the front end first"),
    ],
)
def test_what_cannot_be_served_stops_the_start(value: str, debug: bool, why: str):
    with pytest.raises(ValueError, match=why):
        spa_location(value, debug=debug)


def test_no_session_and_no_hop_passes_in_either_direction():
    sent = [("Cookie", "bff=x"), ("DPoP", "x"), ("Connection", "X-Hop"), ("X-Hop", "1"), ("Accept", "*/*")]
    foreign = [("Origin", "http://evil.example")]
    received = [("Set-Cookie", "bff=x"), ("Keep-Alive", "1"), ("Location", "https://elsewhere.example/")]

    passed = server_headers([*sent, *foreign], base_url="http://ours", server="http://theirs")
    assert passed == [("Accept", "*/*"), *foreign]
    assert browser_headers(received, server="http://theirs") == received[2:]
