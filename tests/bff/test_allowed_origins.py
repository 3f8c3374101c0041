"""BFF_ALLOWED_ORIGINS: what pages of a sibling origin may do, and that no other origin may do it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from itertools import product
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
from pydantic import ValidationError

from app.bff import ApiHandler, BaseHandler, SocketHandler, url
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.errors import BadReturnUrl
from app.bff.web.cross_origin import csrf_refusal, is_sent_from_elsewhere, login_refusal, socket_refusal
from app.bff.web.return_paths import return_url
from tests.bff.application.main import ROUTES as PAGES
from tests.bff.harness import (
    FETCH_HEADERS,
    NAVIGATION_HEADERS,
    Browser,
    Clock,
    RunningApp,
    make_settings,
    new_browser,
    refresh_target,
    running_app,
)
from tests.bff.test_routes import DATA_ROUTES
from tests.bff.websocket_clients import refused_handshake

APP, OTHER = "http://localhost:5173", "http://localhost:5174"  # another port is another origin of one site
SECRET = "s" * 32
SENT = {**FETCH_HEADERS, "X-CSRF": "1", "Origin": APP, "Sec-Fetch-Site": "same-site"}
ALLOW_ORIGIN, ALLOW_CREDENTIALS = "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"
NOT_ALLOWED = [
    pytest.param({"Origin": OTHER}, id="another port"),
    pytest.param({"Origin": "https://localhost:5173"}, id="another scheme"),
    pytest.param({"Origin": "null"}, id="a sandboxed frame"),
    pytest.param({"Origin": "*"}, id="a wildcard"),
    pytest.param({"Origin": ""}, id="an empty origin"),
    pytest.param({"Origin": f"{APP}/"}, id="with a slash"),
    pytest.param({"Origin": f"{APP}.evil.example"}, id="a longer name"),
    pytest.param({"Origin": "HTTP://LOCALHOST:5173"}, id="in capitals"),
    pytest.param({"Origin": f"{APP}, {APP}"}, id="twice"),
    pytest.param({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, id="another site"),
    pytest.param({"Origin": APP, "Sec-Fetch-Site": "cross-site"}, id="what the browser calls another site"),
]


# Which may be named


@pytest.mark.parametrize(
    ("base_url", "written", "read"),
    [
        ("https://bff.example.com", "https://app.example.com", ("https://app.example.com",)),
        ("https://bff.example.com", "https://APP.Example.com:443", ("https://app.example.com",)),
        ("https://bff.example.com:8443", "https://bff.example.com", ("https://bff.example.com",)),
        ("https://example.com", "https://a.b.example.com", ("https://a.b.example.com",)),
        ("https://a.b.example.com", "https://example.com", ("https://example.com",)),
        (
            "https://bff.example.com",
            " https://a.example.com , https://b.example.com:444,",
            ("https://a.example.com", "https://b.example.com:444"),
        ),
        ("http://localhost:8888", "http://localhost:5173", ("http://localhost:5173",)),
        ("http://127.0.0.1:8888", "http://127.0.0.1", ("http://127.0.0.1",)),
        ("http://[::1]:8888", "http://[::1]:5173", ("http://[::1]:5173",)),
        ("https://bff.example.com", "", ()),
    ],
)
def test_an_origin_of_the_same_site_is_kept_as_browsers_write_it(
    base_url: str, written: str, read: tuple[str, ...]
):
    assert make_settings(base_url=base_url, allowed_origins=written).allowed_origins == read


@pytest.mark.parametrize(
    "written",
    [
        "*",
        "null",
        "app.example.com",
        "//app.example.com",
        "https://*.example.com",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://app.example.com?",
        "https://app.example.com#",
        "https://user@app.example.com",
        "http://app.example.com",
        "https://example.org",
        "https://bff.example.com",
        "https://bff.example.com:443",
        "https://example.com.evil.com",
        "https://notexample.com",
        "https://com",
        "https://app.example.com https://b.example.com",
        "file://app.example.com",
    ],
)
def test_anything_else_stops_the_start(written: str):
    with pytest.raises(ValidationError, match="allowed_origins"):
        make_settings(base_url="https://bff.example.com", allowed_origins=written)


@pytest.mark.parametrize(
    ("base_url", "written"),
    [
        ("http://10.0.0.1", "http://10.9.0.1"),
        ("http://127.0.0.1", "http://1.0.0.1"),
        ("http://app.localhost", "http://bff.localhost"),
        ("https://intranet", "https://app"),
    ],
)
def test_addresses_and_single_names_have_no_siblings(base_url: str, written: str):
    with pytest.raises(ValidationError, match="not of the same site"):
        make_settings(base_url=base_url, debug=True, allowed_origins=written)


# The rules


@pytest.mark.parametrize("site", ["same-site", None])
def test_an_allowed_origin_may_send_our_header(site: str | None):
    headers = {"X-CSRF": "1", "Origin": APP, **({"Sec-Fetch-Site": site} if site else {})}

    assert csrf_refusal(headers, (APP,)) is None
    assert csrf_refusal(headers, (OTHER,))
    assert csrf_refusal({**headers, "X-CSRF": "0"}, (APP,))


@pytest.mark.parametrize("sent", NOT_ALLOWED)
def test_no_other_origin_may(sent: dict[str, str]):
    assert csrf_refusal({"X-CSRF": "1", "Sec-Fetch-Site": "same-site", **sent}, (APP,))


@pytest.mark.parametrize(
    ("headers", "is_ours"),
    [
        ({"Sec-Fetch-Site": "same-site", "Referer": f"{APP}/"}, True),
        ({"Sec-Fetch-Site": "same-site", "Referer": f"{APP}/orders?page=2"}, True),
        ({"Sec-Fetch-Site": "same-site", "Referer": f"{OTHER}/"}, False),
        ({"Sec-Fetch-Site": "same-site", "Referer": f"{APP}.evil.example/"}, False),
        ({"Sec-Fetch-Site": "same-site", "Referer": f"http://evil.example/{APP}/"}, False),
        ({"Sec-Fetch-Site": "same-site", "Referer": "http://localhost:5173@evil.example/"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Referer": f"{APP}/"}, False),
    ],
)
def test_a_navigation_is_of_an_allowed_origin_if_the_browser_says_so(headers: dict[str, str], is_ours: bool):
    in_a_frame = {"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Mode": "navigate", **headers}

    assert is_sent_from_elsewhere(headers, (APP,)) is not is_ours
    assert (login_refusal(in_a_frame, (APP,)) is None) is is_ours
    assert is_sent_from_elsewhere(headers, ())
    assert login_refusal(in_a_frame, ())


def test_an_allowed_origin_may_open_a_socket():
    assert socket_refusal({"Origin": APP}, "http://localhost:8888", (APP,)) is None
    for origin in (OTHER, "null", "*", f"{APP}/", ""):
        assert socket_refusal({"Origin": origin}, "http://localhost:8888", (APP,)), origin


# The routes


class Chat(SocketHandler):
    wants_session = False


class Notes(ApiHandler):
    max_body_bytes = 10

    def get(self) -> None:
        self.finish_json([])

    def put(self) -> None:
        self.set_status(204)


class Private(Notes):
    cors_methods = ("GET",)


class Form(BaseHandler):
    def post(self) -> None:
        self.check_csrf()
        self.set_status(204)


ROUTES = [*PAGES, url("/chat", Chat), url("/notes", Notes), url("/private", Private), url("/form", Form)]


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    allowed = {"allowed_origins": APP, "forward_auth_secret": SECRET}
    async with running_app(provider, api, clock=clock, routes=ROUTES, **allowed) as app:
        yield app


@pytest.fixture
async def browser(app: RunningApp) -> AsyncIterator[Browser]:
    async with new_browser(app) as browser:
        await browser.login("alice")
        yield browser


async def begun(browser: Browser, method: str, path: str, headers: dict[str, str]) -> httpx2.Response:
    async with browser.http.stream(method, path, headers=headers) as response:
        return response


def allows(response: httpx2.Response, origin: str = APP) -> bool:
    sent = [response.headers.get_list(name) for name in (ALLOW_ORIGIN, ALLOW_CREDENTIALS)]
    assert sent in ([[origin], ["true"]], [[], []])
    return bool(sent[0])


@pytest.mark.parametrize("path", [*DATA_ROUTES, "/notes", "/api/todos", "/bff/sessions/none"])
async def test_a_page_of_an_allowed_origin_reads_the_answers_of_data_routes(path: str, browser: Browser):
    for method in ("GET", "HEAD", "DELETE"):
        response = await begun(browser, method, path, SENT)

        assert response.status_code != 403, method
        assert allows(response)
        assert "Origin" in response.headers["Vary"]
        assert "X-Request-Id" in response.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("sent", NOT_ALLOWED)
async def test_a_page_of_another_origin_neither_calls_nor_reads_them(sent: dict[str, str], browser: Browser):
    for method, path in product(("GET", "PUT"), ("/bff/user", "/notes", "/api/echo", "/bff/events")):
        response = await begun(browser, method, path, {**SENT, **sent})

        assert response.status_code == 403, (method, path)
        assert ALLOW_ORIGIN not in response.headers or sent["Origin"] == APP
        assert response.headers["Vary"] == "Origin"


async def test_what_the_answer_is_does_not_matter(api: DemoApi, browser: Browser):
    refused = await browser.http.get("/bff/user", headers={**SENT, "X-CSRF": "0"})
    too_large = await browser.http.put("/notes", headers=SENT, content=b"a" * 100)
    changed = await browser.http.put("/notes", headers=SENT)
    browser.delete_cookie("bff")
    anonymous = await browser.http.get("/bff/sessions", headers=SENT)
    await api.stop()
    unreachable = await browser.http.get("/api/echo", headers={**SENT})

    answers = [refused, too_large, changed, anonymous, unreachable]
    assert [each.status_code for each in answers] == [403, 413, 204, 401, 401]
    assert all(map(allows, answers))


async def test_the_names_of_an_api_s_headers_are_readable(browser: Browser):
    response = await browser.http.get("/api/echo", headers=SENT)
    exposed = response.headers["Access-Control-Expose-Headers"].split(", ")

    assert {"etag", "location", "content-disposition", "link", "Retry-After"} <= set(exposed)
    assert "*" not in exposed


@pytest.mark.parametrize("path", ["/", "/account", "/bff/login", "/bff/logout", "/form", "/healthz", "/none"])
async def test_no_page_is_shared(path: str, browser: Browser):
    for method in ("GET", "POST"):
        if (method, path) != ("POST", "/bff/logout"):
            response = await browser.http.request(method, path, headers=SENT)
            assert ALLOW_ORIGIN not in response.headers, method
    assert (await browser.http.post("/form", headers=SENT)).status_code == 403


async def test_a_handler_may_share_less(browser: Browser):
    read, changed = [
        await browser.http.request(method, "/private", headers=SENT) for method in ("GET", "PUT")
    ]
    asked = await browser.http.options("/private", headers=PREFLIGHT)

    assert (read.status_code, allows(read)) == (200, True)
    assert (changed.status_code, allows(changed)) == (403, False)
    assert asked.headers["Access-Control-Allow-Methods"] == "GET"


async def test_it_is_off_by_default(provider: Provider, api: DemoApi, clock: Clock):
    async with running_app(provider, api, clock=clock) as app, new_browser(app) as browser:
        await browser.login()
        for path in ("/bff/user", "/api/echo"):
            asked = await browser.http.options(path, headers=PREFLIGHT)
            response = await browser.http.get(path, headers=SENT)

            assert (asked.status_code, response.status_code) == (403, 403)
            assert not [name for each in (asked, response) for name in each.headers if "access-c" in name]
            assert "Vary" not in response.headers


# Preflights: a browser sends no cookie and no X-CSRF with them

PREFLIGHT = {
    "Origin": APP,
    "Sec-Fetch-Site": "same-site",
    "Sec-Fetch-Mode": "cors",
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "content-type,x-csrf",
}


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/bff/user", "GET, HEAD"),
        ("/bff/sessions", "GET, HEAD, DELETE"),
        ("/bff/sessions/x", "DELETE"),
        ("/bff/events", "GET, HEAD"),
        ("/bff/logout", "POST"),
        ("/notes", "GET, HEAD, PUT"),
        ("/api/echo", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
    ],
)
async def test_a_preflight_is_granted(path: str, methods: str, app: RunningApp, api: DemoApi):
    async with httpx2.AsyncClient(base_url=app.base_url) as http:
        response = await http.options(path, headers=PREFLIGHT)

    assert (response.status_code, response.content) == (204, b"")
    assert allows(response)
    assert response.headers["Access-Control-Allow-Methods"] == methods
    assert response.headers["Access-Control-Allow-Headers"] == "content-type,x-csrf"
    assert api.counts.total() == 0


@pytest.mark.parametrize("path", ["/", "/form", "/bff/login", "/bff/callback", "/healthz", "/none", "/chat"])
async def test_a_preflight_for_what_is_no_data_is_not(path: str, browser: Browser):
    response = await browser.http.options(path, headers=PREFLIGHT)

    assert response.status_code >= 400
    assert ALLOW_ORIGIN not in response.headers


@pytest.mark.parametrize("sent", NOT_ALLOWED[:-1])  # of the last one the request itself is refused
async def test_a_preflight_of_another_origin_is_not(sent: dict[str, str], browser: Browser):
    for path in ("/bff/user", "/api/echo", "/bff/logout"):
        response = await browser.http.options(path, headers={**PREFLIGHT, **sent})
        assert response.status_code in (403, 405)
        assert ALLOW_ORIGIN not in response.headers


async def test_header_names_that_are_none_are_not_repeated(browser: Browser):
    sent = {**PREFLIGHT, "Access-Control-Request-Headers": "x-a\tb;<c>"}
    response = await browser.http.options("/bff/user", headers=sent)

    assert not response.headers["Access-Control-Allow-Headers"]


async def test_another_options_request_reaches_the_api(api: DemoApi, browser: Browser):
    response = await browser.http.options("/api/echo", headers=SENT)

    assert response.status_code != 204
    assert api.counts.total() == 1


# Sockets, forward-auth


async def test_an_allowed_origin_shakes_hands(browser: Browser):
    old = {"Sec-WebSocket-Version": "12"}
    answers = [
        await refused_handshake(browser, "/chat", Origin=origin, **old) for origin in (APP, OTHER, "null")
    ]

    assert [answer.status_code for answer in answers] == [426, 403, 403]


async def test_forward_auth_decides_as_a_remote_api_does(browser: Browser):
    asked = {"X-Forward-Auth-Secret": SECRET, "X-Forwarded-Uri": "/api/echo", "X-Forwarded-Method": "GET"}
    statuses = [
        (await browser.http.get("/bff/forward-auth", headers={**SENT, **asked, "Origin": origin})).status_code
        for origin in (APP, OTHER)
    ]

    assert statuses == [204, 403]


# The way back


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        (APP, f"{APP}/"),
        (f"{APP}/", f"{APP}/"),
        (f"{APP}/orders?page=2&x=http://y#top", f"{APP}/orders?page=2&x=http://y#top"),
        ("/orders", "/orders"),
        ("", "/"),
    ],
)
def test_a_url_of_an_allowed_origin_may_be_returned_to(target: str, kept: str):
    assert return_url(target, (APP,)) == kept


@pytest.mark.parametrize(
    "target",
    [
        f"{OTHER}/",
        f"{APP}.evil.example/",
        f"{APP}@evil.example/",
        f"{APP}0/",
        f"{APP}?x=1",
        f"{APP}//evil.example",
        f"{APP}/\\evil.example",
        f"{APP}/a/../b",
        f"{APP}/\tx",
        "http:localhost:5173/",
        "//localhost:5173/",
        "HTTP://localhost:5173/",
        f" {APP}/",
        f"{APP}/" + "a" * 100_000,
        "javascript:alert(1)",
    ],
)
def test_nothing_else_may(target: str):
    with pytest.raises(BadReturnUrl):
        return_url(target, (APP,))
    with pytest.raises(BadReturnUrl):
        return_url(f"{APP}/", ())


async def test_a_login_and_a_logout_lead_back_to_it(app: RunningApp, browser: Browser):
    page = await browser.login("alice", return_url=f"{APP}/orders?page=2")
    link = f"{await browser.logout_url()}&{urlencode({'returnUrl': f'{APP}/bye'})}"
    away = await browser.get(link)
    back = await browser.get((await browser.http.get(away.headers["Location"])).headers["Location"])

    assert refresh_target(page.text) == f"{APP}/orders?page=2"
    assert (back.status_code, back.headers["Location"]) == (302, f"{APP}/bye")


# Logout, silent login


async def test_a_script_signs_out_and_is_told_where_to_navigate_to(app: RunningApp, browser: Browser):
    ended = await browser.http.post("/bff/logout", headers=SENT)
    navigates = {**NAVIGATION_HEADERS, "Sec-Fetch-Site": "same-site", "Referer": f"{APP}/"}
    away = await browser.http.get(ended.json()["url"], headers=navigates)

    assert ended.json() == {"url": f"{app.base_url}/bff/logout"}
    assert allows(ended)
    assert away.headers["Location"].startswith(f"{app.services.provider.issuer}/")


async def test_a_link_of_an_allowed_origin_signs_out_with_the_sid_and_no_other_does(
    app: RunningApp, browser: Browser
):
    link = await browser.logout_url()
    navigates = {**NAVIGATION_HEADERS, "Sec-Fetch-Site": "same-site"}
    tried = [
        (link, {}),
        (link, {"Referer": f"{OTHER}/"}),
        ("/bff/logout", {"Referer": f"{APP}/"}),
        (link, {"Referer": f"{APP}/"}),
    ]
    answers = [await browser.http.get(path, headers={**navigates, **sent}) for path, sent in tried]

    assert [answer.status_code for answer in answers] == [400, 400, 400, 302]


async def test_a_frame_of_an_allowed_origin_hears_of_a_silent_login(app: RunningApp, browser: Browser):
    in_a_frame: dict[str, Any] = {
        **NAVIGATION_HEADERS,
        "Sec-Fetch-Dest": "iframe",
        "Sec-Fetch-Site": "same-site",
        "Referer": f"{APP}/",
    }
    start = await browser.http.get("/bff/silent-login", headers=in_a_frame)
    back = (await browser.http.get(start.headers["Location"])).headers["Location"]
    end = await browser.http.get(back, headers={**in_a_frame, "Sec-Fetch-Site": "same-origin"})

    assert re.findall(r', "([^"]*)"\);', end.text) == [app.base_url, APP]
    for response in (start, end):
        assert f"frame-ancestors 'self' {APP}" in response.headers["Content-Security-Policy"]
        assert "X-Frame-Options" not in response.headers
    refused = await browser.http.get("/bff/silent-login", headers={**in_a_frame, "Referer": f"{OTHER}/"})
    assert '"error": "csrf_rejected"' in refused.text


async def test_no_other_page_may_be_framed(browser: Browser):
    for path in ("/", "/bff/login", "/bff/logout?sid=x", "/none", "/bff/callback"):
        response = await browser.get(path)

        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"], path
        assert response.headers["X-Frame-Options"] == "DENY"
