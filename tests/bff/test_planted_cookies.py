"""A cookie that a sibling host has planted, under one of our names but for one byte, changes nothing.

A sibling may set `\\xa0__Host-bff` for the whole domain: browsers check the prefix of the exact name only.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext
from tornado.netutil import bind_sockets

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.handlers.base import BaseHandler
from app.bff.handlers.socket import SocketHandler
from app.bff.sessions.session import session_ref
from tests.bff.application.main import ROUTES
from tests.bff.browser_users import running_chromium
from tests.bff.harness import (
    Browser,
    Clock,
    RunningApp,
    last_request_headers,
    new_browser,
    new_session_id,
    query_params,
    running_app,
    sign_in,
)
from tests.bff.nginx import write_certificate

BYTES = [bytes([number]) for number in range(256)]
SEPARATORS = (b" ", b"\t", b";", b"=")  # with these the cookie has exactly our name, or another value
BATCH = 40  # a browser stores 180 cookies for one domain, and drops others for more
HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


class Whose(BaseHandler):
    def get(self) -> None:
        self.finish(self.session.subject if self.session else "nobody")


class WhoseSocket(SocketHandler):
    async def open(self) -> None:
        await self.write_message(self.require_session().subject.ljust(5))


OWN_ROUTES = [*ROUTES, ("/whose", Whose), ("/whose-socket", WhoseSocket)]


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    async with running_app(provider, api, clock=clock, routes=OWN_ROUTES) as app:
        yield app


def before(pair: bytes) -> list[tuple[bytes, bytes]]:
    return [(byte, byte + pair) for byte in BYTES]


def after(pair: bytes) -> list[tuple[bytes, bytes]]:
    name, _, value = pair.partition(b"=")
    return [(byte, name + byte + b"=" + value) for byte in BYTES]


async def answer(app: RunningApp, target: str, cookies: bytes, *lines: str) -> bytes:
    """Send the bytes as they are; return the response, of a socket with its first message's beginning."""
    host = app.base_url.partition("://")[2]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(host.partition(":")[2]))
    head = [f"GET {target} HTTP/1.1", f"Host: {host}", *(lines or ["Connection: close"])]
    writer.write("\r\n".join(head).encode() + b"\r\nCookie: " + cookies + b"\r\n\r\n")
    response = await reader.readuntil(b"\r\n\r\n")
    response += await (reader.readexactly(7) if b" 101 " in response else reader.read(0 if lines else -1))
    writer.close()
    return response


# Whose session


async def whose_page(app: RunningApp, cookies: bytes) -> bytes:
    return (await answer(app, "/whose", cookies)).rpartition(b"\r\n\r\n")[2]


async def whose_socket(app: RunningApp, cookies: bytes) -> bytes:
    sent = await answer(app, "/whose-socket", cookies, f"Origin: {app.base_url}", *HANDSHAKE)
    return sent.rpartition(b"\x81")[2][1:6]


@pytest.mark.parametrize("whose", [whose_page, whose_socket])
@pytest.mark.parametrize("spelled", [before, after])
async def test_no_byte_around_the_name_makes_a_handler_serve_another_session(
    app: RunningApp, browser: Browser, whose, spelled
):
    alices = f"bff={await session_id(app, browser, 'alice')}".encode()
    async with new_browser(app) as attacker:
        bobs = f"bff={await session_id(app, attacker, 'bob')}".encode()
    answers = {
        byte: {await whose(app, alices + b"; " + other), await whose(app, other + b"; " + alices)}
        for byte, other in spelled(bobs)
    }

    assert [byte for byte, whose in answers.items() if any(b"bob" in answer for answer in whose)] == []
    assert all({each.strip() for each in answers[byte]} == {b"alice"} for byte in BYTES[0x80:])


async def session_id(app: RunningApp, browser: Browser, user: str) -> str:
    await browser.login(user)
    return browser.cookie("bff") or ""


@pytest.mark.parametrize("spelled", [before, after])
async def test_no_byte_around_the_name_makes_a_delegate_send_another_token(
    app: RunningApp, api: DemoApi, browser: Browser, spelled
):
    alice = await sign_in(app, browser)
    async with new_browser(app) as attacker:
        bobs = f"bff={await session_id(app, attacker, 'bob')}".encode()
    tokens = set()
    for _, other in spelled(bobs):
        await answer(app, "/api/echo", f"bff={browser.cookie('bff')}; ".encode() + other, "X-CSRF: 1")
        tokens |= {last_request_headers(api)["authorization"]} if api.last_request else set()

    assert tokens == {f"Bearer {alice.tokens.access_token}"}


