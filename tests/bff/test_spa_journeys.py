"""A build in Chromium, under the policy that is made from it: deep links, lazy chunks, inline scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from app.bff import url
from tests.bff.application.handlers import SignedOut
from tests.bff.browser_users import BrowserUser, Site, browser_user, running_site
from tests.bff.harness import Clock
from tests.bff.spa_table import copy_of_build

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOTE_VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => {
  violations.push(event.violatedDirective + event.blockedURI);
});
"""
WHAT_WORKS = """async () => {
  await document.fonts.load("16px Square");
  const image = document.getElementById("inlined");
  return {
    inlineScript: window.started, module: window.modern, legacy: window.legacy ?? null,
    image: image.complete && image.naturalWidth, font: document.fonts.check("16px Square"),
    inlineStyle: getComputedStyle(document.querySelector(".early")).borderTopWidth,
    stylesheet: getComputedStyle(document.querySelector("h1")).color, violations,
  };
}"""
EVERYTHING = {
    "inlineScript": ["Orders"],
    "module": True,
    "legacy": None,
    "image": 8,
    "font": True,
    "inlineStyle": "7px",
    "stylesheet": "rgb(1, 2, 3)",
    "violations": [],
}
INJECT = """() => {
  const script = document.createElement("script");
  script.textContent = "window.injected = true";
  document.head.append(script);
  return window.injected ?? null;
}"""


@pytest_asyncio.fixture(loop_scope="module")
async def site(clock: Clock, tmp_path: Path) -> AsyncIterator[Site]:
    routes = [url("/signed-out", SignedOut)]
    async with running_site(clock, spa=str(copy_of_build(tmp_path)), routes=routes) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(chromium: Browser, site: Site) -> AsyncIterator[BrowserUser]:
    async with browser_user(chromium, site) as visitor:
        await visitor.page.add_init_script(NOTE_VIOLATIONS)
        yield visitor


async def works(page: Page, heading: str) -> None:
    await expect(page.get_by_role("heading", name=heading)).to_be_visible()
    assert await page.evaluate(WHAT_WORKS) == EVERYTHING


async def test_a_build_runs_under_its_policy_from_every_link(visitor: BrowserUser):
    await visitor.goes_to("/")
    await works(visitor.page, "Hello")  # from a module that an import map names
    await visitor.clicks("Order 5")
    await works(visitor.page, "Order 5")  # from a lazy chunk
    await visitor.page.reload()
    await works(visitor.page, "Order 5")
    await visitor.goes_to("/orders/5?from=mail#top")
    await works(visitor.page, "Order 5")

    assert visitor.console_errors == []


async def test_a_script_that_is_injected_into_it_does_not_run(visitor: BrowserUser):
    await visitor.goes_to("/")
    await expect(visitor.page.get_by_role("heading", name="Hello")).to_be_visible()

    assert await visitor.page.evaluate(INJECT) is None
    assert await visitor.page.evaluate("violations") == ["script-src-eleminline"]


async def test_with_bff_spa_signed_in_a_deep_link_comes_back_after_the_login(
    chromium: Browser, clock: Clock, tmp_path: Path
):
    build = str(copy_of_build(tmp_path))
    async with (
        running_site(clock, spa=build, spa_signed_in=True, routes=[]) as site,
        browser_user(chromium, site) as alice,
    ):
        await alice.goes_to("/orders/5?from=mail")
        await alice.chooses()
        await expect(alice.page.get_by_role("heading", name="Order 5")).to_be_visible()
        await alice.is_at("/orders/5?from=mail")
