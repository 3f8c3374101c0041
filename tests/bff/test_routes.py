"""Promises that every route keeps: who is let in, and which headers every answer carries."""

from __future__ import annotations

import re
from itertools import product
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from tornado.web import RequestHandler

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Client, Provider
from app.bff.handlers.backchannel import BackChannelLogout
from app.bff.handlers.base import ApiHandler, BaseHandler
from app.bff.handlers.callback import Callback
from app.bff.handlers.frontchannel import FrontChannelLogout
from app.bff.handlers.health import Alive, Ready
from app.bff.handlers.login import Login, SilentLogin
from app.bff.handlers.logout import Logout, LogoutCallback
from app.bff.server import bff_routes
from app.bff.web.cross_origin import CSRF_HEADER
from tests.bff.application.main import ROUTES as PAGES
from tests.bff.harness import (
    CLIENT_ID,
    CLIENT_SECRET,
    FETCH_HEADERS,
    NAVIGATION_HEADERS,
    Browser,
    Clock,
    RunningApp,
    make_settings,
    new_browser,
    response_cookies,
    running_app,
)
from tests.bff.streaming_api import wire_of

METHODS = RequestHandler.SUPPORTED_METHODS
NAVIGATIONS = {Login, SilentLogin, Callback, Logout, LogoutCallback}
HEALTH = {Alive, Ready}
REMOTE = {"remote_apis": [{"path": "/api", "client": "apiClient"}]}


def path_of(rule: Any) -> str:
    """A path that the rule matches."""
    pattern = getattr(rule.matcher, "regex", None)
    return re.sub(r"\(.*?\)", "x", pattern.pattern.rstrip("$")) if pattern else "/api/echo"


def kind_of(handler: Any) -> str:
    if handler in NAVIGATIONS:
        return "navigation"
    if handler in HEALTH:
        return "health"
    if handler in (BackChannelLogout, FrontChannelLogout):
        return "provider"
    if issubclass(handler, ApiHandler):
        return "data"
    return "page" if issubclass(handler, BaseHandler) else "unknown"


SERVICES: Any = SimpleNamespace(settings=make_settings(**REMOTE))  # no others are needed to list the routes
ROUTES = {path_of(rule): kind_of(rule.target) for rule in [*bff_routes(SERVICES), *PAGES]}
ROUTES |= {"/api/echo": "data", "/bff/forward-auth": "proxy"}  # `BffApplication.find_handler`


DATA_ROUTES = [path for path, kind in ROUTES.items() if kind == "data"]


def of_kind(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", [path for path, kind in ROUTES.items() if kind in kinds])


@pytest.fixture
async def browser(browser: Browser) -> Browser:
    """A browser in which Alice is signed in: what is refused is not refused for want of a session."""
    await browser.login("alice")
    return browser


async def begun(browser: Browser, path: str, **headers: str) -> httpx2.Response:
    """What our own page is answered, as soon as it begins: a stream of events has no end."""
    async with browser.http.stream(
        "GET", path, headers={**FETCH_HEADERS, CSRF_HEADER: "1", **headers}
    ) as response:
        return response


def test_every_route_is_of_a_kind_that_these_tests_know():
    assert set(ROUTES.values()) == {"page", "navigation", "data", "proxy", "provider", "health"}


# Who is let in


@of_kind("data")
async def test_a_data_route_refuses_every_method_without_our_header(
    path: str, api: DemoApi, browser: Browser
):
    for method in METHODS:
        response = await browser.fetch(path, method, csrf=False)

        assert response.status_code == 403, method
        assert method == "HEAD" or response.json()["code"] == "csrf_rejected"
    assert api.counts.total() == 0


@of_kind("data")
async def test_a_data_route_refuses_our_header_with_another_value(path: str, browser: Browser):
    for value in ("", "0", "true", "1, 1", "11"):
        response = await browser.fetch(path, headers={CSRF_HEADER: value})

        assert (response.status_code, response.json()["code"]) == (403, "csrf_rejected"), value


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, id="another site"),
        pytest.param({"Origin": "https://b.localhost", "Sec-Fetch-Site": "same-site"}, id="a sibling site"),
        pytest.param({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, id="a site that hides"),
        pytest.param({"Origin": "https://evil.example"}, id="another origin, in an old browser"),
        pytest.param({"Origin": "null"}, id="an origin that hides, in an old browser"),
        pytest.param({"Origin": "http://localhost:1"}, id="another port, in an old browser"),
    ],
)
async def test_every_data_route_refuses_even_our_header_from(headers: dict[str, str], browser: Browser):
    for method, path in product(METHODS, DATA_ROUTES):
        response = await browser.http.request(method, path, headers={CSRF_HEADER: "1", **headers})

        assert response.status_code == 403, (method, path)
        assert response.headers["Content-Type"] == "application/problem+json"
        assert method == "HEAD" or response.json()["code"] == "csrf_rejected"


