"""Login parameters: what a page may request, what is sent to the provider, and what is checked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlencode

import httpx2
import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from tests.bff.harness import (
    Browser,
    Clock,
    RunningApp,
    new_browser,
    query_params,
    refresh_target,
    response_cookies,
    running_app,
    sign_in,
)

REQUESTED = {"login_hint": "bob@example.com", "acr_values": "mfa pwd", "max_age": "0"}


async def comes_back(browser: Browser, user: str = "alice", **params: str) -> httpx2.Response:
    """Sign in with these parameters; return what the callback answered."""
    return await browser.get(await browser.choose(await browser.start_login("/account", **params), user))


def assert_failed(response: httpx2.Response, words: str) -> None:
    assert response.status_code == 400
    assert "<code>login_failed</code>" in response.text
    assert words in response.text
    assert "bff" not in response_cookies(response)


# The way out


async def test_login_parameters_are_passed_to_the_provider(browser: Browser):
    url = query_params(await browser.start_login(**REQUESTED, prompt="select_account"))

    assert {**REQUESTED, "prompt": "select_account"}.items() <= url.items()


async def test_it_is_pushed_where_requests_are_pushed(provider: Provider, api: DemoApi, clock: Clock):
    async with (
        running_app(provider, api, clock=clock, par=True) as app,
        new_browser(app) as browser,
    ):
        url = await browser.start_login(**REQUESTED)

    assert REQUESTED.items() <= provider.last_request["par"].items()
    assert not REQUESTED.keys() & query_params(url).keys()


async def test_the_hint_has_a_short_name(browser: Browser):
    assert query_params(await browser.start_login(hint="bob"))["login_hint"] == "bob"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"max_age": "-1"}, id="a max_age in the past"),
        pytest.param({"max_age": "soon"}, id="a max_age that is no number"),
        pytest.param({"acr_values": 'mfa", "x'}, id="an acr with quotes"),
        pytest.param({"login_hint": "a\nb"}, id="a hint of two lines"),
        pytest.param({"hint": "a" * 1000}, id="a hint that is too long"),
    ],
)
async def test_no_attempt_starts_for(wrong: dict[str, str], browser: Browser):
    response = await browser.get(f"/bff/login?{urlencode(wrong)}")

    assert response.status_code == 400
    assert "<code>bad_request</code>" in response.text
    assert not response_cookies(response)


async def test_the_longest_of_all_still_fits_the_cookie(browser: Browser):
    path = "/" + "é" * 511
    longest = {"acr_values": "a" * 500, "login_hint": "é" * 300, "max_age": "9" * 9, "prompt": "login"}
    await browser.start_login(path, **longest)
    [name] = [name for name in browser.cookie_names() if "login" in name]

    assert len(name) + len(browser.cookie(name) or "") < 3900  # browsers keep 4,096, attributes included


# Parameters that only the provider interprets


@pytest.fixture
async def configured(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[Browser]:
    """A browser of an application with BFF_LOGIN_PARAMS, BFF_LOGIN_PARAMS_ALLOWED and BFF_LOGOUT_PARAMS."""
    settings = {
        "login_params": {"audience": "https://api.example", "prompt": "consent", "max_age": "60"},
        "login_params_allowed": "kc_idp_hint, ui_locales, audience",
        "logout_params": {"logout_uri": "{post_logout_redirect_uri}?c={client_id}", "federated": ""},
    }
    async with running_app(provider, api, clock=clock, **settings) as app, new_browser(app) as browser:
        yield browser


async def test_those_of_the_settings_go_along_with_every_login(configured: Browser):
    url = query_params(await configured.start_login())

    assert (url["audience"], url["prompt"], url["max_age"]) == ("https://api.example", "consent", "60")
    assert (await comes_back(configured)).status_code == 200


async def test_a_link_passes_on_what_the_settings_allow_and_nothing_else(configured: Browser):
    url = query_params(await configured.start_login(kc_idp_hint="github", audience="other", domain_hint="x"))

    assert (url["kc_idp_hint"], url["audience"]) == ("github", "other")
    assert "domain_hint" not in url
    assert "ui_locales" not in url


async def test_what_a_link_requests_wins_over_the_settings(configured: Browser):
    url = query_params(await configured.start_login(prompt="login", max_age="0"))

    assert (url["prompt"], url["max_age"]) == ("login", "0")


async def test_a_max_age_of_the_settings_is_checked_when_the_user_returns(
    configured: Browser, provider: Provider, clock: Clock
):
    provider.overrides["id_token"] = {"auth_time": int(clock()) - 3600}

    assert_failed(await comes_back(configured), "")


@pytest.mark.parametrize("value", ["", "a\nb", "a\x00", "x" * 501])
async def test_no_attempt_starts_for_a_value_that_is_not_one_short_line(configured: Browser, value: str):
    response = await configured.get(f"/bff/login?{urlencode({'ui_locales': value})}")

    assert response.status_code == 400
    assert not response_cookies(response)


async def test_the_end_session_request_has_those_of_the_settings(configured: Browser):
    await configured.login()
    url = query_params((await configured.logout()).headers["Location"])

    assert url["logout_uri"] == f"{url['post_logout_redirect_uri']}?c={url['client_id']}"


# The way back


async def test_a_login_that_meets_the_requirements_succeeds(app: RunningApp, browser: Browser):
    answer = await comes_back(browser, acr_values="gold mfa", max_age="0", prompt="login")
    session = await app.session_of(browser)

    assert refresh_target(answer.text) == "/account"
    assert session
    assert session.claims["acr"] == "mfa"


@pytest.mark.parametrize(
    ("params", "lie", "words"),
    [
        pytest.param({"acr_values": "mfa"}, {"acr": None}, "another way", id="no acr"),
        pytest.param({"acr_values": "mfa"}, {"acr": "pwd"}, "another way", id="another acr"),
        pytest.param({"max_age": "60"}, {"auth_time": None}, "once more", id="no auth_time"),
        pytest.param({"max_age": "60"}, {"auth_time": 1}, "once more", id="an old auth_time"),
        pytest.param({"max_age": "60"}, {"auth_time": 2**40}, "once more", id="an auth_time to come"),
        pytest.param(
            {"max_age": "0"}, {"auth_time": "now"}, "once more", id="an auth_time that is no number"
        ),
        pytest.param({"prompt": "login"}, {"auth_time": 1}, "once more", id="a login of long ago"),
    ],
)
async def test_a_login_fails_whose_id_token_has(
    params: dict[str, str], lie: dict[str, object], words: str, provider: Provider, browser: Browser
):
    provider.overrides["id_token"] = lie

    assert_failed(await comes_back(browser, **params), words)
    assert not provider.is_active(provider.last_request["revoke"]["token"])


async def test_userinfo_cannot_set_acr_amr_or_auth_time(provider: Provider, browser: Browser):
    provider.overrides["id_token"] = {"acr": None, "auth_time": None}
    provider.overrides["userinfo"] = {"acr": "mfa", "auth_time": 2**31}

    assert_failed(await comes_back(browser, acr_values="mfa"), "another way")
    await browser.login()
    types = {entry["type"] for entry in (await browser.fetch("/bff/user")).json()}
    assert not types & {"acr", "auth_time"}


async def test_the_earlier_session_stays_as_it_was_when_the_next_login_fails(
    app: RunningApp, provider: Provider, browser: Browser
):
    session = await sign_in(app, browser)
    provider.overrides["id_token"] = {"acr": "pwd"}
    failed = await comes_back(browser, acr_values="mfa")

    assert_failed(failed, "another way")
    assert await app.session_of(browser) == session
    assert provider.counts["revoke"] == 0  # to many providers both logins are one grant


async def test_trying_again_asks_for_the_same(provider: Provider, browser: Browser):
    provider.overrides["id_token"] = {"acr": "pwd"}
    failed = await comes_back(browser, acr_values="mfa", max_age="60")

    assert 'href="/bff/login?returnUrl=%2Faccount&amp;acr_values=mfa&amp;max_age=60"' in failed.text


async def test_max_age_makes_the_provider_authenticate_an_older_login_again(browser: Browser, clock: Clock):
    await browser.login("alice")
    clock.advance(1000)
    prompted = await browser.http.get(await browser.start_login(max_age="500"))
    not_prompted = await browser.http.get(await browser.start_login(max_age="5000"))

    assert (prompted.status_code, not_prompted.status_code) == (200, 303)


async def test_a_provider_that_does_not_ask_again_is_not_believed(
    provider: Provider, browser: Browser, clock: Clock
):
    provider.overrides["id_token"] = {"auth_time": int(clock.now) - 1000}

    assert_failed(await comes_back(browser, max_age="500"), "once more")
    assert (await comes_back(browser, max_age="1000")).status_code == 200
