"""A front end that was written for Duende.BFF, in a folder of its own, in Chromium: nothing in it is ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.bff.browser_users import BrowserUser, Site, browser_user, running_site
from tests.bff.harness import CLIENT_ID, Clock

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRONT_END = Path(__file__).parent / "duende"


class User(BrowserUser):
    """A user of that front end."""

    async def is_called(self, name: str) -> None:
        await expect(self.page.locator("#user")).to_have_text(name)

    async def presses(self, name: str) -> None:
        await self.page.get_by_role("button", name=name, exact=True).click()

    async def signs_in_there(self) -> None:
        """At the provider; the front end then knows who it is."""
        await self.page.get_by_role("button", name="Continue as Alice Adams").click()
        await self.is_called("Alice Adams")

    async def asks(self, expression: str) -> Any:
        async with asyncio.timeout(30):  # a message that does not come
            return await self.page.evaluate(expression)


@pytest_asyncio.fixture(loop_scope="module")
async def site(clock: Clock) -> AsyncIterator[Site]:
    async with running_site(clock, provider_host="localhost", routes=[], spa=str(FRONT_END)) as site:
        site.provider.overrides["callback"] = {"session_state": "abc.def"}
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def user(chromium: Browser, site: Site) -> AsyncIterator[User]:
    async with browser_user(chromium, site) as alice:
        yield User(site, alice.page)


async def test_login_claims_calls_and_logout(user: User, site: Site):
    await user.goes_to("/")
    await user.is_called("nobody")
    await user.presses("Sign in")
    await user.signs_in_there()
    await user.is_at("/")

    claims = {claim["type"]: claim["value"] for claim in await user.asks("claims")}
    assert claims["email_verified"] == "true"
    assert isinstance(claims["auth_time"], str)
    assert isinstance(claims["bff:session_expires_in"], int)
    assert claims["bff:session_state"] == "abc.def"
    assert claims["bff:logout_url"].startswith("/bff/logout?sid=")
    assert await user.asks("areStrings()")

    await user.presses("Call an API")
    await expect(user.page.locator("#answer")).to_have_text("201")
    assert "Tea" in await user.asks("call('/api/todos')")
    assert await user.asks("fetch('/api/todos').then((answer) => answer.ok)") is False

    await user.presses("Sign out")
    await user.is_at("/bye")
    await user.is_called("nobody")
    assert await user.asks("call('/api/todos')") == 401
    assert [error for error in user.console_errors if "status of 40" not in error] == []


async def test_the_silent_login_of_either_name(user: User, site: Site):
    await user.goes_to("/")
    assert await user.asks("silentLogin('/bff/silent-login')") is False
    await user.presses("Sign in")
    await user.signs_in_there()
    await user.page.context.clear_cookies(name=site.app.services.cookies.session_name)
    await user.goes_to("/")
    await user.is_called("nobody")

    assert await user.asks("silentLogin('/bff/silent-login')") is True
    assert await user.asks("silentLogin('/bff/login?prompt=none')") is True
    assert await user.asks("silentLogin('/bff/login?prompt=none&returnUrl=/')") is True
    await user.asks("loadUser()")
    await user.is_called("Alice Adams")


async def test_a_login_by_a_link_by_a_form_and_with_a_prompt(user: User, site: Site):
    await user.goes_to("/")
    await user.clicks("Sign in by a link")
    await user.signs_in_there()
    await user.is_at("/from-a-link")
    await user.page.context.clear_cookies()

    await user.goes_to("/")
    await user.presses("Sign in by a form")
    await user.signs_in_there()
    await user.is_at("/from-a-form")

    await user.presses("Sign in again")
    await user.presses("Deny")
    await user.is_at("/from-a-form")
    await user.is_called("Alice Adams")  # she is still signed in


async def test_a_logout_at_the_provider_is_noticed_by_the_page(user: User, site: Site):
    await user.goes_to("/")
    await user.presses("Sign in")
    await user.signs_in_there()
    await user.asks("void watch()")
    async with httpx2.AsyncClient(base_url=site.url) as http:
        token = site.provider.logout_token(CLIENT_ID, sub="alice")
        await http.post("/bff/backchannel", data={"logout_token": token})

    await user.is_called("signed out elsewhere")


async def test_what_only_duende_has_is_not_there(user: User):
    """See docs/bff/duende.md."""
    await user.goes_to("/")
    for path in ("/bff/diagnostics", "/bff/silent-login-callback"):
        status = await user.asks(f"fetch('{path}', {{headers}}).then((answer) => answer.status)")
        assert status == 404, path
