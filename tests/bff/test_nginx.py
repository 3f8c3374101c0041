"""nginx carries, we decide: the browser notices nothing, but that it is faster."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import stat
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, stream_request_body
from tornado.websocket import WebSocketHandler

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import USERS, Failure, Provider
from app.bff.proxy import rules as remote
from app.bff.settings.api_headers import NEVER_FROM_APIS
from app.bff.web.headers import security_headers
from tests.bff.event_streams import listening
from tests.bff.harness import (
    FETCH_HEADERS,
    Browser,
    Clock,
    access_token_of,
    last_request,
    last_request_headers,
    raw_target,
    refresh_target,
)
from tests.bff.header_tables import NEEDS_A_SETTING, OF_A_TRUSTED_PROXY, PASSES, STAYS_WITH_US
from tests.bff.nginx import Site, running_site, write_certificate
from tests.bff.subprocesses import ROOT, free_ports, wait_until

QUESTION = "/bff/forward-auth"
KEPT_SECONDS = 5
OURS = {name.lower(): value for name, value in security_headers(nonce=None, https=True).items()}
del OURS["cache-control"]
HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
CLIMBING = [
    *("/../secrets", "/..", "/./echo", "/echo/../../secrets", "/echo/..", "/echo/.", "/echo/..?x=1"),
    *("/%2e%2e/secrets", "/%2E./secrets", "/%252e%252e/secrets", "/%25252e%25252e/secrets", "/..%2fsecrets"),
    *("/echo%2f..%2f..%2fsecrets", "/..;/secrets", "/..%3b/secrets", "/..\\secrets", "/%5c..%5csecrets"),
    *("/echo#/../x", "/..%20/secrets", "/%20../secrets", "/..%23", "/..%3fx"),
    *("/%c0%ae%c0%ae/secrets", "/%u002e%u002e/secrets", "/%EF%BC%8E%EF%BC%8E/secrets", "/..%C2%A0/secrets"),
    *("/.%E2%80%8B./secrets", "/%E2%80%A5/secrets"),
]


class Events(RequestHandler):
    """Sends one event, and the other one after `go_on`."""

    def initialize(self, go_on: asyncio.Event) -> None:
        self.go_on = go_on

    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.write("data: first\n\n")
        await self.flush()
        await self.go_on.wait()
        self.write("data: second\n\n")


@stream_request_body
class Upload(RequestHandler):
    """Notes when the headers of a request are there."""

    def initialize(self, happened: list[str]) -> None:
        happened.append("the first is there")

    def data_received(self, chunk: bytes) -> None:
        pass

    def post(self) -> None:
        self.finish("done")


class Echo(WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)


class AppLog:
    """What the application's log says of the requests that it answers from now on."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, logger="app")
        caplog.clear()  # another test may have left the level as low as this
        self._caplog = caplog

    @property
    def paths(self) -> list[str]:
        return [record.path for record in self._answered]

    async def last(self, *paths: str) -> None:
        """Return when these were the last; a line is written after the answer has gone."""

        async def are() -> bool:
            return self.paths[-len(paths) :] == list(paths)

        await wait_until(are)

    def forget(self) -> None:
        self._caplog.clear()

    @property
    def clients(self) -> set[str]:
        return {record.client for record in self._answered}

    @property
    def _answered(self) -> list[Any]:
        return [record for record in self._caplog.records if record.getMessage() == "request answered"]


class Api(DemoApi):
    """The demo API, with a stream of events, and what is needed to hold one back."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider)
        self.go_on = asyncio.Event()

    def routes(self) -> list[Any]:
        root = self._route(r"/api/", "echo", self._echo)
        return [root, (r"/api/events", Events, {"go_on": self.go_on}), *super().routes()]


@pytest.fixture
async def api(provider: Provider) -> AsyncIterator[Api]:
    api = Api(provider)
    await api.start()
    yield api
    await api.stop()


@asynccontextmanager
async def over_tls(api: Api, certificate: Path) -> AsyncIterator[int]:
    """The same API at another port, with a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    [socket] = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application(api.routes(), log_function=lambda handler: None), ssl_options=context)
    server.add_sockets([socket])
    yield socket.getsockname()[1]
    server.stop()
    await server.close_all_connections()


@pytest.fixture
async def site(provider: Provider, api: Api, clock: Clock, tmp_path: Path) -> AsyncIterator[Site]:
    async with running_site(provider, api, tmp_path, clock=clock) as site:
        yield site


@pytest.fixture
async def browser(site: Site) -> AsyncIterator[Browser]:
    """A browser in which Alice is signed in."""
    async with site.browser() as browser:
        await browser.login("alice")
        yield browser


@pytest.fixture
def app_log(browser: Browser, caplog: pytest.LogCaptureFixture) -> AppLog:
    """From when Alice has signed in."""
    return AppLog(caplog)


# Signing in


async def test_people_sign_in_through_nginx_and_get_a_cookie_for_this_host_alone(browser: Browser):
    page = await browser.get("/account")
    claims = (await browser.fetch("/bff/user")).json()

    assert "__Host-bff" in browser.cookie_names()
    assert "Alice Adams" in page.text
    assert {"type": "sub", "value": "alice"} in claims


