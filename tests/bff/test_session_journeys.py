"""Journeys with more than one window or browser: what ends a session, and what the windows then show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Route, expect

from app.bff.oidc.login_attempt import ATTEMPT_SECONDS
from app.bff.sessions.session import Reason, session_ref
from tests.bff.browser_users import BrowserUser, Site, browser_user, cookie_value, running_chromium

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENDED = "**/signed-out?*"
LEAVE_BY_SCRIPT = "() => { import('/static/bff/bff.js').then(({logout}) => logout('/?bye')); }"


@asynccontextmanager
async def another_browser(chromium: Browser, site: Site) -> AsyncIterator[BrowserUser]:
    """Alice is signed in there too."""
    async with browser_user(chromium, site) as elsewhere:
        async with hears_of_the_session(elsewhere):
            await elsewhere.signs_in("/account")
        yield elsewhere


async def another_window(alice: BrowserUser, path: str) -> BrowserUser:
    window = BrowserUser(alice.site, await alice.page.context.new_page())
    async with hears_of_the_session(window):
        await window.goes_to(path)
    return window


@asynccontextmanager
async def hears_of_the_session(window: BrowserUser) -> AsyncIterator[None]:
    async with window.page.expect_response("**/bff/events") as stream:
        yield
    assert (await stream.value).status == 200


async def ref(alice: BrowserUser) -> str:
    name = alice.site.app.services.cookies.session_name
    return session_ref(await cookie_value(alice.page.context, name))


async def is_hidden(window: BrowserUser, hidden: bool = True) -> None:
    await window.page.evaluate(
        """hidden => {
          Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
          document.dispatchEvent(new Event("visibilitychange", {bubbles: true}));
        }""",
        hidden,
    )


async def is_emptied(window: BrowserUser, why: str) -> None:
    await window.page.wait_for_url(ENDED)
    await window.sees("You are signed out")
    await expect(window.page.locator("main")).to_contain_text(why)
    assert "Alice" not in await window.page.content()


async def test_signing_out_in_one_window_empties_the_other(alice: BrowserUser):
    await alice.signs_in()
    other = await another_window(alice, "/account")

    async with alice.page.expect_response("**/bff/logout?*"):
        await alice.clicks("Sign out")

    await is_emptied(other, f"Reason: {Reason.SIGNED_OUT}")
    await alice.is_signed_out()
    await alice.is_at("/")


async def test_the_window_that_signs_out_goes_on_to_the_provider(site: Site, alice: BrowserUser):
    await alice.signs_in("/account")

    await alice.signs_out()

    assert site.provider.counts["end_session"] == 1


async def test_the_window_that_signs_out_is_empty_while_the_provider_takes_its_time(
    site: Site, alice: BrowserUser
):
    site.provider.holds_answer["end_session"] = asyncio.Event()
    async with hears_of_the_session(alice):
        await alice.signs_in("/account")
    bystander = BrowserUser(site, await alice.page.context.new_page())
    await bystander.goes_to("/healthz")
    await bystander.page.evaluate(HEAR_WHEN_IT_IS_HIDDEN)

    await alice.page.evaluate(CLICK_AND_TELL_WHEN_IT_IS_HIDDEN)

    assert await bystander.page.evaluate("window.heard") == "/account"
    site.provider.holds_answer["end_session"].set()
    await alice.is_at("/")


# Playwright waits for the page that a window is on its way to, so this one tells another.
HEAR_WHEN_IT_IS_HIDDEN = """() => {
  const channel = new BroadcastChannel("test");
  window.heard = new Promise((resolve) => channel.onmessage = ({data}) => resolve(data));
}"""
CLICK_AND_TELL_WHEN_IT_IS_HIDDEN = """() => {
  const tell = () => document.body.hidden && new BroadcastChannel("test").postMessage(location.pathname);
  new MutationObserver(tell).observe(document.body, {attributes: true});
  document.getElementById("sign-out").click();
}"""


async def test_signing_out_by_javascript_goes_on_to_the_provider_too(chromium: Browser, site: Site):
    async with browser_user(chromium, site, bypass_csp=True) as alice:
        await alice.signs_in("/account")
        await alice.page.evaluate(LEAVE_BY_SCRIPT)

        await alice.is_at("/?bye")
        await alice.is_signed_out()

    assert site.provider.counts["end_session"] == 1


async def test_a_hidden_window_is_emptied_by_the_one_that_signs_out(alice: BrowserUser):
    await alice.signs_in()
    other = await another_window(alice, "/account")
    async with other.page.expect_event("requestfailed", lambda request: "/bff/events" in request.url):
        await is_hidden(other)

    await alice.signs_out()

    await other.page.wait_for_url(ENDED)


@pytest.mark.parametrize("reason", [Reason.PROVIDER, Reason.OPERATOR, Reason.EXPIRED])
async def test_a_page_that_its_session_has_left_says_why(site: Site, alice: BrowserUser, reason: Reason):
    await alice.signs_in()
    window = await another_window(alice, "/account?from=mail")

    await site.app.services.tokens.end(await ref(alice), reason)

    await is_emptied(window, f"Reason: {reason}")
    await window.clicks("Sign in again")
    await window.is_at("/account?from=mail")


async def test_signing_in_again_in_one_window_brings_the_other_along(alice: BrowserUser):
    await alice.signs_in()
    other = await another_window(alice, "/account")

    await alice.goes_to("/bff/login?prompt=login")
    await alice.chooses("Bob Brown")
    await alice.sees_name("Bob Brown")

    await other.sees_name("Bob Brown")
    await other.is_at("/account")


async def test_a_window_that_was_signed_out_comes_back_when_another_one_signs_in(alice: BrowserUser):
    window = BrowserUser(alice.site, await alice.page.context.new_page())
    await window.goes_to("/signed-out?returnUrl=/account")

    await alice.signs_in()

    await window.is_at("/account")
    await window.sees_name("Alice Adams")


async def test_a_signed_out_window_whose_script_is_late_finds_out_about_a_sign_in(
    alice: BrowserUser,
):
    window = BrowserUser(alice.site, await alice.page.context.new_page())
    signed_in = asyncio.Event()

    async def load_after_the_sign_in(route: Route) -> None:
        await signed_in.wait()
        await route.continue_()

    await window.page.route("**/static/bff/session.js?*", load_after_the_sign_in)
    await window.page.goto(f"{alice.site.url}/signed-out?returnUrl=/account", wait_until="commit")
    await alice.signs_in()

    signed_in.set()

    await window.is_at("/account")
    await window.sees_name("Alice Adams")
    assert window.console_errors == []


async def test_a_login_page_that_was_left_open_for_15_minutes_does_no_harm(site: Site, alice: BrowserUser):
    await alice.goes_to("/account")
    site.clock.advance(15 * 60)
    assert ATTEMPT_SECONDS < 15 * 60
    await alice.chooses()
    await alice.sees("Signing in did not work")

    await alice.clicks("Try again")

    await alice.is_at("/account")
    await alice.sees("Your account")


async def test_the_back_button_shows_nothing_of_a_session_that_is_over(site: Site):
    """Chromium's back-forward cache, which Playwright disables by default."""
    async with (
        running_chromium(ignore_default_args=["--disable-back-forward-cache"]) as chromium,
        browser_user(chromium, site) as alice,
    ):
        await alice.signs_in("/account")
        await expect(alice.page.locator("main")).to_contain_text("alice@example.com")
        ended = await ref(alice)
        await alice.page.goto(site.provider.issuer)
        await site.app.services.tokens.end(ended, Reason.OPERATOR)
        await site.provider.end_sessions("alice")

        await alice.page.go_back()

        await alice.page.wait_for_url("**/authorize?*")


async def test_a_page_from_the_back_forward_cache_is_hidden_and_loaded_again(alice: BrowserUser):
    await alice.signs_in("/account")
    await expect(alice.page.locator("main")).to_contain_text("alice@example.com")

    await alice.page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
    await expect(alice.page.locator("main")).to_be_hidden()

    async with alice.page.expect_navigation(url="**/account"):
        await alice.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    await alice.sees("Your account")
