"""Journeys: what a person does in a real browser.

The application is on localhost and the provider on 127.0.0.1: two sites, so `SameSite=Strict` counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from app.sessions.session import Reason, session_ref
from dev.api import DemoApi
from dev.provider import Provider
from tests.chromium import ARGS, find_chromium
from tests.parts import Clock, RunningApp, running_app

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one loop, so that one Chromium serves all tests

TOKEN = re.compile(r"\b(?:at|rt)-[\w-]{43}|\beyJ[\w-]+\.[\w-]+\.[\w-]+")
EXPIRED_SECONDS = 301  # the provider's access tokens live for 300


@dataclass(frozen=True)
class Site:
    """Everything that a journey passes through."""

    app: RunningApp
    provider: Provider
    api: DemoApi
    clock: Clock

    @property
    def url(self) -> str:
        return self.app.base_url


class Person:
    """Somebody in front of a browser."""

    def __init__(self, site: Site, page: Page) -> None:
        self.site = site
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self._note("error", str(error)))

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    async def goes_to(self, path: str) -> None:
        await self.page.goto(self.site.url + path)

    async def clicks(self, name: str, role: Any = "link") -> None:
        await self.page.get_by_role(role, name=name, exact=True).first.click()

    async def chooses(self, user: str = "Alice Adams") -> None:
        """On the provider's page."""
        await self.clicks(f"Continue as {user}", role="button")

    async def signs_in(self, start: str = "/") -> None:
        await self.goes_to(start)
        if start == "/":
            await self.clicks("Sign in")
        await self.chooses()
        await self.is_at(start)
        await self.sees_name("Alice Adams")

    async def is_at(self, path: str) -> None:
        await expect(self.page).to_have_url(self.site.url + path)

    async def sees(self, heading: str) -> None:
        await expect(self.page.get_by_role("heading", name=heading, exact=True)).to_be_visible()

    async def sees_name(self, name: str) -> None:
        await expect(self.page.locator(".who .name")).to_have_text(name)

    async def signs_out(self) -> None:
        await self.clicks("Sign out")
        await self.is_signed_out()
        await self.is_at("/")

    async def is_signed_out(self) -> None:
        await expect(self.page.locator(".who")).to_have_text("Sign in")

    async def adds(self, todo: str) -> None:
        await self.page.get_by_label("New to-do").fill(todo)
        await self.clicks("Add", role="button")
        await expect(self.page.locator("#todo-status")).to_have_text(f"Added “{todo}”.")

    async def deletes(self, todo: str) -> None:
        await self.clicks(f"Delete “{todo}”", role="button")
        await expect(self.page.locator("#todo-status")).to_have_text(f"Deleted “{todo}”.")

    async def has_todos(self, *titles: str) -> None:
        await expect(self.page.locator("#todos .todo-title")).to_have_text(list(titles))

    async def may_delete(self, todos: int) -> None:
        """The page's script has done all that it does by itself."""
        await expect(self.page.get_by_role("button", name="Delete")).to_have_count(todos)

    async def calls_the_api_again(self) -> None:
        await self.clicks("Call the API again", role="button")
        await expect(self.page.locator("#api-status")).to_contain_text("Answered at")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_chromium(playwright), args=ARGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def site(clock: Clock) -> AsyncIterator[Site]:
    provider = Provider([], clock=clock)
    api = DemoApi(provider)
    async with AsyncExitStack() as stack:
        for server in (provider, api):
            await server.start()
            stack.push_async_callback(server.stop)
        app = await stack.enter_async_context(running_app(provider, api, clock=clock))
        yield Site(app, provider, api, clock)


@asynccontextmanager
async def a_person(chromium: Browser, site: Site, **options: Any) -> AsyncIterator[Person]:
    context = await chromium.new_context(**options)
    context.set_default_timeout(10_000)
    try:
        yield Person(site, await context.new_page())
    finally:
        await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def alice(chromium: Browser, site: Site) -> AsyncIterator[Person]:
    async with a_person(chromium, site) as alice:
        yield alice


