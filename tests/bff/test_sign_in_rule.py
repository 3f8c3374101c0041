"""BFF_REQUIRE: who may sign in at all."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import httpx2
import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.sessions.session import Reason
from tests.bff.harness import (
    Browser,
    Clock,
    RunningApp,
    new_browser,
    query_params,
    response_cookies,
    running_app,
    sign_in,
)

ADMINS = {"groups": "admins"}


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    async with running_app(provider, api, clock=clock, require=ADMINS) as app:
        yield app


async def come_back(browser: Browser, user: str = "bob", **params: str) -> httpx2.Response:
    """What the callback answers when the provider has let this user in."""
    return await browser.get(await browser.choose(await browser.start_login("/account", **params), user))


async def sessions_of(app: RunningApp, sub: str) -> int:
    return len(await app.services.sessions.of_user(app.services.settings.issuer, sub))


async def test_a_user_who_meets_the_rule_signs_in(browser: Browser):
    await come_back(browser, "alice")

    assert "Alice Adams" in (await browser.get("/account")).text


async def test_another_is_refused_by_a_page_that_says_who_it_is_and_offers_another_account(browser: Browser):
    refused = await come_back(browser)

    assert refused.status_code == 403
    assert "With this account you cannot use this application." in refused.text
    assert "You have signed in as <strong>Bob Brown</strong>" in refused.text
    assert 'href="/bff/login?prompt=select_account&amp;returnUrl=%2Faccount"' in refused.text
    assert "Try again" not in refused.text
    assert "groups" not in refused.text


async def test_no_session_is_made_and_no_cookie_left(app: RunningApp, browser: Browser):
    refused = await come_back(browser)

    assert await sessions_of(app, "bob") == 0
    assert {morsel.value for morsel in response_cookies(refused).values()} == {""}
    assert (await browser.fetch("/bff/user")).status_code == 401


async def test_the_tokens_are_revoked(browser: Browser, provider: Provider):
    await come_back(browser)

    assert provider.counts["revoke"] == 1
    assert provider.counts["token:authorization_code"] == 1


async def test_with_another_account_the_login_goes_on_where_the_first_one_was_meant_to(browser: Browser):
    await come_back(browser)
    await come_back(browser, "alice", prompt="select_account")

    assert (await browser.get("/account")).status_code == 200


async def test_the_session_of_another_user_in_this_browser_stays(app: RunningApp, browser: Browser):
    await come_back(browser, "alice")
    await come_back(browser, "bob", prompt="select_account")

    assert "Alice Adams" in (await browser.get("/account")).text
    assert await sessions_of(app, "bob") == 0


async def test_a_session_of_the_same_user_in_this_browser_ends(
    app: RunningApp, browser: Browser, provider: Provider
):
    session = await sign_in(app, browser)
    provider.overrides["id_token"] = provider.overrides["userinfo"] = {"groups": ["staff"]}
    refused = await come_back(browser, "alice")

    assert refused.status_code == 403
    assert await app.services.sessions.reasons([session.ref]) == {session.ref: Reason.NOT_ALLOWED}
    assert session.tokens.refresh_token
    assert not provider.is_active(session.tokens.refresh_token)
    assert provider.counts["revoke"] == 2  # those of the refused login, too


async def test_a_refused_login_is_refused_again_when_the_browser_repeats_it(
    browser: Browser, provider: Provider
):
    callback = await browser.choose(await browser.start_login(), "bob")
    assert (await browser.get(callback)).status_code == 403

    assert (await browser.get(callback)).status_code == 400  # the attempt is used up
    assert provider.counts["token:authorization_code"] == 1


async def test_a_silent_login_is_told_by_the_message_and_shows_no_page(browser: Browser):
    await come_back(browser)  # at the provider Bob is signed in now
    answer = await browser.get((await browser.get("/bff/login?prompt=none")).headers["Location"])
    message = await browser.get(answer.headers["Location"])

    assert message.status_code == 200
    assert '"error": "forbidden"' in message.text
    assert "Bob" not in message.text


async def test_the_log_says_which_rule_and_of_the_user_nothing(
    browser: Browser, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, logger="app")
    await come_back(browser)

    [refusal] = [record for record in caplog.records if record.getMessage() == "request refused"]
    assert refusal.rule == "groups is admins"
    assert not [record for record in caplog.records if "bob" in str(vars(record)).lower()]


async def test_a_rule_that_fails_lets_no_user_in_and_leaves_no_token(
    provider: Provider, api: DemoApi, clock: Clock
):
    def broken(claims):
        return claims["shoe_size"] > 40

    async with (
        running_app(provider, api, clock=clock, require=broken) as app,
        new_browser(app) as browser,
    ):
        assert (await come_back(browser, "alice")).status_code == 500
        assert await sessions_of(app, "alice") == 0
        assert provider.counts["revoke"] == 1


@pytest.mark.parametrize(
    ("listed", "sent"),
    [
        (None, "select_account"),
        (["none", "login", "select_account"], "select_account"),
        (["none", "login", "consent"], "login"),
    ],
    ids=["it lists no prompts", "it has it", "it has not"],
)
async def test_another_account_can_be_chosen_at_any_provider(
    listed: list[str] | None, sent: str, browser: Browser, provider: Provider
):
    provider.overrides["metadata"] = {"prompt_values_supported": listed}

    assert query_params(await browser.start_login(prompt="select_account"))["prompt"] == sent