@of_kind("data")
async def test_a_data_route_answers_our_own_page(path: str, app: RunningApp, browser: Browser):
    response = await begun(browser, path, Origin=app.base_url)

    assert response.status_code == 200 or (path, response.status_code) == ("/bff/sessions/x", 405)


@of_kind("page", "navigation", "health")
async def test_what_a_link_can_reach_is_read_only(path: str, browser: Browser):
    by_post = {"POST"} if path in ("/bff/login", "/bff/logout") else set()
    for method in set(METHODS) - {"GET", "HEAD"} - by_post:
        response = await browser.fetch(path, method)

        assert response.status_code == 405, method
        assert response.headers["Allow"] in ("GET, HEAD", "GET, HEAD, POST")


@pytest.mark.parametrize(
    "path",
    [*(path for path, kind in ROUTES.items() if kind not in ("proxy", "provider")), "/static/css/app.css"],
)
async def test_what_another_site_posts_is_refused(path: str, app: RunningApp, browser: Browser):
    sent = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    session = await app.session_of(browser)
    response = await browser.fetch(path, "POST", headers=sent)

    without_post = (405, "method_not_allowed") if path in ("/bff/silent-login", "/bff/callback") else None
    assert (response.status_code, response.json()["code"]) == (without_post or (403, "csrf_rejected"))
    assert await app.session_of(browser) == session


@pytest.mark.parametrize("path", [*ROUTES, "/nowhere", "/static/css/app.css"])
async def test_no_other_origin_may_read_an_answer(path: str, browser: Browser):
    cross_site = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    preflight = {
        **cross_site,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": CSRF_HEADER,
    }
    for response in (
        await browser.fetch(path, "OPTIONS", csrf=False, headers=preflight),
        await browser.fetch(path, headers=cross_site),
    ):
        assert not [name for name in response.headers if name.startswith("access-control-")]


@of_kind("page", "navigation")
async def test_a_link_from_another_site_ends_no_session(path: str, app: RunningApp, browser: Browser):
    session = await app.session_of(browser)
    await browser.navigate_from_other_site(path)
    await browser.get(path)

    assert await app.session_of(browser) == session


SPECULATIVE = [
    {"Sec-Purpose": "prefetch"},
    {"Sec-Purpose": "prefetch;prerender"},
    {"Purpose": "prefetch"},
    {"X-Purpose": "preview"},
    {"X-Moz": "prefetch"},
]


@pytest.mark.parametrize("speculative", SPECULATIVE, ids=str)
async def test_what_a_browser_fetches_speculatively_starts_and_ends_nothing(
    speculative: dict[str, str], app: RunningApp, browser: Browser
):
    session = await app.session_of(browser)
    link = await browser.logout_url()
    back = await browser.choose(await browser.start_login())
    for path in (link, "/bff/login", "/bff/silent-login", back, "/bff/logout/callback", "/bff/frontchannel"):
        answer = await browser.http.get(path, headers={**NAVIGATION_HEADERS, **speculative})
        assert (answer.status_code, answer.content, response_cookies(answer)) == (204, b"", {}), path

    assert await app.session_of(browser) == session
    assert (await browser.get(back)).status_code == 200  # the code is not used up


