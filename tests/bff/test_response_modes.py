"""Authorization responses that are posted (form_post) or signed (jwt), and signed authorization requests."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import httpx2
import pytest
from joserfc import jwk, jwt
from playwright.async_api import expect

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.errors import AppError, UntrustedToken
from app.bff.oidc.signed_requests import REQUEST_SECONDS, request_object, response_parameters
from tests.bff.browser_users import running_chromium, running_site
from tests.bff.certified_provider import parse_form
from tests.bff.harness import (
    NAVIGATION_HEADERS,
    Browser,
    Clock,
    new_browser,
    query_params,
    refresh_target,
    response_cookies,
    running_app,
)

CROSS_SITE = {**NAVIGATION_HEADERS, "Sec-Fetch-Site": "cross-site", "Origin": "https://provider.example"}


def like_a_browser(browser: Browser) -> Browser:
    """http://localhost counts as secure in browsers, and not in httpx."""
    browser.http.cookies.jar.set_policy(DefaultCookiePolicy(secure_protocols=("http", "https")))
    return browser


@pytest.fixture
async def posting(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[Browser]:
    async with (
        running_app(provider, api, clock=clock, response_mode="form_post") as app,
        new_browser(app) as it,
    ):
        yield like_a_browser(it)


@pytest.fixture
async def signing(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[Browser]:
    async with (
        running_app(provider, api, clock=clock, response_mode="jwt") as app,
        new_browser(app) as browser,
    ):
        yield browser


async def form_of(browser: Browser) -> dict[str, str]:
    """What the provider's page posts to us after the choice of a user."""
    url = await browser.start_login("/account")
    assert query_params(url)["response_mode"] == "form_post"
    await browser.http.get(url)
    _, fields = parse_form((await browser.http.post(url, data={"sub": "alice"})).text)
    return fields


async def posted(browser: Browser, fields: dict[str, str], headers: dict[str, str]) -> httpx2.Response:
    return await browser.http.post("/bff/callback", data=fields, headers=headers)


# form_post


async def test_the_attempt_of_a_posted_response_is_in_a_cookie_for_every_site(posting: Browser):
    response = await posting.get("/bff/login")
    [cookie] = response_cookies(response).values()

    assert (cookie["samesite"], cookie["secure"], cookie["httponly"]) == ("None", True, True)


async def test_the_post_of_the_provider_is_repeated_by_a_page_of_ours(posting: Browser, provider: Provider):
    fields = await form_of(posting)
    page = await posted(posting, fields, CROSS_SITE)

    assert parse_form(page.text) == ("/bff/callback", fields)
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert provider.counts["token"] == 0


@pytest.mark.parametrize(
    "left_out", [pytest.param([], id=""), pytest.param(["Sec-Fetch-Site"], id="without Fetch Metadata")]
)
async def test_the_repeated_post_signs_the_user_in(posting: Browser, left_out: list[str]):
    fields = await form_of(posting)
    own = {**NAVIGATION_HEADERS, "Sec-Fetch-Site": "same-origin", "Origin": posting.base_url}
    for headers in (CROSS_SITE, own):
        sent = {name: value for name, value in headers.items() if name not in left_out}
        page = await posted(posting, fields, sent)

    assert refresh_target(page.text) == "/account"
    assert (await posting.fetch("/bff/user")).status_code == 200


async def test_a_post_without_the_cookie_of_an_attempt_signs_nobody_in(posting: Browser, provider: Provider):
    fields = await form_of(posting)
    for name in posting.cookie_names():
        posting.delete_cookie(name)
    response = await posting.submit("/bff/callback", **fields)

    assert response.status_code == 400
    assert provider.counts["token"] == 0


async def test_no_other_response_mode_accepts_a_post(browser: Browser):
    assert (await browser.submit("/bff/callback", code="c", state="s")).status_code == 405


async def test_a_browser_signs_in_by_a_posted_response(clock: Clock):
    async with running_site(clock, response_mode="form_post") as site, running_chromium() as chromium:
        page = await chromium.new_page()
        await page.goto(f"{site.app.base_url}/bff/login?returnUrl=/account")
        await page.get_by_role("button", name=re.compile("Alice")).click()

        await expect(page.locator(".who .name")).to_have_text("Alice Adams")
        assert page.url == f"{site.app.base_url}/account"


# jwt (JARM)


async def test_a_signed_response_signs_the_user_in(signing: Browser):
    url = await signing.choose(await signing.start_login("/account"))

    assert set(query_params(url)) == {"response"}
    assert refresh_target((await signing.get(url)).text) == "/account"


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"iss": "https://evil.example"}, id="another issuer"),
        pytest.param({"aud": "another client"}, id="another client"),
        pytest.param({"exp": 1}, id="over"),
        pytest.param({"exp": None}, id="without an end"),
        pytest.param({"code": None}, id="without a code"),
        pytest.param({"state": "forged"}, id="of another attempt"),
    ],
)
async def test_no_code_is_redeemed_of_a_response_that_is(
    changed: dict[str, Any], signing: Browser, provider: Provider
):
    provider.overrides["authorization_response"] = changed
    response = await signing.get(await signing.choose(await signing.start_login()))

    assert response.status_code == 400
    assert provider.counts["token"] == 0


