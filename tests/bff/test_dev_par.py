"""Pushed authorization requests at the development provider (RFC 9126)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2 as httpx
import pytest

from app.bff.dev.provider import Client, Provider
from tests.bff.harness import Clock
from tests.bff.provider_harness import (
    APP,
    BASIC,
    CALLBACK,
    Browser,
    authorize_params,
    basic,
    browser_at,
    callback_params,
)

BILLS = "https://bills.example"


@pytest.fixture
async def browser(provider: Provider) -> AsyncIterator[Browser]:
    async with browser_at(provider) as browser:
        yield browser


async def push(browser: Browser, authorization: str = BASIC, **changed: str) -> httpx.Response:
    headers = {"Authorization": authorization} if authorization else {}
    return await browser.http.post("/par", data=authorize_params(changed), headers=headers)


async def pushed(browser: Browser, **changed: str) -> dict[str, str]:
    """What the browser is sent to /authorize with."""
    return {"client_id": "app", "request_uri": (await push(browser, **changed)).json()["request_uri"]}


async def choose(browser: Browser, query: dict[str, str]) -> httpx.Response:
    return await browser.http.post("/authorize", params=query, data={"sub": "alice"})


async def test_the_metadata_says_where_to_push(provider: Provider, browser: Browser):
    metadata = (await browser.http.get("/.well-known/openid-configuration")).json()

    assert metadata["pushed_authorization_request_endpoint"] == f"{provider.issuer}/par"
    assert "require_pushed_authorization_requests" not in metadata


async def test_a_pushed_request_gets_a_uri_for_a_minute(provider: Provider, browser: Browser):
    answer = await push(browser)

    body = answer.json()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    assert body.pop("request_uri").startswith("urn:ietf:params:oauth:request_uri:")
    assert body == {"expires_in": 60}
    assert (provider.counts["par"], provider.last_request["par"]["state"]) == (1, "the-state")


async def test_the_browser_signs_in_with_the_request_uri_alone(provider: Provider, browser: Browser):
    query = await pushed(browser)
    page = await browser.http.get("/authorize", params=query)
    back = callback_params(await choose(browser, query))

    assert page.status_code == 200
    assert (back["state"], back["iss"]) == ("the-state", provider.issuer)
    assert (await browser.redeem(back["code"])).status_code == 200


async def test_what_was_pushed_counts_and_not_what_the_browser_brings(browser: Browser):
    query = await pushed(browser, state="pushed")
    answer = await choose(browser, {**query, "state": "forged", "redirect_uri": "https://evil.example/"})

    assert callback_params(answer, to=CALLBACK)["state"] == "pushed"


async def test_everything_else_of_the_pushed_request_counts_too(browser: Browser):
    back = callback_params(await browser.http.get("/authorize", params=await pushed(browser, prompt="none")))

    assert (back["error"], back["state"]) == ("login_required", "the-state")


async def test_a_request_uri_is_used_up_when_the_browser_is_sent_back(browser: Browser):
    query = await pushed(browser)
    await choose(browser, query)

    again = await choose(browser, query)
    assert (again.status_code, again.headers.get("Location")) == (400, None)


async def test_denying_uses_the_request_uri_up_too(browser: Browser):
    query = await pushed(browser)
    denied = await browser.http.post("/authorize", params=query, data={"deny": "yes"})

    assert callback_params(denied)["error"] == "access_denied"
    assert (await browser.http.get("/authorize", params=query)).status_code == 400


async def test_the_login_page_can_be_loaded_again(browser: Browser):
    query = await pushed(browser)
    pages = [await browser.http.get("/authorize", params=query) for _ in range(2)]

    assert [page.status_code for page in pages] == [200, 200]


async def test_a_request_uri_is_too_old_after_a_minute(browser: Browser, clock: Clock):
    query = await pushed(browser)
    clock.advance(60)

    assert (await browser.http.get("/authorize", params=query)).status_code == 400
    assert (await choose(browser, query)).status_code == 400


async def test_a_person_may_look_at_the_login_page_for_longer_than_that(browser: Browser, clock: Clock):
    query = await pushed(browser)
    await browser.http.get("/authorize", params=query)
    clock.advance(600)

    assert "code" in callback_params(await choose(browser, query))


async def test_a_request_uri_belongs_to_one_client(provider: Provider, browser: Browser):
    provider.clients["other"] = Client("other", "secret", (CALLBACK,))
    query = {**await pushed(browser), "client_id": "other"}

    assert (await choose(browser, query)).status_code == 400


@pytest.mark.parametrize("request_uri", ["urn:ietf:params:oauth:request_uri:par-1", "https://app.example/r"])
async def test_a_request_uri_that_was_not_given_here_is_refused(request_uri: str, browser: Browser):
    answer = await browser.authorize(request_uri=request_uri)

    assert (answer.status_code, answer.headers.get("Location")) == (400, None)


@pytest.mark.parametrize(
    "changed",
    [
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": ""},
        {"redirect_uri": f'{CALLBACK}"'},
        {"code_challenge": ""},
        {"code_challenge_method": "plain"},
        {"client_id": "other"},
        {"request_uri": "urn:ietf:params:oauth:request_uri:par-1"},
    ],
    ids=lambda changed: "=".join(*changed.items()),
)
async def test_a_bad_request_is_refused_when_it_is_pushed(changed: dict[str, str], browser: Browser):
    answer = await push(browser, **changed)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_a_pushed_request_wants_a_response_type_and_a_target_that_exist(
    provider: Provider, browser: Browser
):
    provider.refuses_targets = {BILLS}
    answers = [await push(browser, response_type="token"), await push(browser, resource=BILLS)]

    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json()["error"] == "unsupported_response_type"
    assert answers[1].json()["error"] == "invalid_target"


@pytest.mark.parametrize("authorization", ["", basic("app", "wrong")], ids=["nothing", "wrong secret"])
async def test_pushing_wants_to_know_the_client(authorization: str, browser: Browser):
    answer = await push(browser, authorization)

    assert answer.json()["error"] == "invalid_client"


async def test_client_secret_post_is_understood(browser: Browser):
    answer = await push(browser, "", client_secret=APP.client_secret)
    query = {"client_id": "app", "request_uri": answer.json()["request_uri"]}

    assert "code" in callback_params(await choose(browser, query))


async def test_a_provider_that_requires_par_says_so(provider: Provider, browser: Browser):
    provider.requires_par = True
    metadata = (await browser.http.get("/.well-known/openid-configuration")).json()

    assert metadata["require_pushed_authorization_requests"] is True


async def test_a_provider_that_requires_par_takes_nothing_else(provider: Provider, browser: Browser):
    provider.requires_par = True
    plain = await browser.authorize()

    assert (plain.status_code, plain.headers.get("Location")) == (400, None)
    assert "code" in callback_params(await choose(browser, await pushed(browser)))
