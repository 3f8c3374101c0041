"""`/bff/user`: what a page's JavaScript may know, in Duende.BFF's format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from tests.bff.harness import (
    NAVIGATION_HEADERS,
    Browser,
    Clock,
    RunningApp,
    new_browser,
    query_params,
    running_app,
)


async def entries(browser: Browser, url: str = "/bff/user") -> list[dict[str, Any]]:
    response = await browser.fetch(url)
    assert response.status_code == 200, response.text
    return list(response.json())


async def values(browser: Browser, name: str, url: str = "/bff/user") -> list[Any]:
    return [entry["value"] for entry in await entries(browser, url) if entry["type"] == name]


def is_number(entry: dict[str, Any]) -> bool:
    return isinstance(entry["value"], int) and not isinstance(entry["value"], bool)


async def test_it_is_a_list_of_types_and_values(browser: Browser):
    await browser.login("alice")
    response = await browser.fetch("/bff/user")

    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert all(entry.keys() == {"type", "value"} for entry in response.json())
    assert {"type": "sub", "value": "alice"} in response.json()
    assert {"type": "email_verified", "value": "true"} in response.json()


@pytest.mark.parametrize(
    ("claim", "typed", "strings"),
    [
        pytest.param(["a", "b"], ["a", "b"], ["a", "b"], id="an array as entries of their own"),
        pytest.param([], [], [], id="an empty array as nothing"),
        pytest.param({"street": "M"}, ['{"street": "M"}'], ['{"street": "M"}'], id="an object as JSON text"),
        pytest.param({}, ["{}"], ["{}"], id="an empty object"),
        pytest.param([{"a": 1}, 2], ['{"a": 1}', 2], ['{"a": 1}', "2"], id="an array of several kinds"),
        pytest.param([[1, True], []], ["[1, true]", "[]"], ["[1, true]", "[]"], id="arrays in an array"),
        pytest.param([True, None], [True, None], ["true", ""], id="an array with null"),
        pytest.param(True, [True], ["true"], id="true"),
        pytest.param(False, [False], ["false"], id="false"),
        pytest.param(1795824818, [1795824818], ["1795824818"], id="a whole number"),
        pytest.param(0, [0], ["0"], id="zero"),
        pytest.param(-1.5, [-1.5], ["-1.5"], id="a number with a fraction"),
        pytest.param(2**70, [2**70], [str(2**70)], id="a number that fits no machine word"),
        pytest.param("true", ["true"], ["true"], id="a string that looks like a boolean"),
        pytest.param("", [""], [""], id="an empty string"),
        pytest.param("<b>é</b>", ["<b>é</b>"], ["<b>é</b>"], id="text as it is"),
    ],
)
async def test_a_claim_becomes_strings_or_entries_with_the_types_that_it_has(
    claim: object, typed: list[object], strings: list[str], provider: Provider, browser: Browser
):
    provider.overrides["id_token"] = {"of_interest": claim}
    await browser.login()

    assert await values(browser, "of_interest") == strings
    assert await values(browser, "of_interest", "/bff/user?typed=true") == typed


@pytest.mark.parametrize("query", ["", "?typed=true", "?typed=True&slide=false"])
async def test_the_seconds_until_expiry_alone_are_a_number_in_any_case(query: str, browser: Browser):
    await browser.login()
    numbers = {entry["type"] for entry in await entries(browser, f"/bff/user{query}") if is_number(entry)}

    assert "bff:session_expires_in" in numbers
    assert bool(numbers - {"bff:session_expires_in"}) is ("typed" in query)  # auth_time


@pytest.mark.parametrize("typed", ["", "false", "1", "0"])
async def test_anything_but_true_is_not_typed(typed: str, browser: Browser):
    await browser.login()

    assert await values(browser, "email_verified", f"/bff/user?typed={typed}") == ["true"]


async def test_claims_of_userinfo_are_included_and_the_id_token_takes_precedence(
    provider: Provider, browser: Browser
):
    provider.overrides["userinfo"] = {"locale": "de", "name": "Somebody"}
    await browser.login("alice")

    assert await values(browser, "locale") == ["de"]
    assert await values(browser, "name") == ["Alice Adams"]


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "iat", "nonce", "at_hash"])
async def test_a_claim_about_the_id_token_is_left_out(name: str, browser: Browser):
    await browser.login()

    assert await values(browser, name) == []


async def test_the_logout_url_is_included(app: RunningApp, browser: Browser):
    await browser.login()
    session = await app.session_of(browser)
    [url] = await values(browser, "bff:logout_url")

    assert session
    assert url.startswith("/bff/logout?")
    assert query_params(url) == {"sid": session.sid}


async def test_a_sid_is_a_parameter_whatever_is_in_it(provider: Provider, browser: Browser):
    provider.overrides["id_token"] = {"sid": "a&b=c #d/é"}
    await browser.login()
    [url] = await values(browser, "bff:logout_url")

    assert query_params(url) == {"sid": "a&b=c #d/é"}
    assert (await browser.get(url)).status_code == 302


async def test_the_seconds_until_expiry_are_included(browser: Browser, clock: Clock):
    await browser.login()
    clock.advance(10)

    assert await values(browser, "bff:session_expires_in") == [3590]


async def test_the_session_state_of_the_provider_is_included_if_there_is_one(
    provider: Provider, browser: Browser
):
    await browser.login()
    without = await values(browser, "bff:session_state")
    provider.overrides["callback"] = {"session_state": "abc.def"}
    await browser.login()

    assert without == []
    assert await values(browser, "bff:session_state") == ["abc.def"]


async def test_asking_keeps_the_session_alive(browser: Browser, clock: Clock):
    await browser.login()
    for _ in range(3):
        clock.advance(3000)
        assert await entries(browser)


@pytest.mark.parametrize("written", ["false", "False"])
async def test_asking_without_sliding_does_not(written: str, browser: Browser, clock: Clock):
    await browser.login()
    clock.advance(3000)
    before = await entries(browser, f"/bff/user?slide={written}")
    clock.advance(601)

    assert {"type": "bff:session_expires_in", "value": 600} in before
    assert (await browser.fetch(f"/bff/user?slide={written}")).status_code == 401


async def test_without_a_session_the_response_is_401(browser: Browser):
    response = await browser.fetch("/bff/user")

    assert response.status_code == 401
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (response.json()["code"], response.json()["login_url"]) == ("no_session", "/bff/login")


async def test_or_200_and_null_where_the_setting_says_so(provider: Provider, api: DemoApi, clock: Clock):
    lenient = {"anonymous_session_response": "200"}
    async with running_app(provider, api, clock=clock, **lenient) as app, new_browser(app) as browser:
        response = await browser.fetch("/bff/user")
        assert (response.status_code, response.json()) == (200, None)

        await browser.login("alice")
        assert {"type": "sub", "value": "alice"} in (await browser.fetch("/bff/user")).json()


async def test_a_question_twice_is_no_question(browser: Browser):
    await browser.login()
    response = await browser.fetch("/bff/user?slide=false&slide=true")

    assert (response.status_code, response.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize("headers", [{}, {"X-CSRF": "1", "Sec-Fetch-Site": "cross-site"}, NAVIGATION_HEADERS])
async def test_only_a_page_of_this_origin_gets_an_answer(headers: dict[str, str], browser: Browser):
    await browser.login()
    response = await browser.http.get("/bff/user", headers=headers)

    assert (response.status_code, response.json()["code"]) == (403, "csrf_rejected")
    assert "alice" not in response.text


async def test_no_token_is_included(app: RunningApp, browser: Browser):
    await browser.login()
    session = await app.session_of(browser)
    shown = json.dumps(await entries(browser))

    assert session
    assert not [
        token
        for token in (session.tokens.access_token, session.tokens.refresh_token, session.tokens.id_token)
        if str(token) in shown
    ]


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({}, "Alice Adams"),
        ({"name": None}, "alice@example.com"),
        ({"name": None, "email": None}, "alice"),
        ({"name": ""}, "alice@example.com"),
    ],
)
async def test_a_page_calls_a_person_by(
    claims: dict[str, object], name: str, provider: Provider, browser: Browser
):
    provider.overrides |= {"id_token": claims, "userinfo": claims}
    await browser.login("alice")

    assert f'<span class="name">{name}</span>' in (await browser.get("/")).text