async def test_a_response_with_a_forged_signature_is_refused(signing: Browser, provider: Provider):
    provider.signs_with_unpublished_key = True
    response = await signing.get(await signing.choose(await signing.start_login()))

    assert response.status_code == 400
    assert provider.counts["token"] == 0


async def test_a_response_that_is_not_signed_is_refused(signing: Browser, provider: Provider):
    url = await signing.start_login()
    state = query_params(url)["state"]
    for query in (f"code=c&state={state}&iss={provider.issuer}", f"error=access_denied&state={state}"):
        response = await signing.get(f"/bff/callback?{query}")

        assert response.status_code == 400
    assert provider.counts["token"] == 0


async def test_an_error_of_a_signed_response_is_read(signing: Browser, provider: Provider):
    url = await signing.start_login()
    await signing.http.get(url)
    denied = await signing.http.post(url, data={"deny": "yes"})

    assert "Signing in was cancelled." in (await signing.get(denied.headers["Location"])).text


@pytest.mark.parametrize("mode", ["jwt", "query"])
async def test_garbage_for_a_response_is_refused(mode: str, provider: Provider, api: DemoApi, clock: Clock):
    async with (
        running_app(provider, api, clock=clock, response_mode=mode) as app,
        new_browser(app) as browser,
    ):
        for garbage in ("x", "a.b.c", "e30.e30.e30", "\u00e9.\u00e9.\u00e9", "." * 1000):
            response = await browser.http.get("/bff/callback", params={"response": garbage, "state": "s"})
            assert response.status_code == 400


def test_only_strings_of_a_signed_response_are_parameters():
    claims = {"iss": "i", "aud": ["app"], "exp": 100, "code": "c", "state": 7}

    assert response_parameters(claims, issuer="i", client_id="app", trusted_audiences=(), now=99) == {
        "iss": "i",
        "code": "c",
    }


@pytest.mark.parametrize(
    "changed",
    [{"iss": "j"}, {"iss": None}, {"aud": "b"}, {"aud": None}, {"exp": 9}, {"exp": "x"}, {"exp": None}],
)
def test_a_signed_response_is_refused_with(changed: dict[str, Any]):
    claims = {"iss": "i", "aud": "app", "exp": 1000, "code": "c", **changed}

    with pytest.raises((UntrustedToken, AppError)):
        response_parameters(claims, issuer="i", client_id="app", trusted_audiences=(), now=900)


# Signed requests (JAR)


def test_a_signed_request_is_for_the_provider_alone_and_lives_for_a_minute(clock: Clock):
    key = jwk.generate_key("EC", "P-256")
    params = {"client_id": "app", "state": "s", "max_age": "60", "resource": ["a", "b"]}
    token = request_object(params, key, client_id="app", audience="https://p.example", now=clock())
    decoded = jwt.decode(token, key, algorithms=["ES256"])

    now = int(clock())
    times = {"iat": now, "nbf": now, "exp": now + REQUEST_SECONDS}
    assert decoded.header["typ"] == "oauth-authz-req+jwt"
    assert decoded.claims.pop("jti")
    assert decoded.claims == {**params, "max_age": 60, "iss": "app", "aud": "https://p.example", **times}