async def test_tabs_with_long_urls_that_are_left_at_the_login_block_no_page(site: Site):
    longest = "/account?x" + 8182 * "="  # three times as long in the URL of the login
    async with site.browser() as browser:
        for _ in range(6):
            to_login = (await browser.get(longest)).headers["Location"]
            away = (await browser.get(to_login)).headers["Location"]
        cookies = {name: browser.cookie(name) for name in browser.cookie_names() if "bff" in name}
        page = await browser.get("/")
        answer = await browser.get(await browser.choose(away))

    assert len("; ".join(f"{name}={value}" for name, value in cookies.items())) < 4096
    assert page.status_code == 200
    assert refresh_target(answer.text) == longest


async def test_the_session_has_the_name_that_the_settings_and_nginx_give_it(
    provider: Provider, api: Api, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    named = {"__Host-bff": "__Host-a.shop"}
    async with (
        running_site(provider, api, tmp_path, clock=clock, places=named, cookie_name="a.shop") as site,
        site.browser() as browser,
    ):
        await browser.login()
        app_log = AppLog(caplog)
        for _ in range(3):
            assert (await browser.fetch("/orders/echo")).status_code == 200

    assert app_log.paths == [QUESTION]  # the decision is cached for the session


async def test_http_is_only_a_way_to_https(site: Site, browser: Browser):
    response = await browser.get(f"{site.http_url}/account?x=1")

    assert (response.status_code, response.headers["Location"]) == (301, "https://localhost/account?x=1")


async def test_nginx_speaks_http_2(site: Site):
    site.trust.set_alpn_protocols(["h2"])
    port = int(site.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("localhost", port, ssl=site.trust)
    chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    writer.close()

    assert chosen == "h2"


# A call that nginx carries


async def test_nginx_carries_a_call_with_the_users_token(browser: Browser, api: Api, app_log: AppLog):
    response = await browser.fetch("/orders/echo")

    assert response.json()["user"] == "alice"
    assert last_request_headers(api)["authorization"] == f"Bearer {await access_token_of(browser)}"
    assert app_log.paths == [QUESTION]


async def test_for_the_next_calls_it_need_not_ask_again(browser: Browser, app_log: AppLog):
    for _ in range(3):
        assert (await browser.fetch("/orders/echo")).status_code == 200

    assert app_log.paths == [QUESTION]


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ("/orders/", ""),
        ("/orders/echo/a%20b/%C3%A9?x=1&x=2&y=%2F+%26", "echo/a%20b/%C3%A9?x=1&x=2&y=%2F+%26"),
        ("/orders/echo/a.b/...?a=../b;//", "echo/a.b/...?a=../b;//"),
        ("/orders/echo/~!$&'()*+,=:@/", "echo/~!$&'()*+,=:@/"),
        ("/orders/echo/%CE%B1%D0%96/%20a", "echo/%CE%B1%D0%96/%20a"),
    ],
)
async def test_path_and_query_arrive_letter_for_letter(
    sent: str, arrives: str, browser: Browser, api: Api, app_log: AppLog
):
    response = await browser.fetch("/", **raw_target(sent))

    assert response.status_code == 200
    assert f"{last_request(api).path}?{last_request(api).query}".rstrip("?") == f"/api/{arrives}"
    assert app_log.paths == [QUESTION]


async def test_a_body_arrives(browser: Browser, app_log: AppLog):
    response = await browser.fetch("/orders/todos", "POST", json={"title": "Water the plants"})

    assert response.json()["title"] == "Water the plants"
    assert app_log.paths == [QUESTION]


# It is the same as when we carry it


FRAMING = {"connection", "keep-alive", "transfer-encoding", "host", "expect", "server", "date"}
FORWARDED = ("For", "Host", "Proto", "Port", "Prefix", "Uri", "Method", "User", "Email", "Groups", "Server")
BELONGS = {
    "Accept": "text/csv",
    "Accept-Language": "de",
    "If-Match": '"1"',
    "Range": "bytes=1-",
    "X-Mine": "1",
}
SENT = {
    **dict.fromkeys(remote._NOT_UPSTREAM - FRAMING - {"cookie", "x-csrf", "upgrade"}, "1"),
    **dict.fromkeys(map(str.lower, OF_A_TRUSTED_PROXY), "1"),
    **dict.fromkeys(["X_Forwarded_For", "X_Real_IP", "Remote_User", "X.Real.IP", "X_Mine"], "1"),
    **{f"X-Forwarded-{name}": "1" for name in FORWARDED},
    **{f"Sec-Fetch-{name}": "?1" for name in ("User", "Storage-Access")},
    **BELONGS,
}


async def test_the_api_hears_from_nginx_what_it_hears_from_us(browser: Browser, api: Api):
    await browser.fetch("/slow/todos", "POST", headers=SENT, json={"title": "x"})
    from_us = last_request_headers(api)
    await browser.fetch("/orders/todos", "POST", headers=SENT, json={"title": "x"})

    assert last_request_headers(api) == from_us
    assert {name.lower(): value for name, value in BELONGS.items()}.items() <= from_us.items()
    assert not {"cookie", "x-csrf", "origin", "x-forwarded-for"} & from_us.keys()


