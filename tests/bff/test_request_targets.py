"""Request targets in all forms of RFC 9112 §3.2, sent byte for byte: one path, one routing, one host."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from app.bff.dev.api import DemoApi
from app.bff.web.targets import origin_form
from tests.bff.harness import Browser, RunningApp, last_request, sign_in

PAGE = "Sec-Fetch-Mode: navigate"
CALL = "X-CSRF: 1"


async def sent(app: RunningApp, line: str, *headers: str, host: str | None = None) -> tuple[int, str]:
    """The status, and everything, of the answer to a request with this line."""
    here = urlsplit(app.base_url).netloc
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(app.base_url).port)
    lines = [f"{line} HTTP/1.1", f"Host: {here if host is None else host}", "Connection: close", *headers]
    writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    return int(answer.split(" ")[1]), answer


def absolute(app: RunningApp, rest: str, scheme: str = "http://") -> str:
    return scheme + urlsplit(app.base_url).netloc + rest


@pytest.mark.parametrize("scheme", ["http://", "HTTP://", "https://"])
@pytest.mark.parametrize(
    ("rest", "status"), [("/", 200), ("", 200), ("?x=1", 200), ("/healthz?", 200), ("/nowhere", 404)]
)
async def test_absolute_form_is_the_path_of_this_server(scheme: str, rest: str, status: int, app: RunningApp):
    assert (await sent(app, f"GET {absolute(app, rest, scheme)}", PAGE))[0] == status


async def test_a_page_in_absolute_form_is_come_back_to(app: RunningApp):
    status, answer = await sent(app, f"GET {absolute(app, '/account?x=http://y')}", PAGE)

    assert status == 302
    assert "Location: /bff/login?returnUrl=%2Faccount%3Fx%3Dhttp%3A%2F%2Fy\r\n" in answer


async def test_bytes_beyond_ascii_are_come_back_to_escaped(app: RunningApp):
    _, answer = await sent(app, "GET /account?q=caf\xc3\xa9", PAGE)

    assert "Location: /bff/login?returnUrl=%2Faccount%3Fq%3Dcaf%25C3%25A9\r\n" in answer


async def test_a_call_in_absolute_form_reaches_the_api_as_any_other(
    app: RunningApp, api: DemoApi, browser: Browser
):
    await sign_in(app, browser)
    cookie = f"Cookie: bff={browser.cookie('bff')}"
    refused, _ = await sent(app, f"GET {absolute(app, '/api/echo?x=1')}", cookie)
    climbing, _ = await sent(app, f"GET {absolute(app, '/api/../echo')}", cookie, CALL)
    status, _ = await sent(app, f"GET {absolute(app, '/api/echo?x=1')}", cookie, CALL)

    assert (refused, climbing, status) == (403, 400, 200)
    assert (last_request(api).path, last_request(api).query) == ("/api/echo", "x=1")


async def test_the_host_of_an_absolute_form_counts_and_not_the_header(app: RunningApp, browser: Browser):
    await sign_in(app, browser)
    headers = [f"Cookie: bff={browser.cookie('bff')}", CALL]
    ours, evil = f"Origin: {app.base_url}", "Origin: http://evil.example"
    target = f"GET {absolute(app, '/bff/user')}"

    assert (await sent(app, target, *headers, ours, host="evil.example"))[0] == 200
    assert (await sent(app, target, *headers, evil, host="evil.example"))[0] == 403


@pytest.mark.parametrize(
    "target", ["http://evil.example/", "http://evil.example/api/echo", "http://a.example"]
)
async def test_a_url_of_another_server_has_no_route(target: str, app: RunningApp, api: DemoApi):
    assert (await sent(app, f"GET {target}", CALL))[0] == 404
    assert api.counts.total() == 0


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("OPTIONS *", 204),
        ("GET *", 400),
        ("HEAD *", 400),
        ("POST *", 400),
        ("OPTIONS /*", 404),
        ("CONNECT app.example:443", 405),
        ("CONNECT /", 405),
        ("GET app.example:443", 400),
        ("OPTIONS app.example:443", 400),
        ("GET api/echo", 400),
        ("GET ?x", 400),
        ("GET http:///x", 400),
        ("GET http://", 400),
        ("GET http://user@localhost/", 400),
        ("GET http://localhost/#x", 400),
        ("GET ftp://localhost/", 400),
        ("GET javascript:alert(1)", 400),
    ],
)
async def test_another_form_of_a_target_is_answered_and_reaches_nothing(
    line: str, status: int, app: RunningApp, api: DemoApi
):
    assert (await sent(app, line, CALL))[0] == status
    assert api.counts.total() == 0


async def test_a_connection_goes_on_after_a_request_for_the_whole_server(app: RunningApp, browser: Browser):
    first = await browser.http.request("OPTIONS", "/", extensions={"target": b"*"})
    second = await browser.http.get("/healthz")

    assert (first.status_code, first.content, second.status_code) == (204, b"", 200)


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        ("http://a.example/x?y=/z", "a.example", "/x?y=/z"),
        ("https://A.Example:443/x", "a.example", "/x"),
        ("http://a.example:80", "a.example:", "/"),
        ("http://a.example?x", "A.EXAMPLE", "/?x"),
        ("http://[::1]:8888//x", "[::1]:8888", "//x"),
        ("http://a.example:8888/", "a.example", None),
        ("http://a.example.evil.example/", "a.example", None),
        ("http://a.example@evil.example/", "a.example", None),
        ("/x", "a.example", None),
        ("*", "a.example", None),
        ("", "", None),
    ],
)
def test_the_path_is_taken_from_a_url_of_this_host(target: str, host: str, path: str | None):
    assert origin_form(target, host) == path
