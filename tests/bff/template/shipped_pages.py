"""The pages that a generated project begins with, in a real browser.

`python -m tests.bff.template.shipped_pages` audits them in every look, and prints the figures.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, expect

from app.main import ROUTES
from app.settings import Settings
from tests.bff import axe
from tests.bff.axe import Audit, audits
from tests.bff.browser_users import BrowserUser, Site, browser_user, running_chromium, running_site
from tests.bff.harness import Clock


class DemoUser(BrowserUser):
    """A user of the demo: the to-do list, the list of sessions."""

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

    async def may_end(self, sessions: int) -> None:
        """The page's script has done all that it does by itself."""
        await expect(self.page.get_by_role("button", name="Sign out HeadlessChrome")).to_have_count(sessions)


@asynccontextmanager
async def shipped_site(clock: Clock) -> AsyncIterator[Site]:
    """The application of `app/main.py` and `app/settings.py`."""
    async with running_site(clock, settings_class=Settings, routes=ROUTES) as site:
        yield site


@asynccontextmanager
async def demo_user(chromium: Browser, site: Site, **options: Any) -> AsyncIterator[DemoUser]:
    async with browser_user(chromium, site, **options) as user:
        yield DemoUser(site, user.page)


async def at_home(alice: DemoUser) -> None:
    await alice.goes_to("/")
    await alice.is_signed_out()


async def at_home_signed_in(alice: DemoUser) -> None:
    await alice.signs_in()


async def at_her_account(alice: DemoUser) -> None:
    await alice.signs_in("/account")
    await alice.page.get_by_text("Everything that your sign-in service says").click()


async def at_her_to_dos(alice: DemoUser) -> None:
    await alice.signs_in("/todos")
    await alice.may_delete(2)
    await alice.page.get_by_text("What the API received").click()


async def at_the_to_dos_of_all_users(alice: DemoUser) -> None:
    await alice.signs_in("/todos")
    await alice.clicks("To-dos of all users")
    await expect(alice.page.get_by_role("button", name="Delete them all")).to_be_visible()


async def without_to_dos(alice: DemoUser) -> None:
    await alice.signs_in("/todos")
    for todo in ("Sign in", "Register a client for your own API"):
        await alice.deletes(todo)
    await expect(alice.page.get_by_text("Nothing to do")).to_be_visible()


async def at_her_sessions(alice: DemoUser) -> None:
    async with demo_user(alice.browser, alice.site) as elsewhere:
        await elsewhere.signs_in()
    await alice.signs_in("/sessions")
    await alice.may_end(1)


async def signed_out_elsewhere(alice: DemoUser) -> None:
    await alice.goes_to("/signed-out?reason=signed_out_elsewhere&returnUrl=/account")
    await alice.sees("You are signed out")


PLACES = [
    at_home,
    at_home_signed_in,
    at_her_account,
    at_her_to_dos,
    at_the_to_dos_of_all_users,
    without_to_dos,
    at_her_sessions,
    signed_out_elsewhere,
    axe.lost,
    axe.back_from_the_provider_too_late,
]


async def print_figures() -> None:
    runs = 0
    async with running_chromium() as chromium:
        for place in PLACES:
            async with shipped_site(Clock()) as site, demo_user(chromium, site) as alice:
                await place(alice)
                async for audit in audits(alice.page):
                    runs += 1
                    print(f"{place.__name__:32} {audit.look!s:14} {figures(audit)}")
    print(f"{runs} runs of axe-core, {len(PLACES)} pages")


def figures(audit: Audit) -> str:
    too_wide = f"scrolls sideways by {audit.overflow} px" if audit.overflow else "no sideways scrolling"
    counts = f"{len(audit.violations)} violations, {audit.passed:2} rules passed, {too_wide}"
    return "\n    ".join([counts, *audit.violations, *(f"undecided: {rule}" for rule in audit.undecided)])


if __name__ == "__main__":
    asyncio.run(print_figures())