@pytest.mark.parametrize("speculative", SPECULATIVE, ids=str)
async def test_a_page_that_is_fetched_speculatively_does_not_extend_the_session(
    speculative: dict[str, str], app: RunningApp, browser: Browser, clock: Clock
):
    session = await app.session_of(browser)
    clock.advance(600)
    await browser.get("/", **speculative)
    assert await app.session_of(browser) == session

    await browser.get("/")
    assert await app.session_of(browser) != session


# What every answer carries

EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
OPENER_POLICY = "Cross-Origin-Opener-Policy"
POPUP_ROUTES = ["/bff/login", "/bff/callback", "/bff/silent-login"]  # a login may run in a popup


def assert_is_guarded(response: httpx2.Response) -> None:
    assert EVERYWHERE.items() <= {name: response.headers.get(name) for name in EVERYWHERE}.items()
    opener_policy = None if response.url.path in POPUP_ROUTES else "same-origin-allow-popups"
    assert response.headers.get(OPENER_POLICY) == opener_policy
    assert response.headers["Referrer-Policy"] in ("same-origin", "no-referrer")
    assert "Server" not in response.headers
    assert len(response.headers["X-Request-Id"]) >= 16
    scripts = r"('nonce-[\w-]{22}'|'none')"
    assert re.fullmatch(
        rf"default-src 'none'; script-src {scripts}; style-src 'self'; .*; frame-ancestors 'none'",
        response.headers["Content-Security-Policy"],
    )


@pytest.mark.parametrize(
    "path",
    [
        *(path for path in ROUTES if path != "/bff/silent-login"),  # which one frame may show: ours
        "/nowhere",
        "/static/css/app.css",
        "/static/nowhere.css",
        "/?a=1&a=2",
    ],
)
async def test_every_answer_is_guarded_for_a_page_and_for_a_fetch(path: str, browser: Browser):
    for method, headers in product(("GET", "POST", "DELETE", "OPTIONS"), (NAVIGATION_HEADERS, FETCH_HEADERS)):
        assert_is_guarded(await browser.http.request(method, path, headers=headers))


@pytest.mark.parametrize(
    "query", ["", "?prompt=none", "?prompt=nonsense", "?returnUrl=//x", "?state=x", "?a=1&a=2"]
)
@pytest.mark.parametrize("path", POPUP_ROUTES)
async def test_no_answer_of_a_login_cuts_a_popup_off_from_its_opener(path: str, query: str, browser: Browser):
    answers = [
        await browser.http.request(method, path + query, headers=headers, content=body)
        for method, body in (("GET", b""), ("POST", b""), ("POST", b"a" * 70_000), ("DELETE", b""))
        for headers in (NAVIGATION_HEADERS, FETCH_HEADERS)
    ]

    assert {answer.headers.get(OPENER_POLICY) for answer in answers} == {None}


async def test_a_whole_login_cuts_no_popup_off_from_its_opener(browser: Browser):
    start = await browser.get("/bff/login?returnUrl=/")
    back = await browser.http.get(await browser.choose(start.headers["Location"]))

    assert (start.status_code, back.status_code) == (302, 200)
    assert {answer.headers.get(OPENER_POLICY) for answer in (start, back)} == {None}


@pytest.mark.parametrize("path", [*ROUTES, "/nowhere", "/static/nowhere.css"])
async def test_personal_answers_are_not_cached(path: str, browser: Browser):
    for response in (await browser.get(path), await begun(browser, path)):
        assert response.headers["Cache-Control"] == "no-store"
        assert "ETag" not in response.headers


async def test_a_nonce_counts_once(browser: Browser):
    policies = {(await browser.get("/")).headers["Content-Security-Policy"] for _ in range(3)}

    assert len(policies) == 3


async def test_the_page_s_scripts_carry_the_nonce_of_its_policy(browser: Browser):
    response = await browser.get("/account")
    [nonce] = set(re.findall(r'nonce="([^"]*)"', response.text))

    assert f"script-src 'nonce-{nonce}'" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/", "/account", "/nowhere", "/bff/login?returnUrl=//x", "/bff/callback"])
@pytest.mark.parametrize("signed_in", [True, False])
async def test_a_page_has_no_script_or_style_of_its_own(path: str, signed_in: bool, browser: Browser):
    if not signed_in:
        browser.delete_cookie("bff")
    page = (await browser.get(path)).text

    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)
    assert not re.search(r"<script(?![^>]*\ssrc=)", page)


