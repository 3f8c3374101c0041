"""Silent login in a real browser: what a frame may show, which cookies reach it, whom it tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from app.bff import BaseHandler, url
from tests.bff.application.main import ROUTES
from tests.bff.browser_users import BrowserUser, Site, browser_user, running_site
from tests.bff.harness import Clock
from tests.bff.test_journeys import another_site

pytestmark = pytest.mark.asyncio(loop_scope="module")

# The page of ours: returns the frame's message, with its origin.
ASKS_IN_A_FRAME = """(path) => new Promise((resolve) => {
  addEventListener("message", ({origin, data}) => resolve({origin, ...data}));
  const frame = document.createElement("iframe");
  frame.src = path;
  document.body.append(frame);
})"""
ASKS_IN_A_WINDOW = """(path) => new Promise((resolve) => {
  addEventListener("message", ({origin, data}) => resolve({origin, ...data}));
  window.open(path);
})"""
# A page of another site.
OPENS = """(url) => {
  window.messages = [];
  addEventListener("message", ({data}) => messages.push(data));
  window.open(url);
}"""
IS_SIGNED_IN = "fetch('/bff/user', {headers: {'X-CSRF': '1'}}).then((response) => response.ok)"
# A page of another site; resolves when the frame has loaded, with any content.
FRAMES = """(url) => new Promise((resolve) => {
  const messages = [];
  addEventListener("message", ({data}) => messages.push(data));
  const frame = document.createElement("iframe");
  frame.onload = () => resolve(messages);
  frame.src = url;
  document.body.append(frame);
})"""


@pytest_asyncio.fixture(loop_scope="module", params=["localhost"])
async def site(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Site]:
    """The application on localhost, and the provider on the host that the test names."""
    async with running_site(clock, provider_host=request.param) as site:
        yield site


on_another_site = pytest.mark.parametrize("site", ["127.0.0.1"], indirect=True)


class SignedInInAPopup(BaseHandler):
    """The page of an owner's that a login in a popup ends at."""

    def get(self) -> None:
        self.set_header("Cross-Origin-Opener-Policy", "unsafe-none")
        script = f"opener.postMessage({{user: '{self.require_session().subject}'}}, location.origin)"
        self.finish(f"<!doctype html><script nonce='{self.csp_nonce}'>{script}</script>")


async def loses_her_session(alice: BrowserUser) -> None:
    await alice.page.context.clear_cookies(name=alice.site.app.services.cookies.session_name)
    await alice.goes_to("/")
    await alice.is_signed_out()


async def asks_in_a_frame(alice: BrowserUser, path: str = "/bff/login?prompt=none") -> dict[str, Any]:
    async with asyncio.timeout(10):  # the page itself would wait for ever
        message: dict[str, Any] = await alice.page.evaluate(ASKS_IN_A_FRAME, path)
    assert (message.pop("origin"), message.pop("source")) == (alice.site.url, "bff-silent-login")
    return message


@pytest.mark.parametrize("path", ["/bff/login?prompt=none", "/bff/silent-login"])
async def test_a_frame_posts_that_the_user_is_signed_in_and_the_session_exists(path: str, alice: BrowserUser):
    await alice.signs_in()
    await loses_her_session(alice)

    assert await asks_in_a_frame(alice, path) == {"isLoggedIn": True}
    assert await alice.page.evaluate(IS_SIGNED_IN)
    assert alice.console_errors == []


async def test_a_frame_posts_that_the_user_is_not_signed_in(alice: BrowserUser):
    await alice.goes_to("/")

    assert await asks_in_a_frame(alice) == {"isLoggedIn": False, "error": "login_required"}
    assert alice.console_errors == []


async def test_a_frame_tells_the_page_that_the_provider_is_down(site: Site, alice: BrowserUser):
    await alice.goes_to("/")
    await site.provider.stop()

    assert await asks_in_a_frame(alice) == {"isLoggedIn": False, "error": "provider_unavailable"}


@on_another_site
async def test_a_provider_on_another_site_has_no_session_in_a_frame_but_on_the_page_itself(
    alice: BrowserUser,
):
    await alice.signs_in()
    await loses_her_session(alice)
    assert await asks_in_a_frame(alice) == {"isLoggedIn": False, "error": "login_required"}

    await alice.goes_to("/bff/login?prompt=none&returnUrl=/account")
    await alice.is_at("/account")
    await alice.sees_name("Alice Adams")


@on_another_site
async def test_a_window_tells_the_page_that_has_opened_it_wherever_the_provider_is(
    alice: BrowserUser, site: Site
):
    await alice.signs_in()
    await loses_her_session(alice)
    async with asyncio.timeout(10):
        message = await alice.page.evaluate(ASKS_IN_A_WINDOW, "/bff/login?prompt=none")

    assert message == {"origin": site.url, "source": "bff-silent-login", "isLoggedIn": True}
    assert await alice.page.evaluate(IS_SIGNED_IN)


async def test_a_popup_that_the_user_signs_in_with_stays_connected_to_the_page_that_has_opened_it(
    chromium: Browser, clock: Clock
):
    routes = [*ROUTES, url("/popup-done", SignedInInAPopup)]
    async with running_site(clock, routes=routes) as site, browser_user(chromium, site) as alice:
        await alice.goes_to("/")
        async with alice.page.expect_popup() as opened:
            message = asyncio.create_task(
                alice.page.evaluate(ASKS_IN_A_WINDOW, "/bff/login?returnUrl=/popup-done")
            )
        await BrowserUser(site, await opened.value).chooses()

        assert await asyncio.wait_for(message, 15) == {"origin": site.url, "user": "alice"}


async def test_a_popup_of_another_site_posts_nothing_to_its_opener(alice: BrowserUser, site: Site):
    await alice.signs_in()
    async with another_site("127.0.0.1", "") as evil:
        await alice.page.goto(evil)
        async with alice.page.expect_popup() as opened:
            await alice.page.evaluate(OPENS, f"{site.url}/bff/login?prompt=none")
        await (await opened.value).wait_for_url("**/bff/callback?*")

        assert await alice.page.evaluate("messages") == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["another site", "another port"])
async def test_no_other_origin_can_have_it_in_a_frame(host: str, site: Site, alice: BrowserUser):
    await alice.signs_in()

    async with another_site(host, "") as evil:
        await alice.page.goto(evil)
        messages = await alice.page.evaluate(FRAMES, f"{site.url}/bff/silent-login")

    assert messages == []
    assert "frame-ancestors 'self'" in " ".join(alice.console_errors)


@pytest.mark.parametrize("path", ["/", "/account"])
async def test_not_even_we_can_have_anything_else_in_a_frame(path: str, site: Site, alice: BrowserUser):
    await alice.signs_in()
    await alice.page.evaluate(FRAMES, path)

    assert "frame-ancestors 'none'" in " ".join(alice.console_errors)