ANSWERED = {
    **dict.fromkeys(
        {*PASSES, *NEEDS_A_SETTING} - {"Content-Length", "Content-Encoding", "Content-Range"}, "1"
    ),
    **dict.fromkeys(NEVER_FROM_APIS - FRAMING - {"te", "proxy-authorization"}, "loose"),
    **dict.fromkeys({name.lower() for name in STAYS_WITH_US} - FRAMING, "loose"),
    **{f"Access-Control-Allow-{name}": "*" for name in ("Origin", "Headers", "Methods", "Private-Network")},
    **{f"Access-Control-{name}": "true" for name in ("Allow-Credentials", "Expose-Headers", "Max-Age")},
    **{
        "Content-Type": "text/csv",
        "ETag": '"1"',
        "Retry-After": "1",
        "Location": "/elsewhere",
        "Content-Location": "/elsewhere",
        "Vary": "Accept",
    },
}


def test_nginx_lets_the_same_response_headers_pass_as_we_do():
    listed = re.findall(r"'([a-z-]+)',", (ROOT / "deploy/bff-headers.js").read_text().partition("]")[0])

    assert sorted(listed) == sorted(remote._DOWNSTREAM)


LEADS = [
    ("/api/todos/1?x", "{path}/todos/1?x"),
    ("{api}todos/1", "{path}/todos/1"),
    ("7", "{path}/echo/7"),
    ("/elsewhere", "/elsewhere"),
    ("https://elsewhere.example/api/x", "https://elsewhere.example/api/x"),
]


async def test_where_an_api_leads_is_mapped_by_nginx_as_by_us(browser: Browser, api: Api):
    for reference, mapped in LEADS:
        reference = reference.format(api=api.base_url)
        link = f'<{reference}>; rel="next"; title="<7>", </api/x>; rel=up; open="<7>'
        api.fails["echo"] = Failure(
            302, b"{}", {"Location": reference, "Content-Location": reference, "Link": link}
        )
        for path in ("/orders", "/slow"):
            response = await browser.fetch(f"{path}/echo/")
            leads = mapped.format(path=path)

            assert (response.headers["Location"], response.headers["Content-Location"]) == (leads, leads)
            assert (
                response.headers["Link"]
                == f'<{leads}>; rel="next"; title="<7>", <{path}/x>; rel=up; open="<7>'
            )


async def test_nginx_tells_an_api_where_it_is_seen_from_if_its_location_says_so(
    provider: Provider, api: Api, clock: Clock, tmp_path: Path
):
    places = {'set $bff_forwarded "";': "set $bff_forwarded 1;"}
    async with (
        running_site(provider, api, tmp_path, clock=clock, places=places) as site,
        site.browser() as browser,
    ):
        await browser.login()
        await browser.fetch("/orders/todos", headers={"X-Forwarded-Host": "evil.example"})
        told = {k: v for k, v in last_request_headers(api).items() if k.startswith("x-forwarded-")}
        api.fails["echo"] = Failure(302, b"{}", {"Location": "/orders/x"})
        response = await browser.fetch("/orders/echo")

    assert told == {
        "x-forwarded-host": "localhost",
        "x-forwarded-proto": "https",
        "x-forwarded-prefix": "/orders",
    }
    assert response.headers["Location"] == "/orders/x"


OWN_READ = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