@asynccontextmanager
async def another_site(host: str, page: str) -> AsyncIterator[str]:
    """A page that is not ours, on a port of its own; yields its URL."""

    class Index(RequestHandler):
        def get(self) -> None:
            self.finish(f"<!doctype html><title>Elsewhere</title>{page}")

    [socket] = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application([("/", Index)], log_function=lambda handler: None))
    server.add_sockets([socket])
    yield f"http://{host}:{socket.getsockname()[1]}/"
    server.stop()
    await server.close_all_connections()


async def test_alice_signs_in_sees_her_account_and_signs_out(alice: Person):
    await alice.signs_in()
    await alice.clicks("Account")

    await alice.sees("Your account")
    await expect(alice.page.get_by_role("row", name="email alice@example.com")).to_be_visible()
    await expect(alice.page.locator("#api-answer")).to_contain_text("Bearer …")
    await expect(alice.page.locator("#session-time")).to_have_text(re.compile(r"1 h 0 min|59 min"))

    await alice.signs_out()
    await alice.page.reload()
    await alice.is_signed_out()


async def test_the_to_do_list_works_and_nobody_notices_that_the_access_token_expired(
    site: Site, alice: Person
):
    await alice.signs_in("/account")
    await alice.adds("Water the plants")
    site.clock.advance(EXPIRED_SECONDS)
    await alice.deletes("Sign in")
    await alice.page.reload()

    await alice.has_todos("Register a client for your own API", "Water the plants")
    assert site.provider.counts["token:refresh_token"] == 1


async def test_after_signing_in_the_page_that_was_asked_for_is_shown(alice: Person):
    await alice.goes_to("/account?from=mail&x=%20")
    await alice.chooses()

    await alice.is_at("/account?from=mail&x=%20")
    await alice.sees("Your account")


async def test_a_link_on_another_site_leads_to_the_account_and_not_to_the_login_page(
    site: Site, alice: Person
):
    await alice.signs_in()
    asked = site.provider.counts["authorize"]

    async with another_site("127.0.0.1", f'<a href="{site.url}/account">Your order</a>') as mail:
        await alice.page.goto(mail)
        await alice.clicks("Your order")
        await alice.sees("Your account")

    await alice.sees_name("Alice Adams")
    assert site.provider.counts["authorize"] == asked


async def test_two_tabs_sign_in_at_once(alice: Person):
    other = Person(alice.site, await alice.page.context.new_page())
    await alice.goes_to("/account?tab=1")
    await other.goes_to("/account?tab=2")

    await alice.chooses()
    await alice.is_at("/account?tab=1")
    await other.chooses()
    await other.is_at("/account?tab=2")

    await alice.goes_to("/")
    await alice.sees_name("Alice Adams")


async def test_the_back_button_after_signing_in_is_harmless(site: Site, alice: Person):
    await alice.signs_in()
    asked = site.provider.counts["authorize"]
    statuses: list[int] = []
    alice.page.on("response", lambda response: statuses.append(response.status))

    for _ in range(3):
        await alice.page.go_back(wait_until="load")

    assert max(statuses) < 500
    assert site.provider.counts["authorize"] <= asked + 3
    await alice.goes_to("/")
    await alice.sees_name("Alice Adams")


async def test_the_browser_never_gets_a_token_and_scripts_see_no_cookie(
    chromium: Browser, site: Site, tmp_path: Path
):
    har = tmp_path / "journey.har"
    async with a_person(chromium, site, record_har_path=har, record_har_content="embed") as alice:
        await alice.signs_in()
        await alice.goes_to("/account")
        await alice.calls_the_api_again()
        await alice.page.evaluate("fetch('/bff/user', {headers: {'X-CSRF': '1'}}).then(r => r.text())")
        stored = "[document.cookie, localStorage.length, sessionStorage.length]"
        assert await alice.page.evaluate(stored) == ["", 0, 0]
        assert not TOKEN.search(json.dumps(await alice.page.context.storage_state()))

    recorded = har.read_text()
    assert "bff:session_expires_in" in recorded  # bodies are in it
    assert TOKEN.findall(recorded) == []


