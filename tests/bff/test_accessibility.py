"""Every page can be used by everybody: axe-core, a narrow screen, a keyboard alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import Browser, expect

from tests.bff.axe import LOOKS, PLACES, audits
from tests.bff.browser_users import BrowserUser, Site, browser_user

pytestmark = pytest.mark.asyncio(loop_scope="module")

Place = Callable[[BrowserUser], Awaitable[None]]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_axe_finds_nothing_in_any_look_and_nothing_is_too_wide(alice: BrowserUser, place: Place):
    await place(alice)

    found = [audit async for audit in audits(alice.page)]

    assert [audit.look for audit in found] == LOOKS
    assert [audit.violations for audit in found] == [[]] * len(LOOKS)
    assert min(audit.passed for audit in found) >= 10
    assert [audit.overflow for audit in found] == [0] * len(LOOKS)


async def test_the_first_stop_skips_the_navigation(alice: BrowserUser):
    await alice.signs_in()
    await alice.goes_to("/account")

    await alice.tabs_to("Skip to content", at_most=1)
    await alice.page.keyboard.press("Enter")

    await expect(alice.page.locator("main")).to_be_focused()
    await alice.tabs_to("Where you are signed in", at_most=1)


async def test_a_keyboard_is_enough_to_sign_in_and_out(alice: BrowserUser):
    await alice.goes_to("/")
    await alice.tabs_to("Sign in")
    await alice.page.keyboard.press("Enter")
    await alice.page.wait_for_url("**/authorize?*")
    await alice.tabs_to("Continue as Alice Adams")
    await alice.page.keyboard.press("Enter")
    await alice.sees_name("Alice Adams")

    await alice.tabs_to("Sign out")
    await alice.page.keyboard.press("Enter")
    await alice.is_signed_out()


async def test_a_keyboard_is_enough_to_add_and_delete_a_to_do(alice: BrowserUser):
    await alice.signs_in("/account")
    await alice.may_delete(2)
    await alice.page.get_by_label("New to-do").focus()
    await alice.page.keyboard.type("Water the plants")
    await alice.page.keyboard.press("Enter")
    await alice.may_delete(3)

    await alice.tabs_to("Delete “Sign in”")
    await alice.page.keyboard.press("Space")

    await alice.may_delete(2)
    await alice.has_focus("Delete “Register a client for your own API”")


async def test_a_keyboard_is_enough_to_end_a_session(chromium: Browser, site: Site, alice: BrowserUser):
    async with browser_user(chromium, site) as elsewhere:
        await elsewhere.signs_in()
    await alice.signs_in("/sessions")
    await alice.may_end(1)

    await alice.tabs_to("End the session of", at_most=20)
    await alice.page.keyboard.press("Enter")

    await alice.may_end(0)
    await expect(alice.page.locator("main")).to_be_focused()
