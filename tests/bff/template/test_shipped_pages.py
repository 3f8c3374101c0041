"""The pages that a generated project begins with: what they do, and their accessibility."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from app.bff.dev.server import Failure
from app.bff.sessions.session import Reason
from tests.bff.axe import LOOKS, audits
from tests.bff.browser_users import Site, content_width
from tests.bff.harness import Clock
from tests.bff.template.shipped_pages import PLACES, DemoUser, demo_user, shipped_site
from tests.bff.test_session_journeys import another_browser, another_window, is_emptied, is_hidden

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXPIRED_SECONDS = 301  # the provider's access tokens live for 300


@pytest_asyncio.fixture(loop_scope="module")
async def site(clock: Clock) -> AsyncIterator[Site]:
    async with shipped_site(clock) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def alice(chromium: Browser, site: Site) -> AsyncIterator[DemoUser]:
    async with demo_user(chromium, site) as alice:
        yield alice


# What the pages do


async def test_alice_signs_in_sees_her_account_and_signs_out(alice: DemoUser):
    await alice.signs_in()
    await alice.clicks("Account")

    await alice.sees("Your account")
    await expect(alice.page.locator("main")).to_contain_text("alice@example.com")
    await expect(alice.page.locator("main")).to_contain_text(re.compile(r"Ends in (1 h|59 min)"))
    await expect(alice.page.get_by_text("auth_time")).to_be_hidden()  # until the details are opened

    await alice.signs_out()
    await alice.page.reload()
    await alice.is_signed_out()


async def test_the_to_do_list_works_while_the_access_token_expires_unnoticed(site: Site, alice: DemoUser):
    await alice.signs_in("/todos")
    await alice.adds("Water the plants")
    site.clock.advance(EXPIRED_SECONDS)
    await alice.deletes("Sign in")
    await alice.page.reload()

    await alice.has_todos("Register a client for your own API", "Water the plants")
    assert site.provider.counts["token:refresh_token"] == 1


async def test_an_admin_empties_all_lists_and_another_user_is_offered_another_account(
    chromium: Browser, site: Site, alice: DemoUser
):
    async with demo_user(chromium, site) as bob:
        await bob.signs_in("/todos", user="Bob Brown")
        await bob.has_todos("Sign in", "Register a client for your own API")
        await expect(bob.page.get_by_role("link", name="To-dos of all users")).to_have_count(0)
        await alice.signs_in("/todos")
        await alice.clicks("To-dos of all users")
        await alice.clicks("Delete them all", role="button")
        await expect(alice.page.get_by_role("status")).to_have_text("All to-dos are deleted.")
        await bob.page.reload()
        await bob.has_todos()

        await bob.goes_to("/todos/everyone")
        await expect(bob.page.get_by_role("main")).to_contain_text("You are signed in as Bob Brown")
        await bob.clicks("Use another account")
        await bob.chooses("Alice Adams")
        await bob.sees("To-dos of all users")


async def test_no_page_breaks_its_own_security_policy_or_complains_in_the_console(alice: DemoUser):
    await alice.goes_to("/")
    await alice.signs_in()
    await alice.goes_to("/todos")
    await alice.adds("Water the plants")
    await alice.signs_out()
    assert alice.console_errors == []

    await alice.goes_to("/nowhere")
    await alice.sees("Not Found")
    assert [text for text in alice.console_errors if "404 (Not Found)" not in text] == []


async def test_the_pages_work_without_javascript(chromium: Browser, site: Site):
    async with demo_user(chromium, site, java_script_enabled=False) as alice:
        await alice.signs_in()
        await alice.clicks("To-dos")
        await alice.has_todos("Sign in", "Register a client for your own API")
        await expect(alice.page.locator("pre")).to_contain_text("Bearer …")
        await expect(alice.page.get_by_role("button")).to_have_count(0)  # none that would do nothing

        await alice.signs_out()


async def test_no_page_scrolls_sideways_on_a_phone(chromium: Browser, site: Site):
    async with demo_user(chromium, site, viewport={"width": 360, "height": 740}, is_mobile=True) as alice:
        widths = []
        await alice.goes_to("/")
        widths.append(await content_width(alice.page))
        await alice.signs_in()
        for path in ("/", "/todos", "/account", "/sessions", "/nowhere"):
            await alice.goes_to(path)
            widths.append(await content_width(alice.page))

    assert widths == [360] * 6


async def test_the_list_ends_the_session_of_another_browser(chromium: Browser, site: Site, alice: DemoUser):
    async with another_browser(chromium, site) as elsewhere:
        await alice.signs_in("/sessions")
        await expect(alice.page.get_by_role("listitem")).to_have_count(2)
        await expect(alice.page.get_by_role("listitem").filter(has_text="This browser")).to_have_count(1)

        await alice.page.get_by_role("button", name="Sign out HeadlessChrome").click()

        await is_emptied(elsewhere, "You signed this browser out")
        await expect(alice.page.locator("#sessions-status")).to_contain_text(re.compile("^Signed out: .+"))
        await expect(alice.page.get_by_role("listitem")).to_have_count(1)


async def test_the_list_ends_all_others_at_once(chromium: Browser, site: Site, alice: DemoUser):
    async with another_browser(chromium, site) as one, another_browser(chromium, site) as two:
        await alice.signs_in("/sessions")
        await alice.may_end(2)
        alice.page.once("dialog", lambda dialog: dialog.accept())

        await alice.clicks("Sign out everywhere else", role="button")

        for elsewhere in (one, two):
            await is_emptied(elsewhere, "You signed this browser out")
    await alice.may_end(0)
    await expect(alice.page.get_by_role("button", name="Sign out everywhere else")).to_be_hidden()
    await alice.page.reload()
    await alice.sees_name("Alice Adams")


async def test_the_others_stay_when_their_end_is_not_confirmed(
    chromium: Browser, site: Site, alice: DemoUser
):
    async with another_browser(chromium, site):
        await alice.signs_in("/sessions")
        alice.page.once("dialog", lambda dialog: dialog.dismiss())

        await alice.clicks("Sign out everywhere else", role="button")

        await alice.page.reload()
        await alice.may_end(1)


async def test_a_session_that_is_over_already_leaves_the_list(chromium: Browser, site: Site, alice: DemoUser):
    async with another_browser(chromium, site) as elsewhere:
        await alice.signs_in("/sessions")
        await alice.may_end(1)
        await elsewhere.signs_out()

        await alice.page.get_by_role("button", name="Sign out HeadlessChrome").click()

        await alice.may_end(0)


async def test_the_list_is_there_without_javascript(chromium: Browser, site: Site):
    async with demo_user(chromium, site, java_script_enabled=False) as alice:
        await alice.signs_in("/sessions")

        await expect(alice.page.get_by_role("listitem")).to_contain_text("Signed in just now")
        await expect(alice.page.get_by_role("button")).to_have_count(0)


async def test_every_page_says_that_the_end_is_near_and_offers_to_stay(site: Site, alice: DemoUser):
    await alice.signs_in()
    window = await another_window(alice, "/account")
    await is_hidden(window)
    site.clock.advance(site.app.services.settings.session_idle_seconds - 30)
    await is_hidden(window, False)

    notice = window.page.get_by_role("alert").locator("p")
    await expect(notice).to_have_text("Your session is about to end.")
    found = [audit.violations async for audit in audits(window.page)]
    await window.clicks("Stay signed in", role="button")

    await expect(notice).to_have_text("You stay signed in.")
    await window.page.reload()
    await expect(window.page.locator("main")).to_contain_text(re.compile(r"Ends in (1 h|59 min)"))
    assert found == [[]] * len(LOOKS)


async def test_to_dos_that_cannot_be_read_are_not_shown_as_none(site: Site, alice: DemoUser):
    site.api.fails["todos"] = Failure()

    await alice.signs_in("/todos")

    await expect(alice.page.locator("#todo-status")).to_have_text("Status 503")
    await expect(alice.page.get_by_text("Nothing to do")).to_be_hidden()


async def test_the_page_of_a_session_that_is_over_says_why(alice: DemoUser):
    generic = "Your session is over."
    for reason in set(Reason) - {Reason.RENEWED}:  # after which no page leaves
        await alice.goes_to(f"/signed-out?reason={reason}")
        await alice.sees("You are signed out")
        await expect(alice.page.locator("main")).not_to_contain_text(generic)


# Everybody can use them: axe-core, a narrow screen, a keyboard alone


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_axe_finds_nothing_in_any_look_and_nothing_is_too_wide(
    alice: DemoUser, place: Callable[[DemoUser], Awaitable[None]]
):
    await place(alice)

    found = [audit async for audit in audits(alice.page)]

    assert [audit.look for audit in found] == LOOKS
    assert [audit.violations for audit in found] == [[]] * len(LOOKS)
    assert min(audit.passed for audit in found) >= 10
    assert [audit.overflow for audit in found] == [0] * len(LOOKS)


async def test_the_first_stop_skips_the_navigation(alice: DemoUser):
    await alice.signs_in()
    await alice.goes_to("/account")

    await alice.tabs_to("Skip to content", at_most=1)
    await alice.page.keyboard.press("Enter")

    await expect(alice.page.locator("main")).to_be_focused()
    await alice.tabs_to("Where you are signed in", at_most=1)


async def test_a_keyboard_is_enough_to_sign_in_and_out(alice: DemoUser):
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


async def test_a_keyboard_is_enough_to_add_and_delete_a_to_do(alice: DemoUser):
    await alice.signs_in("/todos")
    await alice.may_delete(2)
    await alice.page.get_by_label("New to-do").focus()
    await alice.page.keyboard.type("Water the plants")
    await alice.page.keyboard.press("Enter")
    await alice.may_delete(3)

    await alice.tabs_to("Delete “Sign in”")
    await alice.page.keyboard.press("Space")

    await alice.may_delete(2)
    await alice.has_focus("Delete “Register a client for your own API”")


async def test_a_keyboard_is_enough_to_end_a_session(chromium: Browser, site: Site, alice: DemoUser):
    async with demo_user(chromium, site) as elsewhere:
        await elsewhere.signs_in()
    await alice.signs_in("/sessions")
    await alice.may_end(1)

    await alice.tabs_to("Sign out HeadlessChrome", at_most=20)
    await alice.page.keyboard.press("Enter")

    await alice.may_end(0)
    await expect(alice.page.locator("main")).to_be_focused()