async def test_nginx_lets_own_reads_pass_as_we_do_and_has_them_saved(
    provider: Provider, api: Api, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    apis = [{"path": path, "client": "apiClient", "csrf": "same-origin"} for path in ("/orders", "/slow")]
    api.fails["echo"] = Failure(
        200, b"<p>", {"Content-Type": "text/html", "Content-Disposition": "inline; filename=a"}
    )
    async with (
        running_site(provider, api, tmp_path, clock=clock, remote_apis=apis) as site,
        site.browser() as browser,
    ):
        await browser.login()
        log = AppLog(caplog)
        seen: dict[str, list[Any]] = {}
        for path in ("/orders/echo", "/slow/echo"):
            for changed in (
                {},
                {},
                {"Sec-Fetch-Dest": "script"},
                {"Sec-Fetch-Site": "none"},
                {"Purpose": "prefetch"},
                {"X-Moz": "prefetch"},
                {"X-CSRF": "1"},
            ):
                response = await browser.http.get(path, headers=OWN_READ | changed)
                policies = ";".join(response.headers.get_list("Content-Security-Policy"))
                disposition = response.headers.get("Content-Disposition")
                seen.setdefault(path, []).append((response.status_code, disposition, "sandbox" in policies))
        carried_by_us = log.paths.count("/orders/echo")

    saved = (200, "attachment; filename=a", True)
    refused = (403, None, False)
    assert seen["/orders/echo"] == [saved, saved, *4 * [refused], (200, "inline; filename=a", False)]
    assert seen["/slow/echo"] == seen["/orders/echo"]
    assert carried_by_us == 4  # the refusals


CHALLENGES = {
    'Bearer error="insufficient_user_authentication", acr_values="mfa"': True,
    'DPoP error="invalid_token"': True,
    'Basic realm="x"': False,
    'Bearer, Basic realm="x"': False,
}


@pytest.mark.parametrize("challenge", CHALLENGES)
@pytest.mark.parametrize("status", [401, 403])
async def test_a_challenge_passes_nginx_as_it_passes_us(
    challenge: str, status: int, browser: Browser, api: Api
):
    api.fails["echo"] = Failure(status, b"{}", {"WWW-Authenticate": challenge})
    shown = [
        (await browser.fetch(f"{path}/echo")).headers.get_list("WWW-Authenticate")
        for path in ("/slow", "/orders")
    ]

    assert shown == [[challenge] if CHALLENGES[challenge] and status == 401 else []] * 2


@pytest.mark.parametrize("cache_control", ["private, max-age=60", None])
@pytest.mark.parametrize("status", [200, 304, 401, 403, 404, 500, 503])
async def test_the_browser_hears_from_nginx_what_it_hears_from_us(
    status: int, cache_control: str | None, browser: Browser, api: Api
):
    said = {name: value for name, value in {**ANSWERED, "Cache-Control": cache_control}.items() if value}
    api.fails["echo"] = Failure(status, b"body", said)
    from_us, from_nginx = [await browser.fetch(f"{path}/echo") for path in ("/slow", "/orders")]

    assert (from_nginx.status_code, from_nginx.content) == (from_us.status_code, from_us.content)
    for response in (from_us, from_nginx):
        for name in ("X-Request-Id", "Date"):
            response.headers.pop(name, None)
    assert from_nginx.headers == from_us.headers
    assert from_us.headers["Cache-Control"] == "no-store"


# What only we decide


async def test_after_a_sign_out_nginx_refuses_within_seconds(
    provider: Provider, api: Api, clock: Clock, tmp_path: Path
):
    lasting = {"revoke_refresh_token_on_logout": False}  # else the API itself refuses the token at once
    async with (
        running_site(provider, api, tmp_path, clock=clock, **lasting) as site,
        site.browser() as browser,
    ):
        await browser.login("alice")
        stolen = {"Cookie": f"__Host-bff={browser.cookie('__Host-bff')}"}

        async def refused() -> bool:
            return (await browser.fetch("/orders/echo", headers=stolen)).status_code == 401

        assert not await refused()
        await browser.logout()
        began = time.monotonic()
        assert not await refused()
        await wait_until(refused)
        assert time.monotonic() - began < KEPT_SECONDS + 2  # nginx counts in whole seconds
        assert await refused()  # for good


async def test_a_role_taken_away_at_the_provider_is_gone_at_nginx_within_seconds_of_a_refresh(
    provider: Provider, api: Api, clock: Clock, tmp_path: Path
):
    common = {"client": "apiClient", "methods": ["GET", "POST"]}
    for_admins = {"path": "/orders", "require": {"groups": "admins"}, **common}
    apis = [for_admins, {"path": "/slow", **common}]
    async with (
        running_site(provider, api, tmp_path, clock=clock, remote_apis=apis) as site,
        site.browser() as browser,
    ):
        await browser.login("alice")

        async def refused() -> bool:
            return (await browser.fetch("/orders/echo")).status_code == 403

        assert not await refused()
        provider.users = {**USERS, "alice": replace(USERS["alice"], groups=("staff",))}
        clock.advance(provider.access_token_seconds - 30)  # it is renewed, and the old one is still valid
        assert (await browser.fetch("/slow/echo")).status_code == 200
        began = time.monotonic()
        await wait_until(refused)
        assert time.monotonic() - began < KEPT_SECONDS + 2  # nginx counts in whole seconds


async def test_a_request_never_carries_the_token_of_another_user(site: Site, browser: Browser, api: Api):
    async with site.browser() as bobs:
        await bobs.login("bob")
        for _ in range(3):
            users = [(await each.fetch("/orders/echo")).json()["user"] for each in (browser, bobs)]
            assert users == ["alice", "bob"]


async def test_an_api_gets_its_own_token_and_not_that_of_another(
    provider: Provider, api: Api, clock: Clock, tmp_path: Path
):
    ours = {"more": {"base_url": api.base_url, "token": "client"}}
    remote = [{"path": "/orders", "client": "apiClient"}, {"path": "/more", "client": "more"}]
    another = f"set $bff_base http://orders/api; set $bff_host 127.0.0.1:{api.port}; include bff-api.conf;"
    first = "location ^~ /orders {"
    places = {first: f"location ^~ /more {{ set $bff_api /more; {another} }} {first}"}
    async with (
        running_site(
            provider, api, tmp_path, clock=clock, places=places, http_clients=ours, remote_apis=remote
        ) as site,
        site.browser() as browser,
    ):
        await browser.login("alice")
        users = [(await browser.fetch(f"{path}/echo")).json()["user"] for path in ("/orders", "/more") * 2]

    assert users == ["alice", None] * 2


async def test_nginx_gets_no_yes_for_an_api_below_another_that_it_does_not_know(
    provider: Provider, api: Api, clock: Clock, tmp_path: Path, app_log: AppLog
):
    remote = [{"path": path, "client": "apiClient"} for path in ("/orders", "/orders/echo")]
    async with (
        running_site(provider, api, tmp_path, clock=clock, remote_apis=remote) as site,
        site.browser() as browser,
    ):
        await browser.login("alice")
        await browser.fetch("/orders/echo/todos")
        await app_log.last(QUESTION, "/orders/echo/todos")


async def test_nginx_carries_no_spelling_of_a_path_to_the_api_above(
    provider: Provider, api: Api, clock: Clock, tmp_path: Path
):
    below = {"path": "/orders/todos", "client": "apiClient", "methods": ["GET"]}
    remote = [{"path": "/orders", "client": "apiClient"}, below]
    async with (
        running_site(provider, api, tmp_path, clock=clock, remote_apis=remote) as site,
        site.browser() as browser,
    ):
        await browser.login("alice")
        assert (await browser.fetch("/orders/echo", "DELETE")).status_code == 200  # which is not kept
        spelled = [
            f"/orders/{path}/1" for path in ("todos", "%74odos", "%2574odos", "TODOS", "todos;x", "todos.")
        ]
        answers = [(await browser.fetch("/", "DELETE", **raw_target(path))).status_code for path in spelled]

    assert answers == [405, 400, 400, 400, 400, 400]
    assert dict(api.counts) == {"echo": 1}


@pytest.mark.parametrize(
    ("cookies", "status"),
    [
        pytest.param("", 401, id="none"),
        pytest.param("other=1", 401, id="another one"),
        pytest.param("__Host-bff={other}", 401, id="of no session"),
        pytest.param("x__Host-bff={alices}", 401, id="with another name"),
        pytest.param("__Host-bff={alices}; __Host-bff=x", 401, id="of alice and then a wrong one"),
        pytest.param("__Host-bff={other}; __Host-bff={alices}", 401, id="of no session and then of alice"),
    ],
)
async def test_nothing_is_cached_for_a_cookie(
    cookies: str, status: int, site: Site, browser: Browser, app_log: AppLog
):
    await browser.fetch("/orders/todos")
    sent = {"Cookie": cookies.format(alices=browser.cookie("__Host-bff"), other="x" * 43)}
    async with site.browser() as another:
        answers = [(await another.fetch("/orders/echo", headers=sent)).status_code for _ in range(2)]

    assert answers == [status, status]
    assert app_log.paths.count(QUESTION) == 3


@pytest.mark.parametrize("byte", [b"\xa0", b"\x85", b"\xff", b"x", b"!"])
async def test_a_cookie_that_a_sibling_host_has_planted_changes_nothing_that_is_cached(
    byte: bytes, site: Site, browser: Browser, app_log: AppLog
):
    await browser.fetch("/orders/todos")
    alices, planted = f"__Host-bff={browser.cookie('__Host-bff')}".encode(), b"__Host-bff=" + b"x" * 43
    async with site.browser() as another:
        sent = [alices + b"; " + byte + planted, byte + planted + b"; " + alices]
        answers = [await another.fetch("/orders/echo", headers={"Cookie": cookies}) for cookies in sent]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert app_log.paths.count(QUESTION) == 1


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        pytest.param({"csrf": False}, 403, "csrf_rejected", id="without our header"),
        pytest.param({"headers": {"X-CSRF": "0"}}, 403, "csrf_rejected", id="with another value in it"),
        pytest.param(
            {"headers": {"Sec-Fetch-Site": "cross-site"}}, 403, "csrf_rejected", id="from another site"
        ),
        pytest.param({"method": "DELETE"}, 405, "method_not_allowed", id="with another method"),
        pytest.param(
            {"method": "DELETE", "headers": {"X-Forwarded-Method": "GET"}},
            405,
            "method_not_allowed",
            id="in disguise",
        ),
        pytest.param({"headers": {"Cookie": "x=1"}}, 401, "no_session", id="of another session"),
    ],
)
async def test_a_cached_permission_is_not_for_a_request(
    options: dict[str, Any], status: int, code: str, browser: Browser
):
    assert (await browser.fetch("/orders/echo")).status_code == 200
    response = await browser.fetch("/orders/echo", **options)

    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["Content-Type"] == "application/problem+json"


