"""The development provider asks again: when, for whom, and what it then says of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from joserfc import jwt

from app.bff.dev.provider import Provider
from tests.bff.harness import Clock
from tests.bff.provider_harness import BASIC, Browser, authorize_params, browser_at, callback_params


@pytest.fixture
async def browser(provider: Provider) -> AsyncIterator[Browser]:
    async with browser_at(provider) as browser:
        yield browser


async def is_prompted(browser: Browser, **changed: str) -> bool:
    return (await browser.authorize(**changed)).status_code == 200


async def claims_in(browser: Browser, tokens: dict[str, Any]) -> dict[str, Any]:
    return jwt.decode(tokens["id_token"], await browser.keys()).claims


async def claims_of(browser: Browser, **changed: str) -> dict[str, Any]:
    """The claims of the id token after such a login."""
    return await claims_in(browser, await browser.tokens(**changed))


async def test_its_metadata_has_what_can_be_requested(browser: Browser):
    metadata = (await browser.http.get("/.well-known/openid-configuration")).json()

    assert metadata["acr_values_supported"] == ["pwd", "mfa"]
    assert metadata["prompt_values_supported"] == ["none", "login", "consent", "select_account"]


async def test_prompt_login_has_a_new_auth_time(browser: Browser, clock: Clock):
    first = await claims_of(browser)
    clock.advance(100)
    second = await claims_of(browser, prompt="login")

    assert second["auth_time"] == first["auth_time"] + 100


@pytest.mark.parametrize(("max_age", "asks"), [("0", True), ("99", True), ("102", False)])
async def test_max_age_prompts_a_user_who_signed_in_longer_ago(
    max_age: str, asks: bool, browser: Browser, clock: Clock
):
    await browser.sign_in("alice")
    clock.advance(100)

    assert await is_prompted(browser, max_age=max_age) is asks


async def test_prompt_none_answers_login_required_where_a_page_would_be_shown(browser: Browser, clock: Clock):
    await browser.sign_in("alice")
    clock.advance(100)

    for demand in ({"max_age": "10"}, {"acr_values": "mfa"}):
        assert callback_params(await browser.authorize(prompt="none", **demand))["error"] == "login_required"


@pytest.mark.parametrize("max_age", ["", "-1", "1.5", "soon", "1" * 10])
async def test_a_max_age_that_is_no_number_is_an_error_that_goes_back(max_age: str, browser: Browser):
    assert callback_params(await browser.authorize(max_age=max_age))["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("acr_values", "acr"), [("mfa", "mfa"), ("gold mfa pwd", "mfa"), ("pwd mfa", "pwd"), ("gold", None)]
)
async def test_of_the_acr_values_the_first_that_it_can_do_is_in_the_id_token(
    acr_values: str, acr: str | None, browser: Browser
):
    assert (await claims_of(browser, acr_values=acr_values)).get("acr") == acr


async def test_an_acr_that_it_cannot_do_may_be_refused(provider: Provider, browser: Browser):
    provider.refuses_other_acrs = True

    refused = callback_params(await browser.authorize(acr_values="gold"))
    assert refused["error"] == "unmet_authentication_requirements"
    assert await is_prompted(browser, acr_values="gold mfa")


async def test_which_acr_it_can_do_is_a_lever(provider: Provider, browser: Browser):
    provider.acrs = ("gold",)

    assert (await claims_of(browser, acr_values="mfa gold"))["acr"] == "gold"


async def test_a_login_in_another_way_prompts_once_more_and_then_no_more(browser: Browser):
    await browser.sign_in("alice", acr_values="pwd")

    assert await is_prompted(browser, acr_values="mfa")
    await browser.sign_in("alice", acr_values="mfa")
    assert not await is_prompted(browser, acr_values="mfa")
    assert not await is_prompted(browser)


async def test_a_refreshed_id_token_keeps_auth_time_and_acr(browser: Browser, clock: Clock):
    tokens = await browser.tokens(acr_values="mfa")
    clock.advance(1000)
    refreshed = await claims_in(browser, (await browser.refresh(tokens["refresh_token"])).json())

    assert refreshed["acr"] == "mfa"
    assert refreshed["auth_time"] == (await claims_in(browser, tokens))["auth_time"]


@pytest.mark.parametrize("hint", ["bob", "bob@example.com"])
async def test_with_a_login_hint_only_that_user_is_offered(hint: str, browser: Browser):
    page = (await browser.authorize(login_hint=hint)).text

    assert "Continue as Bob Brown" in page
    assert "Alice Adams" not in page


async def test_a_hint_at_an_unknown_user_hides_no_user(browser: Browser):
    assert "Continue as Alice Adams" in (await browser.authorize(login_hint="carol")).text


async def test_what_is_pushed_counts_as_well(browser: Browser):
    await browser.sign_in("alice")
    data, headers = authorize_params({"acr_values": "mfa"}), {"Authorization": BASIC}
    answer = await browser.http.post("/par", data=data, headers=headers)
    query = {"client_id": "app", "request_uri": answer.json()["request_uri"]}

    assert (await browser.http.get("/authorize", params=query)).status_code == 200  # its login page