async def test_hsts_is_sent_over_https_only(provider: Provider, api: DemoApi, clock: Clock, browser: Browser):
    secure = {"base_url": "https://app.example"}
    async with running_app(provider, api, clock=clock, **secure) as app, new_browser(app) as other:
        on_https = await other.get("/nowhere")

    assert on_https.headers["Strict-Transport-Security"] == "max-age=63072000"
    assert "Strict-Transport-Security" not in (await browser.get("/nowhere")).headers


async def test_the_answers_to_a_login_do_not_tell_where_the_browser_comes_from(browser: Browser):
    for path in (path for path, kind in ROUTES.items() if kind == "navigation"):
        assert (await browser.get(path)).headers["Referrer-Policy"] == "no-referrer"


# What is not there


@pytest.mark.parametrize(
    "path", ["/nowhere", "/bff", "/bff/", "/bff/nowhere", "/static/../app/main.py", "/static/"]
)
async def test_what_is_not_there_is_404_as_a_page_or_a_problem_document(path: str, browser: Browser):
    page = await browser.get(path)
    problem = await browser.fetch(path)

    assert (page.status_code, problem.status_code) in ((404, 404), (403, 403))
    assert page.headers["Content-Type"].startswith("text/html")
    assert problem.headers["Content-Type"] == "application/problem+json"
    assert problem.json()["request_id"] == problem.headers["X-Request-Id"]


async def test_a_problem_document_says_all_that_it_must(browser: Browser):
    response = await browser.fetch("/nowhere", "POST")

    assert response.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "code": "not_found",
        "detail": "There is nothing at this address.",
        "request_id": response.headers["X-Request-Id"],
    }


ODD = [
    "%00",
    "css/app.css%00",
    "a%00b",
    "%ff",
    "%c0%ae",
    "%ed%a0%80",
    "%zz",
    "*",
    "..",
    "%2e%2e%2fx",
    "%5c",
    "a" * 300,
]
ODD += [
    "a" * 5000,
    "x/" * 500,
    "%EF%BC%8E",
    "?%ff=%ff",
    "?v=%ff",
    "?a&a",
    "css/",
    "css/app.css/x",
    "\xff",
    "%0d%0aX:y",
]
PREFIXES = ["/", "/static/", "/static/css/app.css", "/nowhere/", "/bff/sessions/", *ROUTES]


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_no_odd_path_is_an_error_of_ours(prefix: str, app: RunningApp):
    for odd in ODD:
        async with wire_of(app) as wire:
            head = f"GET {prefix}{odd} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            await wire.send(head.encode("latin-1"))

            assert (await wire.head()).status < 500, odd


# Files


async def version_of(browser: Browser, file: str) -> str:
    found = re.search(rf'/static/{re.escape(file)}\?v=(\w+)"', (await browser.get("/")).text)
    assert found
    return found[1]


async def test_a_file_is_cached_for_good_under_its_own_version(browser: Browser):
    version = await version_of(browser, "css/app.css")
    response = await browser.get(f"/static/css/app.css?v={version}")

    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "max-age=315360000"


@pytest.mark.parametrize("query", ["", "?v=", "?v=0123456789abcdef"])
async def test_under_any_other_version_a_file_is_revalidated(query: str, browser: Browser):
    response = await browser.get(f"/static/css/app.css{query}")
    again = await browser.get(f"/static/css/app.css{query}", If_None_Match=response.headers["ETag"])

    assert response.headers["Cache-Control"] == "no-cache"
    assert again.status_code == 304
    assert EVERYWHERE.items() <= {name: again.headers.get(name) for name in EVERYWHERE}.items()


async def test_a_file_sets_no_cookie_and_wants_none(provider: Provider, browser: Browser):
    provider.clients[CLIENT_ID] = Client(CLIENT_ID, CLIENT_SECRET, ())
    response = await browser.http.get("/static/css/app.css", headers={"Cookie": "bff=garbage"})

    assert response.status_code == 200
    assert not response_cookies(response)