# Login attempts and logouts


@pytest.mark.parametrize("spelled", [before, after])
async def test_no_byte_around_its_name_makes_a_planted_login_attempt_one_of_this_browser(
    app: RunningApp, browser: Browser, spelled
):
    callback = await browser.choose(await browser.start_login(), "bob")
    [name] = [name for name in browser.cookie_names() if name.startswith("bff-login-")]
    attempt = f"{name}={browser.cookie(name)}".encode()
    target = callback.removeprefix(app.base_url)
    for byte, other in spelled(attempt):
        if byte not in SEPARATORS:
            assert b"bff=" not in await answer(app, target, other), byte

    assert b"Set-Cookie: bff=" in await answer(app, target, attempt)


@pytest.mark.parametrize("spelled", [before, after])
async def test_no_byte_around_its_name_makes_a_planted_logout_one_of_this_browser(
    app: RunningApp, browser: Browser, spelled
):
    await browser.login()
    response = await browser.get(f"{await browser.logout_url()}&returnUrl=/planted")
    state = query_params(response.headers["Location"])["state"]
    cookie = f"bff-logout={browser.cookie('bff-logout')}".encode()
    target = f"/bff/logout/callback?state={state}"
    for byte, other in spelled(cookie):
        if byte not in SEPARATORS:
            assert b"/planted" not in await answer(app, target, other), byte

    assert b"Location: /planted" in await answer(app, target, cookie)


# In a real browser


def tls(folder: Path) -> ssl.SSLContext:
    certificate = write_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while read := await reader.read(65536):
        writer.write(read)
    writer.close()


class Sibling:
    """Another host of the domain, over plain http: it answers with the cookies that it plants."""

    def __init__(self) -> None:
        self.plants: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = [b"Set-Cookie: " + each + b"; Domain=example.test; Path=/" for each in self.plants]
        writer.write(
            b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: 0", b"Connection: close", *lines, b"", b""])
        )
        writer.close()


@asynccontextmanager
async def https_site(
    provider: Provider, api: DemoApi, clock: Clock, folder: Path
) -> AsyncIterator[RunningApp]:
    [front] = bind_sockets(0, "127.0.0.1")
    url = f"https://app.example.test:{front.getsockname()[1]}"
    async with running_app(provider, api, clock=clock, base_url=url, routes=OWN_ROUTES) as app:
        port = int(app.base_url.rpartition(":")[2])

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            back = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(copy(reader, back[1]), copy(back[0], writer), return_exceptions=True)

        async with await asyncio.start_server(forward, sock=front, ssl=tls(folder)):
            yield replace(app, base_url=url)


async def start_session(app: RunningApp, session, subject: str) -> bytes:
    session_id = new_session_id()
    await app.services.sessions.create(replace(session, ref=session_ref(session_id), subject=subject))
    return session_id.encode()


@pytest.mark.parametrize("spelled", [before, after])
async def test_in_chromium_a_sibling_host_cannot_change_whose_session_is_used(
    provider: Provider, api: DemoApi, clock: Clock, tmp_path: Path, app: RunningApp, browser: Browser, spelled
):
    signed_in, sibling = await sign_in(app, browser), Sibling()
    plain = await asyncio.start_server(sibling.serve, "127.0.0.1", 0)
    evil = f"http://evil.example.test:{plain.sockets[0].getsockname()[1]}/"
    resolver = "--host-resolver-rules=MAP *.example.test 127.0.0.1"
    async with (
        plain,
        https_site(provider, api, clock, tmp_path) as site,
        running_chromium(resolver) as chromium,
    ):
        alices, bobs = [await start_session(site, signed_in, user) for user in ("alice", "bob")]
        seen: set[str] = set()
        everything = [
            pair for byte, pair in spelled(b"__Host-bff=" + bobs) if byte not in (b"\0", b"\r", b"\n")
        ]
        for start in range(0, len(everything), BATCH):
            context = await chromium.new_context(ignore_https_errors=True)
            sibling.plants = everything[start : start + BATCH]
            seen |= {await whose_in(context, site.base_url, alices.decode(), evil)}
            await context.close()

    assert seen == {"alice"}


async def whose_in(context: BrowserContext, url: str, session_id: str, evil: str) -> str:
    """Return whose page the browser shows once its user has been to the sibling host."""
    await context.add_cookies([{"name": "__Host-bff", "value": session_id, "url": url, "secure": True}])
    page = await context.new_page()
    await page.goto(evil)
    await page.goto(f"{url}/whose")
    return await page.inner_text("body")
