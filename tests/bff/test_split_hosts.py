"""A front end on a sibling host in Chromium: `app.example.test` before `bff.example.test`, over https."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Client, Provider
from tests.bff.browser_users import running_chromium
from tests.bff.harness import CLIENT_ID, CLIENT_SECRET, Clock, RunningApp, running_app
from tests.bff.test_planted_cookies import copy, tls

pytestmark = pytest.mark.asyncio(loop_scope="module")

# The front end: each call of the manual's example, on a page of its own host.
PAGE = """<!doctype html><title>Front end</title><h1>Front end</h1>
<script>
const BFF = new URLSearchParams(location.search).get("bff") ?? sessionStorage.bff;
sessionStorage.bff = BFF;
async function call(path, init = {}) {
  const headers = new Headers(init.headers);
  headers.set("X-CSRF", "1");
  const answer = await fetch(BFF + path, {...init, headers, credentials: "include"});
  const json = await answer.json().catch(() => null);
  return [answer.status, answer.headers.has("X-Request-Id"), json];
}
const tried = (path, init) => call(path, init).catch((error) => [error.name]);
function silent() {
  return new Promise((resolve) => {
    addEventListener("message", ({origin, data}) => resolve([origin, data]), {once: true});
    const frame = document.createElement("iframe");
    frame.src = BFF + "/bff/silent-login";
    document.body.append(frame);
  });
}
function socket(path) {
  return new Promise((resolve) => {
    const socket = new WebSocket(BFF.replace("http", "ws") + path);
    socket.onopen = () => socket.send("hello");
    socket.onmessage = ({data}) => resolve(data);
    socket.onerror = () => resolve("refused");
  });
}
</script>"""


class FrontEnd(RequestHandler):
    def get(self) -> None:
        self.write(PAGE)


@dataclass
class Split:
    """The two hosts, a third that is not allowed, and a browser that reaches them."""

    app: RunningApp
    bff: str
    front_end: str
    stranger: str
    chromium: Browser


@asynccontextmanager
async def tls_in_front(port: int, sock: Any, context: ssl.SSLContext) -> AsyncIterator[None]:
    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, back[1]), copy(back[0], writer), return_exceptions=True)

    async with await asyncio.start_server(forward, sock=sock, ssl=context):
        yield


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def split(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Split]:
    clock, context = Clock(), tls(tmp_path_factory.mktemp("tls"))
    provider = Provider([], clock=clock)
    async with AsyncExitStack() as stack:
        await provider.start()
        stack.push_async_callback(provider.stop)
        api = DemoApi(provider)
        await api.start()
        stack.push_async_callback(api.stop)
        [bff], [pages] = bind_sockets(0, "127.0.0.1"), bind_sockets(0, "127.0.0.1")
        front_port = pages.getsockname()[1]
        server = HTTPServer(Application([("/.*", FrontEnd)]), ssl_options=context)
        server.add_sockets([pages])
        stack.callback(server.stop)
        url = f"https://bff.example.test:{bff.getsockname()[1]}"
        front_end = f"https://app.example.test:{front_port}"
        app = await stack.enter_async_context(
            running_app(provider, api, clock=clock, base_url=url, allowed_origins=front_end)
        )
        provider.clients[CLIENT_ID] = Client(
            CLIENT_ID, CLIENT_SECRET, (f"{url}/bff/callback",), (f"{url}/bff/logout/callback",)
        )
        await stack.enter_async_context(tls_in_front(int(app.base_url.rpartition(":")[2]), bff, context))
        chromium = await stack.enter_async_context(
            running_chromium("--host-resolver-rules=MAP *.example.test 127.0.0.1")
        )
        yield Split(app, url, front_end, f"https://evil.example.test:{front_port}", chromium)


@pytest_asyncio.fixture(loop_scope="module")
async def page(split: Split) -> AsyncIterator[Page]:
    context = await split.chromium.new_context(ignore_https_errors=True)
    page = await context.new_page()
    await page.goto(f"{split.front_end}/?bff={split.bff}")
    yield page
    await context.close()


async def signs_in(split: Split, page: Page, at: str) -> None:
    """Sign in as the front end does it: a navigation to the other host, and back."""
    await page.goto(f"{split.bff}/bff/login?returnUrl={at}")
    await page.get_by_role("button", name="Continue as Alice Adams").click()
    await expect(page).to_have_title("Front end")


async def test_a_front_end_on_a_sibling_host_does_all_that_one_on_ours_does(split: Split, page: Page):
    assert (await page.evaluate("call('/bff/user')"))[:2] == [401, True]
    await signs_in(split, page, f"{split.front_end}/orders")
    await expect(page).to_have_url(f"{split.front_end}/orders")

    status, is_readable, claims = await page.evaluate("call('/bff/user')")
    assert (status, is_readable) == (200, True)
    assert {"type": "sub", "value": "alice"} in claims
    assert (await page.evaluate("call('/api/echo', {method: 'POST', body: '{}'})"))[0] == 200
    assert (await page.evaluate("call('/bff/sessions')"))[0] == 200
    assert await page.evaluate("socket('/api/socket')") != "refused"
    async with asyncio.timeout(30):  # a message that does not come
        origin, message = await page.evaluate("silent()")
    assert (origin, message["source"]) == (split.bff, "bff-silent-login")
    assert (
        message["error"] == "login_required"
    )  # the provider is on another site: a frame has no cookie there

    end = f"call('/bff/logout?returnUrl={split.front_end}/bye', {{method: 'POST'}})"
    _, _, answer = await page.evaluate(end)
    await page.evaluate("url => location.assign(url)", answer["url"])
    await expect(page).to_have_url(f"{split.front_end}/bye")
    assert (await page.evaluate("call('/bff/user')"))[0] == 401


async def test_a_link_signs_out_as_well(split: Split, page: Page):
    await signs_in(split, page, f"{split.front_end}/")
    claims = {each["type"]: each["value"] for each in (await page.evaluate("call('/bff/user')"))[2]}
    link = f"{split.bff}{claims['bff:logout_url']}&returnUrl={split.front_end}/bye"
    await page.evaluate("url => location.assign(url)", link)

    await expect(page).to_have_url(f"{split.front_end}/bye")


async def test_a_sibling_that_is_not_allowed_reads_and_does_nothing(split: Split, page: Page):
    await signs_in(split, page, f"{split.front_end}/")
    claims = {each["type"]: each["value"] for each in (await page.evaluate("call('/bff/user')"))[2]}
    await page.goto(f"{split.stranger}/?bff={split.bff}")

    for path in ("/bff/user", "/api/echo", "/bff/sessions"):
        assert await page.evaluate("path => tried(path)", path) == ["TypeError"]
    assert await page.evaluate("tried('/bff/logout', {method: 'POST'})") == ["TypeError"]
    assert await page.evaluate("socket('/api/socket')") == "refused"
    await page.evaluate("url => location.assign(url)", split.bff + claims["bff:logout_url"])
    await expect(page.get_by_text("Only our own pages sign you out")).to_be_visible()
    await page.goto(split.front_end)
    assert (await page.evaluate("call('/bff/user')"))[0] == 200