async def test_an_old_browser_is_judged_by_its_origin_each_time(site: Site, browser: Browser):
    answers = [
        await browser.http.get("/orders/echo", headers={"X-CSRF": "1", "Origin": origin})
        for origin in (site.url, "https://evil.example", site.url)
    ]

    assert [response.status_code for response in answers] == [200, 403, 200]


async def test_without_a_session_the_response_is_401_with_a_login_url(site: Site):
    async with site.browser() as anonymous:
        response = await anonymous.fetch("/orders/todos", "POST", content=bytes(1_000_000))

    assert (response.status_code, response.json()["code"]) == (401, "no_session")
    assert response.json()["login_url"] == "/bff/login"


@pytest.mark.parametrize("path", CLIMBING)
async def test_a_cached_permission_does_not_lead_out_of_the_api(path: str, browser: Browser, api: Api):
    await browser.fetch("/orders/todos")
    response = await browser.fetch("/", **raw_target(f"/orders{path}"))

    assert response.status_code == 400
    assert dict(api.counts) == {"todos": 1}


@pytest.mark.parametrize(
    "target", ["/ordersx", "/ORDERS/echo", "/%6frders/echo", "//orders/echo", "/x/../orders/echo"]
)
async def test_a_cached_permission_is_not_for_what_only_looks_like_the_api(
    target: str, browser: Browser, api: Api
):
    await browser.fetch("/orders/todos")
    response = await browser.fetch("/", **raw_target(target))

    assert response.status_code == 404
    assert dict(api.counts) == {"todos": 1}


