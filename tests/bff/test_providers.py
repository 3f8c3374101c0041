"""The recipes of docs/bff/providers.md: their settings load, and work with the profile of each provider."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import httpx2
import pytest
from dotenv import dotenv_values

from app.bff.dev.api import DemoApi
from app.bff.dev.environment import given_settings
from app.bff.dev.profiles import PROFILES, VARIABLE, apply_profile
from app.bff.dev.provider import Provider
from app.bff.dev.realm import Realm
from app.bff.dev.server import LocalServer
from app.bff.sessions.interfaces import TOMBSTONE_SECONDS
from app.bff.sessions.session import Session
from app.bff.settings.load import BffSettings, load_settings
from tests.bff.certified_provider import parse_form
from tests.bff.harness import Browser, Clock, new_browser, query_params, running_app
from tests.bff.test_docs import ROOT, blocks

PAGE = ROOT / "docs/bff/providers.md"
HEADINGS = {
    "keycloak": "Keycloak",
    "entra": "Microsoft Entra ID",
    "auth0": "Auth0",
    "okta": "Okta",
    "google": "Google",
    "cognito": "Amazon Cognito",
    "zitadel": "ZITADEL",
    "apple": "Apple",
    "duende": "Duende IdentityServer",
    "authentik": "Authentik",
}
WITHOUT_LOGOUT, WITHOUT_USERINFO = {"google", "apple"}, {"entra", "apple"}
AUDIENCE = "https://api.example.com"
NEEDED = {
    "BFF_ISSUER": "https://provider.example",
    "BFF_CLIENT_ID": "app",
    "BFF_CLIENT_SECRET": "secret",
    "BFF_ENCRYPTION_KEYS": base64.b64encode(32 * b"k").decode(),
}


def variables(block: str) -> dict[str, str]:
    return {name: value or "" for name, value in dotenv_values(stream=io.StringIO(block)).items()}


def recipe(name: str) -> dict[str, str]:
    """The settings below a provider's heading, as fields, without those that are the provider's address."""
    [block] = re.findall(rf"^### {HEADINGS[name]}\n\n```sh\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    given = {key.removeprefix("BFF_").lower(): value for key, value in variables(block).items()}
    assert given.pop("issuer")
    return given


# The page


@pytest.mark.parametrize("block", blocks(PAGE, "sh"))
def test_every_block_of_the_page_is_accepted(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in {**NEEDED, **variables(block)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    assert "=" in block
    assert load_settings(BffSettings)


def test_the_page_has_a_recipe_and_a_row_for_every_profile():
    rows = re.findall(r"^\| \[(.+?)\]\(#.+?\) \| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)

    assert {profile: heading for heading, profile in rows} == HEADINGS
    assert list(PROFILES) == list(HEADINGS)
    assert all(recipe(name) for name in HEADINGS)


# The profiles


def test_a_profile_sets_switches_that_exist():
    switches = {*dir(Realm), *vars(Realm([], lambda: 0)), *vars(LocalServer())}

    assert {switch for profile in PROFILES.values() for switch in profile} <= switches


def test_an_unknown_profile_stops_with_the_names():
    with pytest.raises(SystemExit, match=r"'azure'; there are: keycloak, entra, .*authentik\.$"):
        apply_profile(Provider([]), "azure")


def test_two_providers_share_no_switch_of_a_profile():
    first, second = Provider([]), Provider([])
    for provider in (first, second):
        apply_profile(provider, "entra")
    first.overrides["metadata"]["issuer"] = "changed"

    assert "issuer" not in second.overrides["metadata"]


def test_the_variable_is_for_the_script_and_not_refused_by_the_application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / ".env").write_text(f"{VARIABLE}=entra\n")
    for name, value in {**NEEDED, VARIABLE: "entra"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    assert given_settings(tmp_path, {})[VARIABLE] == "entra"
    assert load_settings(BffSettings)


@asynccontextmanager
async def browser_with(
    name: str, provider: Provider, clock: Clock, settings: Mapping[str, Any]
) -> AsyncIterator[Browser]:
    """A browser of an application with these settings, in front of the provider's profile."""
    apply_profile(provider, name)
    api = DemoApi(provider, audience=AUDIENCE if name == "auth0" else None)
    await api.start()
    try:
        async with running_app(provider, api, clock=clock, **settings) as app, new_browser(app) as browser:
            # http://localhost counts as secure in browsers, and not in httpx.
            browser.http.cookies.jar.set_policy(DefaultCookiePolicy(secure_protocols=("http", "https")))
            yield browser
    finally:
        await api.stop()