ATTEMPTS = """async (url) => {
  const todo = JSON.stringify({title: "Stolen"});
  const attempts = [
    fetch(url + "/bff/user", {credentials: "include"}),
    fetch(url + "/bff/user", {credentials: "include", headers: {"X-CSRF": "1"}}),
    fetch(url + "/api/todos", {credentials: "include", headers: {"X-CSRF": "1"}}),
    fetch(url + "/api/todos", {method: "POST", credentials: "include", mode: "no-cors", body: todo}),
    fetch(url + "/api/todos", {method: "POST", credentials: "include", headers: {"X-CSRF": "1"}, body: todo}),
  ];
  const answers = await Promise.allSettled(attempts);
  return Promise.all(answers.map(async ({value}) => value ? await value.text() : "refused"));
}"""
FORM = '<form method="post" action="{}/api/todos"><input name="title"><button>Win</button></form>'


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("127.0.0.1", id="another site"),
        pytest.param("localhost", id="another port, so the cookie comes along"),
    ],
)
async def test_other_origins_can_neither_read_nor_change_anything(site: Site, alice: Person, host: str):
    await alice.signs_in()

    async with another_site(host, FORM.format(site.url)) as evil:
        await alice.page.goto(evil)
        answers = await alice.page.evaluate(ATTEMPTS, site.url)
        async with alice.page.expect_response("**/api/todos") as posted:
            await alice.clicks("Win", role="button")

    assert answers == ["refused"] * 5
    assert (await posted.value).status == 403
    assert site.api.counts["todos"] == 0


async def test_no_page_breaks_its_own_security_policy_or_complains_in_the_console(alice: Person):
    await alice.goes_to("/")
    await alice.signs_in()
    await alice.goes_to("/account")
    await alice.calls_the_api_again()
    await alice.adds("Water the plants")
    await alice.signs_out()
    assert alice.complaints == []

    await alice.goes_to("/nowhere")
    await alice.sees("Not Found")
    assert [text for text in alice.complaints if "404 (Not Found)" not in text] == []


async def test_the_pages_work_without_javascript(chromium: Browser, site: Site):
    async with a_person(chromium, site, java_script_enabled=False) as alice:
        await alice.signs_in()
        await alice.clicks("Account")
        await alice.has_todos("Sign in", "Register a client for your own API")
        await expect(alice.page.locator("#api-answer")).to_contain_text("Bearer …")
        await expect(alice.page.get_by_role("button")).to_have_count(0)  # none that would do nothing

        await alice.signs_out()


async def test_no_page_scrolls_sideways_on_a_phone(chromium: Browser, site: Site):
    async with a_person(chromium, site, viewport={"width": 360, "height": 740}, is_mobile=True) as alice:
        widths = []
        await alice.goes_to("/")
        widths.append(await width(alice.page))
        await alice.signs_in()
        for path in ("/", "/account", "/nowhere"):
            await alice.goes_to(path)
            widths.append(await width(alice.page))

    assert widths == [360] * 4


async def width(page: Page) -> int:
    """How wide the page's content is, in CSS pixels."""
    return int(await page.evaluate("document.documentElement.scrollWidth"))


async def test_the_account_page_says_that_the_session_has_ended(site: Site, alice: Person):
    await alice.page.clock.install()
    await alice.signs_in("/account")
    await alice.may_delete(2)
    session_id = await cookie(alice.page.context, site.app.services.cookies.session_name)
    await site.app.services.tokens.end(session_ref(session_id), Reason.SIGNED_OUT)

    await alice.page.clock.fast_forward("01:01")
    await expect(alice.page.locator("#session-status")).to_have_text("Your session has ended.")

    await alice.clicks("Sign in again")
    await alice.is_at("/account")
    await alice.sees("Your account")


async def cookie(context: BrowserContext, name: str) -> str:
    return next(cookie["value"] for cookie in await context.cookies() if cookie["name"] == name)


async def test_whoever_denies_is_told_so_and_may_try_again(alice: Person):
    await alice.goes_to("/account")
    await alice.clicks("Deny", role="button")
    await alice.sees("Signing in did not work")

    await alice.clicks("Try again")
    await alice.chooses()

    await alice.sees_name("Alice Adams")
