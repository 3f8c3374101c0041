"""The Chromium that tests drive."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
NO_CHROMIUM = "There is no Chromium"
HINT = f"{NO_CHROMIUM}: run scripts/test.sh, which installs one if it can, or name one in CHROMIUM"
TIMEOUT_MILLISECONDS = 10_000


def find_chromium(playwright: Any) -> Path:
    """The one in CHROMIUM, else one on PATH, else Playwright's own; FileNotFoundError if there is none."""
    on_path = next((path for name in NAMES if (path := shutil.which(name))), None)
    found = Path(os.environ.get("CHROMIUM") or on_path or playwright.chromium.executable_path)
    if not found.is_file():
        raise FileNotFoundError(HINT)
    return found


@asynccontextmanager
async def chromium_or_skip() -> AsyncIterator[Browser]:
    """Start a Chromium; without one, skip the test."""
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        pytest.skip(f"{NO_CHROMIUM}: the Python package playwright is not installed")
    async with async_playwright() as playwright:
        try:
            path = find_chromium(playwright)
        except FileNotFoundError as error:
            pytest.skip(str(error))
        browser = await playwright.chromium.launch(executable_path=path, args=ARGS)
        yield browser
        await browser.close()


async def sign_in(page: Page, user: str = "alice", return_path: str = "/") -> None:
    """Sign in as a user of the development provider (`alice` or `bob`), and go to `return_path`."""
    await page.goto(f"/bff/login?returnUrl={return_path}")
    await page.locator(f"button[name=sub][value={user}]").click()
    await page.wait_for_url(f"**{return_path}")


def has_chromium() -> bool:
    """Whether there is one. scripts/setup_browser.sh asks this; not to be called in a running event loop."""
    from playwright.sync_api import sync_playwright

    try:
        with sync_playwright() as playwright:
            return find_chromium(playwright).is_file()
    except FileNotFoundError:
        return False