@pytest.mark.parametrize("target", ["/orders", "/orders?x=1"])
async def test_the_path_of_the_api_itself_we_carry_to_its_base_url_as_it_is_written(
    target: str, browser: Browser, api: Api, app_log: AppLog
):
    response = await browser.fetch("/", **raw_target(target))

    assert response.status_code == 200
    assert last_request(api).path == "/api/"
    assert QUESTION not in app_log.paths


@pytest.mark.parametrize(
    "rest",
    ["a%2Fb", "a;b=c?x=1", "100%25", "/a//b", "%2F/x", "https%3A%2F%2Fa", "C%3A%5Ctemp", "%E9"],
)
async def test_about_a_doubtful_path_we_decide_and_carry_it(
    rest: str, browser: Browser, api: Api, app_log: AppLog
):
    target = f"/orders/echo/{rest}"
    response = await browser.fetch("/", "POST", content=b"body", **raw_target(target))

    assert (response.status_code, last_request(api).body) == (200, "body")
    assert f"{last_request(api).path}?{last_request(api).query}".rstrip("?") == target.replace(
        "/orders", "/api"
    )
    assert QUESTION not in app_log.paths


async def test_a_token_that_the_api_refuses_is_renewed_and_the_body_sent_again(
    browser: Browser, api: Api, provider: Provider
):
    api.rejects.add(await access_token_of(browser))
    title = "Water the plants" * 3000
    response = await browser.fetch("/orders/todos", "POST", json={"title": title})

    assert (response.status_code, response.json()["title"]) == (201, title)
    assert provider.counts["token:refresh_token"] == 1


