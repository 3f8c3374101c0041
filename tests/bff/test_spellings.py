"""Routes and parameters as front ends for ASP.NET spell them: in any case, with a slash at the end, POST."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from app.bff.dev.provider import Provider
from app.bff.web.query import in_own_case
from tests.bff.harness import (
    NAVIGATION_HEADERS,
    Browser,
    RunningApp,
    make_settings,
    query_params,
    refresh_target,
)

FROM_ANOTHER_SITE = {"Sec-Fetch-Site": "cross-site", "Origin": "https://portal.example"}

# Paths


@pytest.mark.parametrize("path", ["/BFF/user", "/bff/user/", "/Bff/User", "/BFF/USER/?slide=false"])
async def test_the_user_is_there_in_any_spelling_and_under_the_same_rules(path: str, browser: Browser):
    await browser.login()
    response = await browser.fetch(path)

    assert {"type": "sub", "value": "alice"} in response.json()
    assert response.headers["Cache-Control"] == "no-store"
    assert (await browser.fetch(path, csrf=False)).status_code == 403
    assert (await browser.fetch(path, "POST")).status_code == 405


@pytest.mark.parametrize("path", ["/bff/sessions/", "/BFF/Sessions", "/bff/EVENTS"])
async def test_so_are_the_other_data_routes(path: str, browser: Browser):
    await browser.login()
    async with browser.http.stream("GET", path, headers={"X-CSRF": "1"}) as response:
        assert response.status_code == 200
    assert (await browser.fetch(path, csrf=False)).status_code == 403


@pytest.mark.parametrize("path", ["/BFF/login", "/bff/login/", "/bff/Silent-Login/"])
async def test_a_login_starts_in_any_spelling(path: str, provider: Provider, browser: Browser):
    start = await browser.get(f"{path}?returnUrl=/account")

    assert start.headers["Location"].startswith(f"{provider.issuer}/authorize?")
    assert (await browser.http.get(path, headers={"Sec-Fetch-Dest": "image"})).status_code in (200, 403)


@pytest.mark.parametrize("path", ["/BFF/logout", "/bff/logout/", "/bff/LOGOUT"])
async def test_a_logout_in_any_spelling_wants_the_sid(path: str, app: RunningApp, browser: Browser):
    await browser.login()
    [_, query] = (await browser.logout_url()).split("?")

    assert (await browser.get(f"{path}?sid=x")).status_code == 400
    assert (await browser.get(f"{path}?{query}")).status_code == 302
    assert await app.session_of(browser) is None


@pytest.mark.parametrize("path", ["/BFF/logout", "/bff/logout/", "/bff/Logout?sid=x"])
async def test_no_login_leads_to_a_logout_in_any_spelling(path: str, browser: Browser):
    assert refresh_target((await browser.login(return_url=path)).text) == "/"


@pytest.mark.parametrize(
    "path",
    [
        "/bff/user//",
        "//bff/user",
        "/bff//user",
        "/bff/%75ser",
        "/bff/user/x",
        "/bff/\u017fessions",  # a long s, which is s in capitals
        "/bff/Callback",
        "/bff/callback/",
        "/BFF/logout/callback",
        "/BFF/backchannel",
        "/bff/frontchannel/",
        "/BFF/forward-auth",
        "/bff/forward-auth/",
        "/HEALTHZ",
        "/readyz/",
        "/Account",
    ],
)
async def test_no_other_path_has_a_second_spelling(path: str, browser: Browser):
    secret = {"X-Forward-Auth-Secret": "s" * 32}
    for method in ("GET", "POST"):
        response = await browser.http.request(method, path, headers={"X-CSRF": "1", **secret})
        assert response.status_code in (403, 404), method


@pytest.mark.parametrize("path", ["/BFF", "/Bff/user", "/STATIC/x", "/HealthZ"])
def test_no_remote_api_has_a_path_of_ours_in_another_case(path: str):
    with pytest.raises(ValueError, match="which the engine uses"):
        make_settings(remote_apis=[{"path": path, "client": "apiClient"}])


# Parameters


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"returnurl": [b"/a"]}, {"returnUrl": [b"/a"]}),
        ({"RETURNURL": [b"/a"], "x": [b"1"]}, {"returnUrl": [b"/a"], "x": [b"1"]}),
        ({"returnUrl": [b"/a"], "ReturnUrl": [b"/b"]}, {"returnUrl": [b"/a", b"/b"]}),
        ({"Return_Url": [b"/a"]}, {"Return_Url": [b"/a"]}),
        ({}, {}),
    ],
)
def test_a_name_in_another_case_is_the_same_name(sent: dict[str, Any], read: dict[str, Any]):
    assert in_own_case(sent, ["returnUrl"]) == read


@pytest.mark.parametrize("name", ["returnUrl", "returnurl", "ReturnUrl", "RETURNURL"])
async def test_a_login_comes_back_to_the_return_url_in_any_case(name: str, browser: Browser):
    start = await browser.get(f"/bff/login?{name}=/orders")
    page = await browser.get(await browser.choose(start.headers["Location"]))

    assert refresh_target(page.text) == "/orders"


async def test_a_logout_comes_back_to_it_too(browser: Browser):
    await browser.login()
    sid = query_params(await browser.logout_url())["sid"]
    away = await browser.get(f"/bff/logout?{urlencode({'SID': sid, 'returnurl': '/bye'})}")
    back = await browser.get((await browser.http.get(away.headers["Location"])).headers["Location"])

    assert back.headers["Location"] == "/bye"


async def test_prompt_and_slide_count_in_any_case(provider: Provider, browser: Browser):
    await browser.login()
    start = await browser.get("/bff/login?Prompt=none")
    await browser.http.get(start.headers["Location"])

    assert provider.last_request["authorize"]["prompt"] == "none"
    assert "frame-ancestors 'self'" in start.headers["Content-Security-Policy"]
    twice = await browser.fetch("/bff/user?Slide=false&slide=true")
    assert (twice.status_code, twice.json()["code"]) == (400, "bad_request")


async def test_a_parameter_of_the_provider_has_one_spelling(browser: Browser):
    callback = await browser.choose(await browser.start_login())

    assert (await browser.get(callback.replace("state=", "State="))).status_code == 400


# POST


async def test_a_form_of_ours_starts_a_login_by_a_page_and_not_by_a_redirect(browser: Browser):
    page = await browser.submit("/bff/login?returnurl=/orders", ReturnUrl="/baskets", prompt="login")

    assert page.status_code == 200
    assert query_params(refresh_target(page.text)) == {"returnUrl": "/baskets", "prompt": "login"}


async def test_a_form_of_another_site_starts_one_by_a_redirect(browser: Browser):
    headers = {**NAVIGATION_HEADERS, **FROM_ANOTHER_SITE}
    answer = await browser.http.post("/bff/login", data={"returnUrl": "/orders"}, headers=headers)

    assert (answer.status_code, answer.headers["Location"]) == (303, "/bff/login?returnUrl=%2Forders")


# Declined


@pytest.mark.parametrize("prompt", ["login", "consent", "select_account"])
@pytest.mark.parametrize(
    "error", ["access_denied", "login_required", "consent_required", "interaction_required"]
)
async def test_a_login_with_a_prompt_that_is_declined_ends_at_its_return_url(
    prompt: str, error: str, app: RunningApp, browser: Browser
):
    await browser.login()
    answer = await browser.get(await refused(browser, error, prompt=prompt))

    assert (answer.status_code, refresh_target(answer.text)) == (200, "/orders")
    assert not any(map(app.services.cookies.is_login_name, browser.cookie_names()))
    assert await app.session_of(browser)


@pytest.mark.parametrize(
    ("error", "params"),
    [
        pytest.param("access_denied", {}, id="without a prompt"),
        pytest.param("server_error", {"prompt": "login"}, id="by mistake"),
        pytest.param("temporarily_unavailable", {"prompt": "login"}, id="for now"),
        pytest.param("invalid_request", {"prompt": "login"}, id="because of us"),
    ],
)
async def test_any_other_refusal_is_told(error: str, params: dict[str, str], browser: Browser):
    answer = await browser.get(await refused(browser, error, **params))

    assert answer.status_code == 400
    assert "Signing in did not work" in answer.text


async def test_an_answer_to_another_attempt_leads_nowhere(browser: Browser):
    callback = await refused(browser, "access_denied", prompt="login")
    forged = callback.replace("state=", "state=x")

    assert (await browser.get(forged)).status_code == 400


async def refused(browser: Browser, error: str, **params: str) -> str:
    """The callback URL of a login that the provider has refused so."""
    sent = query_params(await browser.start_login("/orders", **params))
    issuer = browser.app.services.provider.issuer
    return f"/bff/callback?{urlencode({'error': error, 'state': sent['state'], 'iss': issuer})}"
