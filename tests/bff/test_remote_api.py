"""Remote APIs: what is forwarded with the user's token, and what never leaves."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from tests.bff.harness import (
    NAVIGATION_HEADERS,
    Browser,
    Clock,
    RunningApp,
    access_token_of,
    last_request,
    last_request_headers,
    new_browser,
    raw_target,
    running_app,
    wait_until,
)
from tests.bff.streaming_api import request, wire_of

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@pytest.fixture
async def browser(browser: Browser) -> AsyncIterator[Browser]:
    """A browser in which Alice is signed in."""
    await browser.login("alice")
    return browser


# What goes there


@pytest.mark.parametrize("method", METHODS)
async def test_every_method_arrives_with_path_query_and_body(method: str, api: DemoApi, browser: Browser):
    response = await browser.fetch("/api/echo/a%20b/%C3%A9?x=1&x=2&y=%2F+%26", method, content=b"caf\xc3\xa9")

    assert response.status_code == 200
    assert last_request(api).method == method
    assert last_request(api).path == "/api/echo/a%20b/%C3%A9"
    assert last_request(api).query == "x=1&x=2&y=%2F+%26"
    assert last_request(api).body == "café"


async def test_head_arrives_and_is_answered_without_a_body(api: DemoApi, browser: Browser):
    response = await browser.fetch("/api/echo", "HEAD")

    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["Content-Length"]) > 0  # what GET would have: RFC 9110 §8.6
    assert last_request(api).method == "HEAD"


@pytest.mark.parametrize(
    "target",
    [
        "/api/echo?",
        "/api/echo?%zz",
        "/api/echo/a;b=c",
        "/api/echo/?a=../b",
        "/api/echo/...",
        "/api/echo/a%2Fb",
    ],
)
async def test_a_target_that_stays_inside_arrives_letter_for_letter(
    target: str, api: DemoApi, browser: Browser
):
    response = await browser.fetch("/", **raw_target(target))

    assert response.status_code == 200
    assert f"{last_request(api).path}?{last_request(api).query}".rstrip("?") == target.rstrip("?")


async def test_the_call_carries_the_users_token_and_the_response_does_not_reveal_it(
    api: DemoApi, browser: Browser
):
    response = await browser.fetch("/api/echo")

    assert last_request_headers(api)["authorization"] == f"Bearer {await access_token_of(browser)}"
    assert response.json()["user"] == "alice"
    assert await access_token_of(browser) not in response.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Cookie", "another=1"),
        ("Authorization", "Bearer of-the-browser"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("X-CSRF", "1"),
        ("Referer", "http://localhost/account?secret"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Real-IP", "10.0.0.1"),
        ("Forwarded", "for=10.0.0.1"),
        ("Sec-Fetch-Dest", "empty"),
        ("TE", "trailers"),
        ("X-Named", "in Connection"),
    ],
)
async def test_the_api_does_not_hear_the_browser_s(name: str, value: str, api: DemoApi, browser: Browser):
    cookie = f"bff={browser.cookie('bff')}"
    sent = {"Cookie": cookie, "Connection": "keep-alive, X-Named", name: value}
    sent["Cookie"] = f"{cookie}; another=1"
    await browser.fetch("/api/echo", headers=sent)

    assert last_request_headers(api).get(name.lower()) in (None, f"Bearer {await access_token_of(browser)}")
    assert "bff=" not in str(last_request(api).headers)


async def test_what_a_client_always_sends_the_browser_cannot_replace(
    provider: Provider, api: DemoApi, clock: Clock
):
    keyed = {"apiClient": {"base_url": api.base_url, "token": "user", "headers": {"X-Api-Key": "ours"}}}
    async with (
        running_app(provider, api, clock=clock, http_clients=keyed) as app,
        new_browser(app) as browser,
    ):
        await browser.login()
        await browser.fetch("/api/echo", headers={"x-API-key": "of the browser"})

    assert [value for name, value in last_request(api).headers if name.lower() == "x-api-key"] == ["ours"]


async def test_the_api_hears_what_belongs_to_the_request(api: DemoApi, browser: Browser):
    sent = {"Accept": "text/csv", "Accept-Language": "de", "If-None-Match": '"1"', "X-Mine": "1"}
    await browser.fetch("/api/echo", "POST", headers={**sent, "Content-Type": "text/plain"}, content="x")

    assert {**sent, "Content-Type": "text/plain"}.items() <= dict(last_request(api).headers).items()


async def test_the_host_that_the_api_hears_is_its_own(api: DemoApi, browser: Browser):
    await browser.fetch("/api/echo", headers={"Host": "evil.example"})

    assert last_request_headers(api)["host"] == f"127.0.0.1:{api.port}"


async def test_what_the_browser_did_not_send_is_not_added(api: DemoApi, browser: Browser):
    browser.http.headers.clear()
    await browser.fetch("/api/echo", "POST", content=b"x")

    assert not {"user-agent", "accept-encoding", "content-type"} & last_request_headers(api).keys()


@pytest.mark.parametrize(
    "path",
    [
        "/../secrets",
        "/..",
        "/./echo",
        "/echo/../../secrets",
        "/%2e%2e/secrets",
        "/%2E./secrets",
        "/%252e%252e/secrets",
        "/%25252e%25252e/secrets",
        "/..%2fsecrets",
        "/echo%2f..%2f..%2fsecrets",
        "/..;/secrets",
        "/..%3b/secrets",
        "/..\\secrets",
        "/%5c..%5csecrets",
        "/..%20/secrets",
        "/%c0%ae%c0%ae/secrets",
        "/%u002e%u002e/secrets",
        "/%EF%BC%8E%EF%BC%8E/secrets",
    ],
)
async def test_a_path_that_could_lead_outside_is_refused_here(path: str, api: DemoApi, browser: Browser):
    response = await browser.fetch("/", **raw_target(f"/api{path}"))

    assert response.status_code == 400
    assert response.json()["code"] == "bad_request"
    assert api.counts.total() == 0


@pytest.mark.parametrize(
    "path",
    [
        "/%2F/permissions",
        "//a//b",
        "/https%3A%2F%2Fa",
        "/C%3A%5Ctemp",
        "/a\\b",
        "/%00%0d%0aHost:x",
        "/%E9%/50%",
    ],
)
async def test_what_cannot_climb_arrives_byte_for_byte(path: str, api: DemoApi, browser: Browser):
    response = await browser.fetch("/", **raw_target(f"/api/echo{path}"))

    assert response.status_code == 200
    assert last_request(api).path == f"/api/echo{path}"


@pytest.mark.parametrize("target", ["/api/echo/stra\xc3\x9fe?x=\xc3\x9f", "/api/echo/stra\xdfe?x=\xdf"])
async def test_a_target_beyond_ascii_arrives_percent_encoded(
    target: str, app: RunningApp, api: DemoApi, browser: Browser
):
    async with wire_of(app) as wire:
        await wire.send(request("GET", target, f"Cookie: bff={browser.cookie('bff')}"))
        assert (await wire.answer())[0] == 200

    assert f"{last_request(api).path}?{last_request(api).query}" == quote(
        target, safe="/?=", encoding="latin-1"
    )


@pytest.mark.parametrize("path", ["/http://evil.example/", "/@evil.example/", "/:80/x", "/evil.example"])
async def test_a_path_that_looks_like_another_host_stays_at_the_api(
    path: str, api: DemoApi, browser: Browser
):
    response = await browser.fetch("/", **raw_target(f"/api{path}"))

    assert response.status_code in (400, 404)  # refused here, or not found at the API


@pytest.mark.parametrize(
    "target", ["http://evil.example/api/echo", "http://evil.example/", "/apiecho", "/API/echo"]
)
async def test_nothing_is_forwarded_for(target: str, api: DemoApi, browser: Browser):
    response = await browser.fetch("/", **raw_target(target))

    assert response.status_code == 404
    assert api.counts.total() == 0


# What comes back


@pytest.mark.parametrize("status", [200, 201, 204, 206, 400, 403, 404, 409, 418, 429, 500, 503])
async def test_a_status_of_the_api_is_passed_on(status: int, browser: Browser):
    response = await browser.fetch(f"/api/status/{status}")

    assert response.status_code == status
    assert response.content == (b"" if status == 204 else b"{}")


async def test_a_304_of_the_api_is_passed_on(api: DemoApi, browser: Browser):
    api.fails["echo"] = Failure(304, headers={"ETag": '"1"'})
    response = await browser.fetch("/api/echo", headers={"If-None-Match": '"1"'})

    assert (response.status_code, response.headers["ETag"], response.content) == (304, '"1"', b"")


async def test_a_redirect_of_the_api_is_passed_on_and_not_followed(api: DemoApi, browser: Browser):
    response = await browser.fetch("/api/redirect?to=https://evil.example/")

    assert (response.status_code, response.headers["Location"]) == (302, "https://evil.example/")
    assert api.counts.total() == 1


async def test_a_compressed_answer_is_passed_on_untouched(api: DemoApi, browser: Browser):
    packed = gzip.compress(b"hello " * 1000)
    api.fails["echo"] = Failure(200, packed, {"Content-Encoding": "gzip", "Content-Type": "text/plain"})
    response = await browser.fetch("/api/echo")

    assert response.headers["Content-Encoding"] == "gzip"
    assert int(response.headers["Content-Length"]) == len(packed)
    assert response.text == "hello " * 1000


async def test_a_compressed_request_is_passed_on_untouched(api: DemoApi, browser: Browser):
    packed = gzip.compress(b"hello")
    await browser.fetch("/api/echo", "POST", content=packed, headers={"Content-Encoding": "gzip"})

    assert last_request(api).body == packed.decode(errors="replace")
    assert last_request_headers(api)["content-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Set-Cookie", "bff=planted"),
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Clear-Site-Data", '"*"'),
        ("Server", "secret/1.0"),
        ("X-Accel-Redirect", "/internal/file"),
        ("WWW-Authenticate", 'Basic realm="us"'),
        ("Server-Timing", "db;dur=9"),
        ("X-Total", "2"),
        ("Alt-Svc", 'h3="evil.example:443"'),
        ("Keep-Alive", "timeout=1"),
        ("Strict-Transport-Security", "max-age=0"),
    ],
)
async def test_the_browser_does_not_see_the_api_s(name: str, value: str, api: DemoApi, browser: Browser):
    api.fails["echo"] = Failure(200, b"{}", {name: value})

    assert name not in (await browser.fetch("/api/echo")).headers


@pytest.mark.parametrize(
    "name", ["Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "X-Frame-Options"]
)
async def test_the_api_does_not_loosen_our(name: str, api: DemoApi, browser: Browser):
    api.fails["echo"] = Failure(200, b"{}", {name: "loose"})

    assert (await browser.fetch("/api/echo")).headers.get_list(name)[0] != "loose"


async def test_the_browser_sees_what_belongs_to_the_answer(api: DemoApi, browser: Browser):
    sent = {"Content-Type": "text/csv", "ETag": '"1"', "Retry-After": "2"}
    api.fails["echo"] = Failure(200, b"a,b", sent)
    response = await browser.fetch("/api/echo")

    assert {name: response.headers[name] for name in sent} == sent
    assert response.text == "a,b"


async def test_a_response_is_not_cached_unless_the_api_allows_it(browser: Browser):
    assert (await browser.fetch("/api/status/404")).headers["Cache-Control"] == "no-store"


async def test_an_answer_without_a_type_gets_none_from_us(api: DemoApi, browser: Browser):
    api.fails["echo"] = Failure(200, b"<script>")

    assert "Content-Type" not in (await browser.fetch("/api/echo")).headers


# An API that does not answer


async def test_an_api_that_is_away_is_502(api: DemoApi, browser: Browser):
    await api.stop()
    response = await browser.fetch("/api/echo")

    assert (response.status_code, response.json()["code"]) == (502, "api_unreachable")


async def test_an_api_that_hangs_up_half_way_is_502(api: DemoApi, browser: Browser):
    api.holds["echo"] = asyncio.Event()
    waiting = asyncio.create_task(browser.fetch("/api/echo"))
    await wait_until(lambda: api.counts["echo"] == 1)
    await api.stop()

    assert (await waiting).json()["code"] == "api_unreachable"


async def test_an_api_that_is_too_slow_is_504(provider: Provider, api: DemoApi, clock: Clock):
    remote = [{"path": "/api", "client": "apiClient", "timeout_seconds": 0.05}]
    api.holds["echo"] = asyncio.Event()
    async with (
        running_app(provider, api, clock=clock, remote_apis=remote) as app,
        new_browser(app) as browser,
    ):
        await browser.login()
        response = await browser.fetch("/api/echo")

    assert (response.status_code, response.json()["code"]) == (504, "api_timeout")


# Which API, which methods


async def test_only_the_methods_in_the_settings_are_forwarded(provider: Provider, api: DemoApi, clock: Clock):
    remote = [{"path": "/api", "client": "apiClient", "methods": ["GET", "POST"]}]
    async with (
        running_app(provider, api, clock=clock, remote_apis=remote) as app,
        new_browser(app) as browser,
    ):
        await browser.login()
        refused = await browser.fetch("/api/echo", "DELETE")
        allowed = await browser.fetch("/api/echo", "POST")

    assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
    assert refused.headers["Allow"] == "GET, POST"  # RFC 9110 §15.5.6
    assert allowed.status_code == 200
    assert api.counts.total() == 1


async def test_of_two_prefixes_the_longer_one_wins(provider: Provider, api: DemoApi, clock: Clock):
    clients = {
        "all": {"base_url": api.base_url},
        "echo": {"base_url": f"{api.base_url}echo/", "token": "user"},
    }
    remote = [{"path": "/api", "client": "all"}, {"path": "/api/v2", "client": "echo"}]
    async with (
        running_app(provider, api, clock=clock, http_clients=clients, remote_apis=remote) as app,
        new_browser(app) as browser,
    ):
        await browser.login()
        longer, shorter = await browser.fetch("/api/v2/x"), await browser.fetch("/api/v22/x")

    assert longer.json()["path"] == "/api/echo/x"
    assert shorter.status_code == 404  # at the API, which has no such path


@pytest.mark.parametrize(
    ("kind", "anonymous", "signed_in"),
    [
        pytest.param("none", None, None, id="no token"),
        pytest.param("user_or_none", None, "alice", id="the user's or none"),
        pytest.param("user_or_client", "app", "alice", id="the user's or our own"),
        pytest.param("client", "app", "app", id="always our own"),
    ],
)
async def test_the_kind_of_token_is_the_client_s(
    kind: str, anonymous: str | None, signed_in: str | None, provider: Provider, api: DemoApi, clock: Clock
):
    clients = {"apiClient": {"base_url": api.base_url, "token": kind}}
    async with (
        running_app(provider, api, clock=clock, http_clients=clients) as app,
        new_browser(app) as browser,
    ):
        before = (await browser.fetch("/api/echo")).json()
        await browser.login("alice")
        after = (await browser.fetch("/api/echo")).json()

    assert before.get("user") or before.get("client") == anonymous
    assert (after.get("user") or after.get("client")) == signed_in


# Who may call, and with which token


async def test_without_a_session_the_response_is_401_and_the_api_gets_no_request(
    api: DemoApi, browser: Browser
):
    browser.delete_cookie("bff")
    response = await browser.fetch("/api/echo")

    assert response.status_code == 401
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (response.json()["code"], response.json()["login_url"]) == ("no_session", "/bff/login")
    assert api.counts.total() == 0


async def test_not_even_a_navigation_is_sent_to_the_login_page(browser: Browser):
    browser.delete_cookie("bff")
    response = await browser.http.get("/api/echo", headers={**NAVIGATION_HEADERS, "X-CSRF": "1"})

    assert response.status_code == 401
    assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "cookie",
    [
        pytest.param("garbage", id="garbage"),
        pytest.param("é\xff", id="letters that are not ASCII"),
        pytest.param('"a;b"', id="quotes"),
        pytest.param("a" * 20_000, id="20 kB"),
        pytest.param(None, id="cut short"),
    ],
)
async def test_a_cookie_without_a_session_gets_401(
    cookie: str | None, app: RunningApp, api: DemoApi, browser: Browser
):
    sent = {"Cookie": f"bff={cookie or str(browser.cookie('bff'))[:-1]}".encode("latin-1")}
    data = await browser.http.get("/api/echo", headers={**sent, "X-CSRF": "1"})
    page = await browser.http.get("/", headers={**NAVIGATION_HEADERS, **sent})

    assert (data.status_code, data.json()["code"]) == (401, "no_session")
    assert page.status_code == 200
    assert "Sign in" in page.text
    assert api.counts.total() == 0
    assert await app.session_of(browser)


async def test_two_hundred_requests_with_an_expired_token_cause_one_refresh(
    provider: Provider, browser: Browser, clock: Clock
):
    clock.advance(301)
    responses = await asyncio.gather(*(browser.fetch("/api/echo") for _ in range(200)))

    assert {response.status_code for response in responses} == {200}
    assert provider.counts["token:refresh_token"] == 1


async def test_half_of_the_callers_hang_up_and_the_others_still_get_their_answer(
    provider: Provider, browser: Browser, clock: Clock
):
    hold = provider.holds_answer["token"] = asyncio.Event()
    clock.advance(301)
    calls = [asyncio.create_task(browser.fetch("/api/echo")) for _ in range(60)]
    await wait_until(lambda: provider.counts["token:refresh_token"] == 1)
    for call in calls[::2]:
        call.cancel()
    hold.set()
    responses = await asyncio.gather(*calls[1::2])

    assert {response.status_code for response in responses} == {200}
    assert provider.counts["token:refresh_token"] == 1
    assert provider.is_active(await access_token_of(browser))


async def test_when_all_callers_hang_up_the_rotated_token_is_not_lost(
    provider: Provider, browser: Browser, clock: Clock
):
    old = await access_token_of(browser)
    hold = provider.holds_answer["token"] = asyncio.Event()
    clock.advance(301)
    call = asyncio.create_task(browser.fetch("/api/echo"))
    await wait_until(lambda: provider.counts["token:refresh_token"] == 1)
    call.cancel()
    hold.set()
    await browser.app.services.tokens.drain()

    assert await access_token_of(browser) != old
    assert (await browser.fetch("/api/echo")).status_code == 200
    assert provider.counts["token:refresh_token"] == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_token_that_the_api_refuses_is_renewed_once(
    method: str, provider: Provider, api: DemoApi, browser: Browser
):
    api.rejects.add(await access_token_of(browser))
    response = await browser.fetch("/api/echo", method, content=b"the body")

    assert response.status_code == 200
    assert response.json()["body"] == "the body"
    assert (api.counts["echo"], provider.counts["token:refresh_token"]) == (2, 1)


async def test_an_api_that_refuses_every_token_has_the_last_word(
    provider: Provider, api: DemoApi, browser: Browser
):
    api.fails["echo"] = Failure(401, b"{}", {"WWW-Authenticate": "Bearer"})
    response = await browser.fetch("/api/echo")

    assert (response.status_code, response.content) == (401, b"{}")
    assert (api.counts["echo"], provider.counts["token:refresh_token"]) == (2, 1)


async def test_a_session_that_the_provider_has_ended_is_401_and_over(
    app: RunningApp, provider: Provider, api: DemoApi, browser: Browser, clock: Clock
):
    provider.end_all_grants()
    clock.advance(301)
    response = await browser.fetch("/api/echo")

    assert (response.status_code, response.json()["code"]) == (401, "session_ended")
    assert await app.session_of(browser) is None
    assert api.counts.total() == 0


async def test_a_provider_that_is_away_is_401_and_the_session_stays(
    app: RunningApp, provider: Provider, api: DemoApi, browser: Browser, clock: Clock
):
    provider.fails["token"] = Failure(503, headers={"Retry-After": "7"})
    clock.advance(301)
    response = await browser.fetch("/api/echo")

    assert (response.status_code, response.json()["code"]) == (401, "provider_unavailable")
    assert response.headers["Retry-After"] == "7"
    assert "login_url" not in response.json()
    assert await app.session_of(browser)
    assert api.counts.total() == 0


SPELLED = ["%61dmin", "%2561dmin", "admin%2Fx", "admin;v=1", "ADMIN", "admin%20", "%EF%BD%81dmin"]


@pytest.mark.parametrize(
    ("base", "target", "status"),
    [
        ("todos", "/todos", 200),
        ("todos", "/todos?page=1", 200),
        ("todos", "/todos/7", 405),  # the demo API has DELETE only there
        ("todos", "/todos/", 404),  # as the browser has sent it
        ("todos/", "/todos", 404),  # as the settings have it
    ],
)
async def test_the_base_url_and_the_path_reach_the_api_as_they_are_written(
    base: str, target: str, status: int, provider: Provider, api: DemoApi, clock: Clock
):
    clients = {"todos": {"base_url": f"{api.base_url}{base}", "token": "user"}}
    remote = [{"path": "/todos", "client": "todos"}]
    running = running_app(provider, api, clock=clock, http_clients=clients, remote_apis=remote)
    async with running as app, new_browser(app) as browser:
        await browser.login()

        assert (await browser.fetch("/", **raw_target(target))).status_code == status


@pytest.mark.parametrize("name", SPELLED)
async def test_no_spelling_of_a_path_reaches_another_api_through_the_one_above(
    name: str, provider: Provider, api: DemoApi, clock: Clock
):
    remote = [
        {"path": "/api", "client": "apiClient"},
        {"path": "/api/admin", "client": "apiClient", "methods": ["GET"]},
    ]
    async with (
        running_app(provider, api, clock=clock, remote_apis=remote) as app,
        new_browser(app) as browser,
    ):
        await browser.login()
        written = await browser.fetch("/api/admin/users/1", "DELETE")
        response = await browser.fetch("/", "DELETE", **raw_target(f"/api/{name}/users/1"))

    assert (written.status_code, response.status_code) == (405, 400)
    assert response.json()["code"] == "bad_request"
    assert api.counts.total() == 0