async def signs_in(browser: Browser) -> httpx2.Response:
    """Sign alice in; return what the callback answers, or its error page."""
    url = await browser.start_login()
    answer = await browser.http.get(url)
    if answer.status_code == 200:
        answer = await browser.http.post(url, data={"sub": "alice"})
    if answer.status_code == 200:
        action, fields = parse_form(answer.text)
        return await browser.submit(action, **fields)
    return await browser.get(answer.headers["Location"])


async def session_of(browser: Browser) -> Session:
    session = await browser.app.session_of(browser)
    assert session
    return session


@pytest.mark.parametrize("name", HEADINGS)
async def test_with_its_recipe_a_user_signs_in_refreshes_and_signs_out_at(
    name: str, provider: Provider, clock: Clock
):
    async with browser_with(name, provider, clock, recipe(name)) as browser:
        signed_in = await signs_in(browser)
        assert signed_in.status_code == 200, signed_in.text
        clock.advance(290)
        assert (await browser.fetch("/api/echo")).status_code == 200
        assert provider.counts["token:refresh_token"] == 1
        assert (provider.counts["userinfo"] == 0) == (name in WITHOUT_USERINFO)

        out = await browser.logout()
        if name in WITHOUT_LOGOUT:
            assert out.headers["Location"] == "/"
        else:
            back = await browser.http.get(out.headers["Location"])
            assert back.headers["Location"].startswith(f"{browser.base_url}/bff/logout/callback")
        assert provider.counts["end_session"] == (name not in WITHOUT_LOGOUT)


@pytest.mark.parametrize(
    ("name", "lacks", "says"),
    [
        ("google", "scope", "invalid_scope"),
        ("cognito", "scope", "invalid_scope"),
        ("zitadel", "trusted_audiences", "could not be trusted"),
        ("apple", "response_mode", ""),
    ],
)
async def test_without_its_setting_no_login_succeeds_at(
    name: str, lacks: str, says: str, provider: Provider, clock: Clock
):
    settings = {key: value for key, value in recipe(name).items() if key != lacks}
    async with browser_with(name, provider, clock, settings) as browser:
        page = await signs_in(browser)

        assert page.status_code == 400
        assert says in page.text
        assert await browser.app.session_of(browser) is None


async def test_without_its_setting_userinfo_is_called_in_vain_at_entra(provider: Provider, clock: Clock):
    async with browser_with("entra", provider, clock, {**recipe("entra"), "userinfo": True}) as browser:
        await signs_in(browser)

        assert (await session_of(browser)).subject == "alice"
        assert provider.counts["userinfo"] == 1


async def test_without_its_parameter_there_is_no_refresh_token_of_google(provider: Provider, clock: Clock):
    async with browser_with("google", provider, clock, {"scope": recipe("google")["scope"]}) as browser:
        await signs_in(browser)

        assert (await session_of(browser)).tokens.refresh_token is None


async def test_without_its_parameter_no_token_of_auth0_is_for_the_api(provider: Provider, clock: Clock):
    async with browser_with("auth0", provider, clock, {}) as browser:
        await signs_in(browser)

        assert (await browser.fetch("/api/echo")).status_code == 401


async def test_without_its_parameter_a_logout_ends_on_an_error_page_of_cognito(
    provider: Provider, clock: Clock
):
    settings = {key: value for key, value in recipe("cognito").items() if key != "logout_params"}
    async with browser_with("cognito", provider, clock, settings) as browser:
        await signs_in(browser)

        assert (await browser.http.get((await browser.logout()).headers["Location"])).status_code == 400


async def test_without_a_signing_key_every_login_is_refused_at_authentik(provider: Provider, clock: Clock):
    async with browser_with("authentik", provider, clock, recipe("authentik")) as browser:
        provider.signing_alg = "HS256"

        assert "could not be trusted" in (await signs_in(browser)).text


@pytest.mark.parametrize(
    ("long_after", "arrives"), [(TOMBSTONE_SECONDS - 1, "there"), (TOMBSTONE_SECONDS, "here")]
)
async def test_a_logout_after_the_session_never_shows_the_error_page_of_okta(
    long_after: int, arrives: str, provider: Provider, clock: Clock
):
    async with browser_with("okta", provider, clock, recipe("okta")) as browser:
        await signs_in(browser)
        link = await browser.logout_url()
        clock.advance(3600 + long_after)
        out = await browser.get(link)

        if arrives == "there":
            assert "id_token_hint" in query_params(out.headers["Location"])
            assert (await browser.http.get(out.headers["Location"])).status_code == 303
        else:
            assert (out.status_code, "You are signed out here" in out.text) == (200, True)


async def test_okta_refuses_a_logout_without_a_hint(provider: Provider):
    apply_profile(provider, "okta")
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{provider.issuer}/logout?client_id=app")

    assert answer.status_code == 400
