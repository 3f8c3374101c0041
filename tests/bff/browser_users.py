"""A user in front of a real Chromium.

The application is on localhost and the provider on 127.0.0.1: two sites, so `SameSite=Strict` counts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.testing.chromium import ARGS, find_chromium
from tests.bff.harness import Clock, RunningApp, running_app

expect.set_options(timeout=15_000)  # on a machine that has much else to do; as a rule it takes milliseconds

FOCUSED = """() => {
  const element = document.activeElement;
  const name = element.getAttribute("aria-label") ?? element.textContent.trim();
  return [name, getComputedStyle(element).outlineStyle];
}"""


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


class BrowserUser:
    """A user in front of a browser."""

    def __init__(self, site: Site, page: Page) -> None:
        self.site = site
        self.page = page
        self.console_errors: list[str] = []
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self._note("error", str(error)))

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.console_errors.append(text)

    @property
    def browser(self) -> Browser:
        browser = self.page.context.browser
        assert browser
        return browser

    async def goes_to(self, path: str) -> None:
        await self.page.goto(self.site.url + path)

    async def clicks(self, name: str, role: Any = "link") -> None:
        await self.page.get_by_role(role, name=name, exact=True).first.click()

    async def chooses(self, user: str = "Alice Adams") -> None:
        """On the provider's page."""
        await self.clicks(f"Continue as {user}", role="button")

    async def signs_in(self, start: str = "/", *, user: str = "Alice Adams") -> None:
        await self.goes_to(start)
        if start == "/":
            await self.clicks("Sign in")
        await self.chooses(user)
        await self.is_at(start)
        await self.sees_name(user)

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

    async def tabs_to(self, name: str, at_most: int = 40) -> None:
        """Press Tab until the focus is on an element with that name, or prefix; each stop must be visible."""
        for _ in range(at_most):
            await self.page.keyboard.press("Tab")
            called, outline = await self.page.evaluate(FOCUSED)
            assert outline != "none", f"the focus on {called} is invisible"
            if called.startswith(name):
                return
        raise AssertionError(f"no way to {name} with the keyboard; the last stop was {called}")

    async def has_focus(self, name: str) -> None:
        await expect(self.page.get_by_role("button", name=name)).to_be_focused()


@asynccontextmanager
async def running_chromium(*args: str, **options: Any) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        path = find_chromium(playwright)
        browser = await playwright.chromium.launch(executable_path=path, args=[*ARGS, *args], **options)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with running_chromium() as browser:
        yield browser


@asynccontextmanager
async def running_site(
    clock: Clock, *, provider_host: str = "127.0.0.1", **settings: Any
) -> AsyncIterator[Site]:
    provider = Provider([], clock=clock)
    api = DemoApi(provider)
    async with AsyncExitStack() as stack:
        for server in (provider, api):
            await server.start()
            stack.push_async_callback(server.stop)
        provider.issuer = f"http://{provider_host}:{provider.port}"
        app = await stack.enter_async_context(running_app(provider, api, clock=clock, **settings))
        yield Site(app, provider, api, clock)


@pytest_asyncio.fixture(loop_scope="module")
async def site(clock: Clock) -> AsyncIterator[Site]:
    async with running_site(clock) as site:
        yield site


@asynccontextmanager
async def browser_user(chromium: Browser, site: Site, **options: Any) -> AsyncIterator[BrowserUser]:
    context = await chromium.new_context(**options)
    context.set_default_timeout(15_000)
    try:
        yield BrowserUser(site, await context.new_page())
    finally:
        await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def alice(chromium: Browser, site: Site) -> AsyncIterator[BrowserUser]:
    async with browser_user(chromium, site) as alice:
        yield alice


async def content_width(page: Page) -> int:
    """How wide the page's content is, in CSS pixels."""
    return int(await page.evaluate("document.documentElement.scrollWidth"))


async def cookie_value(context: BrowserContext, name: str) -> str:
    return next(cookie["value"] for cookie in await context.cookies() if cookie["name"] == name)