@pytest.mark.parametrize(
    ("nonce", "carried"), [(None, [QUESTION]), ("a-nonce", [QUESTION, "/orders/echo"])], ids=["nginx", "us"]
)
async def test_each_request_has_a_proof_of_its_own_and_one_with_a_nonce_is_carried_by(
    nonce: str | None,
    carried: list[str],
    provider: Provider,
    api: Api,
    clock: Clock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    api.dpop_nonce = nonce
    async with (
        running_site(provider, api, tmp_path, clock=clock, dpop=True) as site,
        site.browser() as browser,
    ):
        await browser.login("alice")
        app_log = AppLog(caplog)
        users = [(await browser.fetch("/orders/echo")).json()["user"] for _ in range(3)]

    assert users == ["alice"] * 3
    assert app_log.paths == carried * 3


# What a browser cannot do


@pytest.mark.parametrize(
    "target",
    [QUESTION, f"{QUESTION}?x", "/bff//forward-auth", "/bff/forward%2Dauth", "/x/../bff/forward-auth"],
)
async def test_a_browser_cannot_ask_for_the_token(target: str, browser: Browser, app_log: AppLog):
    response = await browser.fetch("/", headers={"X-Forwarded-Uri": "/orders/echo"}, **raw_target(target))

    assert response.status_code == 404
    assert "Authorization" not in response.headers
    assert app_log.paths == []


@pytest.mark.parametrize("path", ["/orders/echo", "/slow/echo"])
async def test_an_api_cannot_lead_it_there(path: str, browser: Browser, api: Api):
    api.fails["echo"] = Failure(200, b"body", {"X-Accel-Redirect": QUESTION})
    response = await browser.fetch(path)

    assert (response.status_code, response.content) == (200, b"body")
    assert "Authorization" not in response.headers


async def test_we_log_who_calls_and_not_who_asks(site: Site, app_log: AppLog):
    async with site.browser(address="127.0.0.3") as browser:
        await browser.fetch("/orders/echo")  # which is answered with 401, by us
        await browser.fetch("/slow/echo")

    await app_log.last(QUESTION, "/orders/echo", "/slow/echo")
    assert app_log.clients == {"127.0.0.3"}


async def test_what_a_browser_says_of_itself_is_not_believed(browser: Browser, api: Api, app_log: AppLog):
    lies = {"X-Forwarded-For": "10.0.0.1", "Forwarded": "for=10.0.0.1", "X-Forwarded-Uri": "/slow/echo"}
    await browser.fetch("/orders/echo", headers=lies)
    await browser.fetch("/slow/echo", headers=lies)

    assert app_log.clients == {"127.0.0.1"}
    assert api.counts["echo"] == 2


# What flows


@pytest.mark.parametrize(("accept", "checked"), [("text/event-stream", False), ("*/*", True)])
async def test_events_arrive_one_by_one(
    accept: str, checked: bool, browser: Browser, api: Api, app_log: AppLog
):
    headers = {**FETCH_HEADERS, "X-CSRF": "1", "Accept": accept}
    async with browser.http.stream("GET", "/orders/events", headers=headers) as response:
        lines = response.aiter_lines()
        assert await anext(lines) == "data: first"

        api.go_on.set()
        assert [line async for line in lines] == ["", "data: second", ""]

    # A request that accepts an event stream is carried by the application, and ends with the session.
    assert (QUESTION in app_log.paths) == checked


@pytest.mark.parametrize("who", ["alice", ""])
async def test_one_browser_does_not_occupy_an_api_and_is_told_when_to_try_again(
    who: str, provider: Provider, api: Api, clock: Clock, tmp_path: Path
):
    limits = {"http_clients": {"apiClient": {"base_url": f"{api.base_url}", "token": "user_or_none"}}}
    async with (
        running_site(provider, api, tmp_path, clock=clock, **limits) as site,
        site.browser() as browser,
        site.browser() as other,
        AsyncExitStack() as held,
    ):
        await other.login("bob")
        if who:
            await browser.login(who)
        headers = {**FETCH_HEADERS, "X-CSRF": "1"}
        for _ in range(50):
            response = await held.enter_async_context(
                browser.http.stream("GET", "/orders/events", headers=headers)
            )
            assert response.status_code == 200
        refused = await browser.fetch("/orders/events")

        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert refused.json()["code"] == "too_many_requests"
        assert (await other.fetch("/orders/echo")).status_code == 200
        api.go_on.set()
        await held.aclose()

        async def is_answered() -> bool:
            return (await browser.fetch("/orders/events")).status_code == 200

        await wait_until(is_answered)


async def test_our_own_events_pass(site: Site, browser: Browser):
    async with listening(browser) as stream:
        assert "X-Accel-Buffering" not in stream.response.headers  # it was for nginx
        await browser.logout()

        assert await stream.rest() == [("session_ended", {"reason": "signed_out"})]


async def test_a_websocket_passes(site: Site):
    site.app.tornado.add_handlers(".*", [("/live", Echo)])
    async with ClientSession() as http, http.ws_connect(f"{site.url}/live", ssl=site.trust) as socket:
        await socket.send_str("hello")

        assert await socket.receive_str(timeout=10) == "hello"


async def test_a_websocket_to_an_api_is_ours_to_carry(browser: Browser, app_log: AppLog):
    await browser.fetch("/orders/echo", headers=HANDSHAKE)

    assert app_log.paths == ["/orders/echo"]


# Files


async def test_files_come_from_nginx_with_our_headers(browser: Browser, app_log: AppLog):
    response = await browser.fetch("/static/bff/bff.js")

    assert response.content == (ROOT / "static/bff/bff.js").read_bytes()
    assert response.headers["Content-Type"] == "application/javascript"
    assert OURS.items() <= response.headers.items()
    assert app_log.paths == []


async def test_a_file_with_a_version_is_cached_for_a_year_and_any_other_revalidated(browser: Browser):
    versioned, plain = [await browser.fetch(f"/static/css/app.css{query}") for query in ("?v=1", "")]
    again = await browser.fetch("/static/css/app.css", headers={"If-None-Match": plain.headers["ETag"]})

    assert versioned.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert plain.headers["Cache-Control"] == "no-cache"
    assert again.status_code == 304


async def test_what_is_not_there_is_our_404(browser: Browser):
    response = await browser.fetch("/static/js/nothing.js")

    assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_files_are_compressed_and_what_is_personal_is_not(browser: Browser):
    file, page = [await browser.get(path) for path in ("/static/css/app.css", "/account")]

    assert file.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in page.headers


# When something fails


async def test_an_api_that_is_away_is_a_problem_document(
    provider: Provider, api: Api, clock: Clock, tmp_path: Path
):
    away = {"api.example.com:443": f"127.0.0.1:{free_ports()}"}
    async with (
        running_site(provider, api, tmp_path, clock=clock, places=away) as site,
        site.browser() as browser,
    ):
        await browser.login("alice")
        response = await browser.fetch("/orders/echo")

    assert (response.status_code, response.json()["code"]) == (502, "api_unreachable")
    assert response.json().keys() == {"type", "status", "code", "title", "detail", "request_id"}
    assert response.headers["Content-Type"] == "application/problem+json"
    assert {**OURS, "cache-control": "no-store"}.items() <= response.headers.items()


TEN_MEGABYTES = 10 * 1024 * 1024


@dataclass
class SentBody:
    """A body that is sent in pieces, and without its length."""

    size: int

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, self.size, 65_536):
            yield bytes(min(65_536, self.size - start))


@pytest.mark.parametrize("kind", [bytes, SentBody], ids=["its length is known", "its length is not known"])
@pytest.mark.parametrize(
    ("path", "accept"),
    [("/orders/echo", "*/*"), ("/orders/echo", "text/event-stream"), ("/slow/echo", "*/*")],
)
async def test_a_body_for_an_api_may_have_ten_megabytes(
    path: str, accept: str, kind: Any, browser: Browser, api: Api
):
    headers = {"Accept": accept}
    fits = await browser.fetch(path, "POST", content=kind(9_900_000), headers=headers)
    calls = api.counts.total()
    too_large = await browser.fetch(path, "POST", content=kind(TEN_MEGABYTES + 1), headers=headers)

    assert fits.status_code == 200
    assert (too_large.status_code, too_large.json()["code"]) == (413, "too_large")
    assert api.counts.total() == calls


