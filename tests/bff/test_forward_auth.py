"""Forward-auth: a proxy asks whether it may forward by itself, and gets the token for the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Client, Provider
from app.bff.proxy.forward_auth import ForwardAuthGate
from app.bff.testing.chromium import chromium_or_skip, sign_in
from tests.bff.harness import (
    CLIENT_ID,
    CLIENT_SECRET,
    Browser,
    Clock,
    RunningApp,
    last_request_headers,
    new_browser,
    running_app,
)
from tests.bff.nginx import ordinary_proxy
from tests.bff.streaming_api import wire_of
from tests.bff.subprocesses import free_ports

SECRET = "0123456789abcdef0123456789abcdef"
LIFETIME = 300  # of the provider's access tokens, in seconds
REMOTE = [
    {"path": "/api", "client": "apiClient", "methods": ["GET", "POST"]},
    {"path": "/open", "client": "open"},
    {"path": "/ours", "client": "ours"},
]


def settings(api: DemoApi, **changed: Any) -> dict[str, Any]:
    kinds = {"apiClient": "user", "open": "none", "ours": "client"}
    clients = {name: {"base_url": api.base_url, "token": kind} for name, kind in kinds.items()}
    return {"http_clients": clients, "remote_apis": REMOTE, "forward_auth_secret": SECRET, **changed}


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    async with running_app(provider, api, clock=clock, **settings(api)) as app:
        yield app


@pytest.fixture
async def browser(browser: Browser) -> Browser:
    """A browser in which Alice is signed in."""
    await browser.login("alice")
    return browser


async def decision(browser: Browser, uri: str | None = "/api/echo?x=1", **options: Any) -> httpx2.Response:
    """The answer to a proxy with a request for `uri` of this browser."""
    forwarded = {
        "X-Forwarded-Method": options.pop("method", "GET"),
        **({"X-Forwarded-Uri": uri} if uri else {}),
    }
    headers = {"X-Forward-Auth-Secret": SECRET, **forwarded, **options.pop("headers", {})}
    return await browser.fetch("/bff/forward-auth", headers=headers, **options)


async def token_of(browser: Browser) -> str:
    session = await browser.app.session_of(browser)
    assert session
    return session.tokens.access_token


# Yes


async def test_a_target_in_absolute_form_is_the_same_one(app: RunningApp, browser: Browser):
    assert (await decision(browser, f"{app.base_url}/api/echo?x=1")).status_code == 204
    assert (await decision(browser, f"{app.base_url}/api/../echo")).status_code == 400


async def test_it_may_with_the_users_token(browser: Browser):
    response = await decision(browser)

    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["Authorization"] == f"Bearer {await token_of(browser)}"


async def test_a_204_has_no_security_headers_and_limits_its_caching(browser: Browser):
    permission = await decision(browser)

    assert {name for name in permission.headers if name not in ("connection", "x-request-id")} == {
        "authorization",
        "cache-control",
        "x-accel-expires",
    }
    assert permission.headers["Cache-Control"] == "no-store"


async def test_the_token_is_good_right_now(browser: Browser, provider: Provider, clock: Clock):
    clock.advance(LIFETIME)
    token = (await decision(browser)).headers["Authorization"].removeprefix("Bearer ")

    assert provider.is_active(token)
    assert provider.counts["token:refresh_token"] == 1


async def test_an_api_without_tokens_gets_none(browser: Browser):
    response = await decision(browser, "/open/echo")

    assert response.status_code == 204
    assert "Authorization" not in response.headers


async def test_the_applications_token_needs_no_session(app: RunningApp, provider: Provider):
    async with new_browser(app) as anonymous:
        response = await decision(anonymous, "/ours/echo")

    assert provider.access_token(response.headers["Authorization"].removeprefix("Bearer ")).sub is None


@pytest.mark.parametrize(
    ("left", "cached_for"),
    [(LIFETIME, "5"), (6, "5"), (5, "4"), (1.5, "0")],
    ids=["hours", "6 s", "5 s", "1.5 s"],
)
async def test_nginx_keeps_an_answer_for_five_seconds_but_not_beyond_the_token(
    browser: Browser, provider: Provider, clock: Clock, left: float, cached_for: str
):
    await provider.stop()  # so that the token is not renewed meanwhile
    clock.advance(LIFETIME - left)

    assert (await decision(browser)).headers["X-Accel-Expires"] == cached_for


async def test_a_proof_is_for_one_request_and_not_cached(provider: Provider, api: DemoApi, clock: Clock):
    async with (
        running_app(provider, api, clock=clock, **settings(api, dpop=True)) as app,
        new_browser(app) as browser,
    ):
        await browser.login()
        response = await decision(browser, method="POST")
        proven = {name: response.headers[name] for name in ("Authorization", "DPoP")}
    async with httpx2.AsyncClient() as proxy:
        forwarded = await proxy.post(f"{api.base_url}echo?x=1", headers=proven)

    assert forwarded.status_code == 200
    assert response.headers["X-Accel-Expires"] == "0"


async def test_an_answer_is_not_cached_where_the_path_decides_which_api_it_is(
    provider: Provider, api: DemoApi, clock: Clock
):
    nested = settings(api, remote_apis=[*REMOTE, {"path": "/api/admin", "client": "apiClient"}])
    async with running_app(provider, api, clock=clock, **nested) as app, new_browser(app) as browser:
        await browser.login()
        cached_for = [
            (await decision(browser, f"/api{path}")).headers["X-Accel-Expires"] for path in ("/x", "/admin")
        ]

    assert cached_for == ["0", "5"]


# No


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        pytest.param({"csrf": False}, 403, "csrf_rejected", id="without our header"),
        pytest.param(
            {"headers": {"Sec-Fetch-Site": "cross-site"}}, 403, "csrf_rejected", id="from another site"
        ),
        pytest.param({"uri": "/nowhere"}, 403, "forbidden", id="to no API"),
        pytest.param({"uri": "/bff/user"}, 403, "forbidden", id="to ourselves"),
        pytest.param({"uri": "/bff/forward-auth"}, 403, "forbidden", id="for the token itself"),
        pytest.param(
            {"headers": {"X-Remote-Api": "/open"}},
            403,
            "forbidden",
            id="to an API that it is not for",
        ),
        pytest.param({"uri": "/apis"}, 403, "forbidden", id="beside an API"),
        pytest.param({"uri": "/api/../x"}, 400, "bad_request", id="out of the API"),
        pytest.param({"uri": "/api/%2e%2e/x"}, 400, "bad_request", id="out of the API, encoded"),
        pytest.param({"uri": "http://evil.example/api/echo"}, 400, "bad_request", id="to elsewhere"),
        pytest.param({"uri": None}, 400, "bad_request", id="without a target"),
        pytest.param({"method": "DELETE"}, 405, "method_not_allowed", id="with another method"),
    ],
)
async def test_a_request_may_not_be_forwarded(
    browser: Browser, options: dict[str, Any], status: int, code: str
):
    response = await decision(browser, **options)

    assert (response.status_code, response.json()["code"]) == (status, code)
    assert "Authorization" not in response.headers


async def test_without_a_session_the_response_is_401_with_a_login_url(app: RunningApp):
    async with new_browser(app) as anonymous:
        response = await decision(anonymous)

    assert (response.status_code, response.json()["code"]) == (401, "no_session")
    assert response.json()["login_url"] == "/bff/login"


async def test_a_provider_that_is_away_means_401_and_when_to_try_again(
    browser: Browser, provider: Provider, clock: Clock
):
    await provider.stop()
    clock.advance(LIFETIME)
    response = await decision(browser)

    assert (response.status_code, response.json()["code"]) == (401, "provider_unavailable")
    assert response.headers["Retry-After"] == "5"


@pytest.mark.parametrize("path", ["/api/%61dmin/1", "/api/%2561dmin/1", "/api/admin;x/1", "/api/Admin/1"])
async def test_no_spelling_of_a_path_gets_a_token_for_the_api_above(
    path: str, provider: Provider, api: DemoApi, clock: Clock
):
    below = {"path": "/api/admin", "client": "open", "methods": ["GET"]}
    nested = settings(api, remote_apis=[*REMOTE, below])
    async with running_app(provider, api, clock=clock, **nested) as app, new_browser(app) as browser:
        await browser.login()
        response = await decision(browser, path, method="POST", headers={"X-Remote-Api": "/api"})

    assert (response.status_code, response.json()["code"]) == (400, "bad_request")
    assert "Authorization" not in response.headers


# Each byte, as it is sent: an HTTP client would refuse to

BYTES = [bytes([number]) for number in range(256) if number != ord("\n")]  # LF would end the header
READ_ALIKE = {byte for byte in BYTES if b" " <= byte <= b"~"} - {b"#"}  # in a path


async def asked_with(app: RunningApp, *lines: bytes) -> tuple[int, str | None]:
    """Return status and token of the answer to a proxy that sends these headers."""
    ours = (
        b"Host: localhost",
        b"X-CSRF: 1",
        b"X-Forward-Auth-Secret: " + SECRET.encode(),
        b"Connection: close",
    )
    async with wire_of(app) as wire:
        await wire.send(b"\r\n".join((b"GET /bff/forward-auth HTTP/1.1", *ours, *lines, b"", b"")))
        head = await wire.head()
    return head.status, next(iter(head.all("Authorization")), None)


def cookie_of(browser: Browser) -> bytes:
    return f"Cookie: bff={browser.cookie('bff')}".encode()


@pytest.mark.parametrize(
    ("target", "refused", "passed"),
    [
        (b"/api/echo/a%cb", b"", b""),
        (b"/api/echo/..%c/x", b" /;?\\", b""),
        (b"/api/echo/%c", b".", b"\t"),  # white space at the end of a header is none of it
    ],
)
async def test_a_byte_of_the_path_gets_a_token_only_where_all_servers_read_it_alike(
    target: bytes, refused: bytes, passed: bytes, app: RunningApp, browser: Browser
):
    for byte in BYTES:
        status, token = await asked_with(app, cookie_of(browser), b"X-Forwarded-Uri: " + target % ord(byte))
        may_pass = (byte in READ_ALIKE and byte not in refused) or byte in (passed,)

        assert (status, token is not None) == ((204, True) if may_pass else (400, False)), byte


async def test_a_byte_in_the_method_gets_no_token(app: RunningApp, browser: Browser):
    uri = b"X-Forwarded-Uri: /api/echo"
    for byte in BYTES:
        for method in (byte + b"GET", b"GET" + byte, b"G" + byte + b"T"):
            status, token = await asked_with(app, cookie_of(browser), uri, b"X-Forwarded-Method: " + method)
            is_get = method.strip(b" \t") == b"GET"

            assert status in ((204,) if is_get else (400, 405)), method
            assert (token is not None) is is_get, method


async def test_a_byte_at_the_name_of_a_cookie_opens_no_session(app: RunningApp, browser: Browser):
    uri, value = b"X-Forwarded-Uri: /api/echo", (browser.cookie("bff") or "").encode()
    for byte in BYTES:
        for pair in (byte + b"bff=" + value, b"bff" + byte + b"=" + value):
            status, token = await asked_with(app, uri, b"Cookie: " + pair)
            is_ours = byte in (b" ", b"\t") or (byte == b";" and pair.startswith(b";"))

            assert status in ((204,) if is_ours else (400, 401)), pair
            assert (token is not None) is is_ours, pair


# To whom


@pytest.mark.parametrize(
    ("configured", "sent"),
    [
        pytest.param("", "", id="without a secret"),
        pytest.param("", SECRET, id="without a secret, to no guess either"),
        pytest.param(SECRET, None, id="without the header"),
        pytest.param(SECRET, "", id="with an empty header"),
        pytest.param(SECRET, SECRET[:-1], id="with a part of it"),
        pytest.param(SECRET, SECRET.upper(), id="in capitals"),
        pytest.param(SECRET, f"{SECRET}, {SECRET}", id="twice in one header"),
        pytest.param(SECRET, "\xe9" * 32, id="with other bytes"),
    ],
)
async def test_without_the_secret_there_is_no_such_route(
    configured: str, sent: str | None, provider: Provider, api: DemoApi, clock: Clock
):
    trusting = settings(api, forward_auth_secret=configured, trusted_proxies=["127.0.0.0/8", "::1"])
    async with running_app(provider, api, clock=clock, **trusting) as app, new_browser(app) as browser:
        await browser.login()
        secret = {} if sent is None else {b"X-Forward-Auth-Secret": sent.encode("latin-1")}
        response = await browser.fetch(
            "/bff/forward-auth", headers={b"X-Forwarded-Uri": b"/api/echo", **secret}
        )
        unknown = await browser.fetch("/bff/forward-nothing")

    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert response.headers.keys() == unknown.headers.keys()


def test_the_secret_is_needed_and_a_request_without_it_is_logged_once_a_minute(
    clock: Clock, caplog: pytest.LogCaptureFixture
):
    gate = ForwardAuthGate(SECRET, clock=clock)

    assert gate.admits({"X-Forward-Auth-Secret": SECRET})
    assert not any(gate.admits({"X-Forward-Auth-Secret": guess}) for guess in ("", "x", SECRET[1:]))
    assert caplog.messages == ["forward-auth request without the secret"]
    clock.advance(60)
    assert not gate.admits({})
    assert len(caplog.messages) == 2


async def test_an_api_never_sees_the_secret(browser: Browser, api: DemoApi):
    for name in ("X-Forward-Auth-Secret", "x-forward-auth-secret"):
        await browser.fetch("/api/echo", headers={name: SECRET})

        assert SECRET not in str(last_request_headers(api))


FETCH = """headers => fetch("/bff/forward-auth",
    {headers: {"X-CSRF": "1", "X-Forwarded-Uri": "/api/echo", ...headers}})
    .then(answer => [answer.status, answer.headers.get("Authorization")])"""


async def test_a_page_behind_an_ordinary_proxy_that_is_trusted_gets_no_token(
    provider: Provider, api: DemoApi, clock: Clock, tmp_path: Path
):
    port = free_ports(1)
    chosen = settings(api, base_url=f"http://localhost:{port}", trusted_proxies=["127.0.0.1"])
    async with (
        running_app(provider, api, clock=clock, **chosen) as app,
        ordinary_proxy(tmp_path, port, app.base_url) as url,
        chromium_or_skip() as chromium,
    ):
        provider.clients[CLIENT_ID] = Client(CLIENT_ID, CLIENT_SECRET, (f"{url}/bff/callback",))
        page = await chromium.new_page(base_url=url)
        await sign_in(page)
        calls = await page.evaluate(
            '() => fetch("/api/echo", {headers: {"X-CSRF": "1"}}).then(a => a.status)'
        )
        answers = [await page.evaluate(FETCH, {"X-Forward-Auth-Secret": guess}) for guess in ("", "x" * 32)]

    assert calls == 200  # signed in: what is refused is not refused for want of a session
    assert answers == [[404, None]] * 2
