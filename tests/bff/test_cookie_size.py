"""All of our cookies together stay below 4 KB in one browser, whatever it begins and leaves unfinished."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.web.cookies import MAX_LOGIN_ATTEMPTS
from tests.bff.harness import Browser, Clock, new_browser, running_app

STEPS = 50


def cookie_line(browser: Browser) -> str:
    """Our part of what this browser sends; the development provider, on the same host, has one of its own."""
    cookies = {name: browser.cookie(name) for name in browser.cookie_names() if "bff" in name}
    return "Cookie: " + "; ".join(f"{name}={value}" for name, value in cookies.items())


class Restless:
    """A browser that begins logins and logouts, with URLs of any length, and seldom finishes them."""

    def __init__(self, browser: Browser, rng: random.Random) -> None:
        self.browser = browser
        self.rng = rng
        self.away: list[str] = []  # at the provider's pages, in as many tabs
        self.steps: list[Callable[[], Awaitable[Any]]] = [
            self.starts_a_login,
            self.starts_a_login,
            self.starts_a_step_up,
            self.asks_silently,
            self.signs_in,
            self.finishes_a_login,
            self.is_refused,
            self.signs_out,
            self.signs_out_by_script,
        ]

    @property
    def path(self) -> str:
        return "/orders?" + self.rng.choice([0, 20, 118, 130, 1000, 8000]) * self.rng.choice("x%é")

    async def starts_a_login(self) -> None:
        self.away.append(await self.browser.start_login(self.path.encode()[:8192].decode(errors="ignore")))

    async def starts_a_step_up(self) -> None:
        self.away.append(await self.browser.start_login(acr_values=500 * "a", max_age="999999999"))

    async def asks_silently(self) -> None:
        await self.browser.get(
            "/bff/login?prompt=none", Sec_Fetch_Dest="iframe", Sec_Fetch_Site="same-origin"
        )

    async def signs_in(self) -> None:
        await self.browser.get(await self.browser.choose(await self.browser.start_login()))

    async def finishes_a_login(self) -> None:
        if self.away:
            tab = self.away.pop(self.rng.randrange(len(self.away)))
            await self.browser.get(await self.browser.choose(tab))

    async def is_refused(self) -> None:
        if self.away:
            state = self.away[-1].partition("state=")[2].partition("&")[0]
            await self.browser.get(f"/bff/callback?state={state}&error=access_denied")

    async def signs_out(self) -> None:
        user = await self.browser.fetch("/bff/user")
        if user.status_code == 200:
            await self.browser.get(f"{await self.browser.logout_url()}&returnUrl={quote(self.path)}")

    async def signs_out_by_script(self) -> None:
        onwards = await self.browser.fetch(f"/bff/logout?returnUrl={quote(self.path)}", "POST")
        if self.rng.random() < 0.5:
            await self.browser.get(onwards.json()["url"])


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("settings", [{}, {"dpop": True, "logout_params": {"x": 300 * "y"}}])
async def test_no_sequence_of_logins_and_logouts_makes_them_larger(
    settings: dict[str, Any], seed: int, provider: Provider, api: DemoApi, clock: Clock
):
    rng = random.Random(seed)  # noqa: S311
    async with running_app(provider, api, clock=clock, **settings) as app, new_browser(app) as browser:
        restless = Restless(browser, rng)
        for _ in range(STEPS):
            step = rng.choice(restless.steps)
            await step()
            clock.advance(rng.choice([0, 1, 20]))
            assert len(cookie_line(browser)) < 4096, step.__name__


async def test_a_logout_with_a_long_id_token_makes_them_no_larger(browser: Browser):
    await browser.login()
    session = await browser.app.session_of(browser)
    assert session
    tokens = session.tokens.__class__(**{**vars(session.tokens), "id_token": 1900 * "x"})
    await browser.app.services.sessions.save(session.__class__(**{**vars(session), "tokens": tokens}))
    for _ in range(MAX_LOGIN_ATTEMPTS):
        await browser.start_login("/orders?" + 1000 * "x")
    await browser.fetch("/bff/logout", "POST")

    assert len(cookie_line(browser)) < 4096
    assert any("bff-login" in name for name in browser.cookie_names())


async def test_many_tabs_that_start_at_once_are_few_again_with_the_next_page(browser: Browser):
    await asyncio.gather(*(browser.start_login() for _ in range(20)))
    assert len(browser.cookie_names()) == 20
    await browser.get("/")

    assert len(cookie_line(browser)) < 4096
    assert len(browser.cookie_names()) == MAX_LOGIN_ATTEMPTS


async def test_the_callback_of_one_of_many_tabs_is_not_deleted_by_itself(browser: Browser):
    tabs = await asyncio.gather(*(browser.start_login("/orders") for _ in range(20)))
    answer = await browser.navigate_from_other_site(await browser.choose(tabs[0]))

    assert "set-cookie" not in answer.headers
    assert (await browser.get(str(answer.url))).status_code == 200
    assert await browser.app.session_of(browser)