@pytest.mark.parametrize("kind", [bytes, SentBody], ids=["its length is known", "its length is not known"])
@pytest.mark.parametrize("path", ["/", "/nowhere", "/bff/backchannel"])
async def test_a_body_for_the_application_may_have_64_kilobytes(
    path: str, kind: Any, browser: Browser, app_log: AppLog
):
    fits = await browser.fetch(path, "POST", content=kind(65_536))
    app_log.forget()
    too_large = await browser.fetch(path, "POST", content=kind(65_537))

    assert fits.status_code in (400, 404, 405)
    assert (too_large.status_code, too_large.json()["code"]) == (413, "too_large")
    assert app_log.paths == []


async def test_an_upload_to_an_api_arrives_piece_by_piece(site: Site, browser: Browser):
    in_flight = site.app.services.in_flight_requests

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await wait_until(lambda: asyncio.sleep(0, len(in_flight) == 1))
        yield b"last"

    assert (await browser.fetch("/slow/echo", "POST", content=body())).status_code == 200


async def test_an_upload_to_the_application_arrives_when_it_is_complete(site: Site, browser: Browser):
    happened: list[str] = []
    site.app.tornado.add_handlers(".*", [("/upload", Upload, {"happened": happened})])

    async def body() -> AsyncIterator[bytes]:
        yield bytes(30_000)
        await asyncio.sleep(0.3)
        happened.append("the last is sent")
        yield bytes(1)

    assert (await browser.fetch("/upload", "POST", content=body())).text == "done"
    assert happened == ["the last is sent", "the first is there"]


@pytest.mark.parametrize(
    ("trusted", "name", "status"),
    [("api.pem", "localhost", 200), ("tls.pem", "localhost", 502), ("api.pem", "other.example", 502)],
    ids=["that it trusts", "that it does not trust", "of another issuer"],
)
async def test_a_token_goes_to_an_api_with_a_certificate(
    trusted: str, name: str, status: int, provider: Provider, api: Api, clock: Clock, tmp_path: Path
):
    async with over_tls(api, write_certificate(tmp_path, "api")) as port:
        places = {
            "https://orders/v1": "https://orders/api",
            "api.example.com:443": f"127.0.0.1:{port}",
            "api.example.com": name,
            "/etc/ssl/certs/ca-certificates.crt": str(tmp_path / trusted),
        }
        async with (
            running_site(provider, api, tmp_path, clock=clock, places=places) as site,
            site.browser() as browser,
        ):
            await browser.login("alice")
            response = await browser.fetch("/orders/echo")

    assert response.status_code == status
    assert api.counts["echo"] == (1 if status == 200 else 0)


# What is secret


async def test_pages_of_allowed_origins_read_what_nginx_carries_and_no_others_do(
    provider: Provider, api: Api, clock: Clock, tmp_path: Path
):
    allowed, other = "https://localhost:5173", "https://localhost:5174"
    sent = {**FETCH_HEADERS, "X-CSRF": "1", "Sec-Fetch-Site": "same-site"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-csrf"}
    places = {'# "https://app.example.com"': f'"{allowed}"'}
    async with (
        running_site(provider, api, tmp_path, clock=clock, places=places, allowed_origins=allowed) as site,
        site.browser() as browser,
    ):
        await browser.login("alice")
        read = [
            await browser.http.request(method, "/orders/echo", headers={**sent, **more, "Origin": origin})
            for origin in (allowed, other)
            for method, more in (("OPTIONS", asked), ("GET", {}), ("GET", {"X-CSRF": "0"}))
        ]

    assert [answer.status_code for answer in read] == [204, 200, 403, 405, 403, 403]
    assert [answer.headers.get_list("Access-Control-Allow-Origin") for answer in read] == [[allowed]] * 3 + [
        []
    ] * 3
    assert [answer.headers.get("Access-Control-Allow-Credentials") for answer in read[:3]] == ["true"] * 3


async def test_a_token_is_in_memory_and_nowhere_else(site: Site, browser: Browser):
    await browser.fetch("/orders/echo")
    await browser.fetch("/orders/echo", "DELETE")
    token = (await access_token_of(browser)).encode()
    on_disk, cached = [
        [file for file in folder.rglob("*") if file.is_file()] for folder in (site.folder, site.decisions)
    ]

    assert [file for file in on_disk if token in file.read_bytes()] == []
    assert [token in file.read_bytes() for file in cached] == [True]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (site.decisions, *cached)} == {0o700, 0o600}
    assert str(browser.cookie("__Host-bff")) not in site.logs


async def test_a_code_is_in_no_log_even_when_we_are_away(
    provider: Provider, api: Api, clock: Clock, tmp_path: Path
):
    away = {"127.0.0.1:8888": f"127.0.0.1:{free_ports()}"}
    async with (
        running_site(provider, api, tmp_path, clock=clock, places=away) as site,
        site.browser() as browser,
    ):
        response = await browser.get("/bff/callback?code=secret-code&state=x")
        await browser.get("/BFF/Logout?sid=secret-sid")

    assert response.status_code == 502
    assert "/bff/callback 502" in site.logs
    assert "secret-" not in site.logs
