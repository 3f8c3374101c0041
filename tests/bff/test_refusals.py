"""What a provider says when it refuses: the log names code and description, a page the code alone."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.bff.dev.provider import Failure, Provider
from app.bff.errors import TokenUnavailable
from app.bff.oidc.refusals import (
    challenge_params,
    description,
    error_code,
    refusal_fields,
    requires_pushed_requests,
)
from tests.bff.harness import Browser, Clock, query_params, sign_in

JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.c2ln"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Invalid scopes: openid nope", "Invalid scopes: openid nope"),
        ("the scope 'api://orders/read' is not allowed", "the scope 'api://orders/read' is not allowed"),
        ('Unknown "scope"\\', "Unknown scope"),
        ("two\r\nlines\tand \x1b[31mred\x00", "two lines and [31mred"),
        ("<b>pay</b> now", "… now"),
        ("Ungültig: Größe", "Ung ltig: Gr e"),
        ("AADSTS7000215: Invalid client secret provided.", "AADSTS7000215: Invalid client secret provided."),
        ("code_challenge_method unmet_authentication_requirements", ...),
        ("https://graph.microsoft.com/User.Read was not consented", ...),
        ("no such code code-fN3s9dK2mQ8xV7bT", "no such code …"),
        ("code 0f8fad5b-d9cb-469f-a165-70867728950e is used", "code … is used"),
        (f"what is {JWT}?", "what is …"),
        ("eyJhbGciOiJ", "…"),
        ("for alice@example.com", "for …"),
        ("password=hunter2 and a%20b", "… and …"),
        (f"at-{'a' * 30} is over", "… is over"),
        ("secret a.b!c was wrong", "secret … was wrong"),
        ("a\ud800b", "a b"),
        (["Invalid scope"], ""),
        (None, ""),
        ("word " * 100, ("word " * 100)[:200]),
        ("x " * 1_000_000, ("x " * 1_000_000)[:200]),
    ],
)
def test_of_a_description_a_log_shows(said: Any, shown: Any):
    assert description(said, secrets=["a.b!c", ""]) == (said if shown is ... else shown)


@pytest.mark.parametrize("error", ["invalid_scope", "AADSTS50011", "user.blocked", "Too-Many"])
def test_an_error_code_is_shown(error: str):
    assert error_code(error) == error


@pytest.mark.parametrize(
    "error",
    ["", "two words", "<b>", "a\n", "x" * 65, "é", "1st", None, 400, {"code": 1}, "rt-abcdefghij012345"],
)
def test_what_is_no_error_code_is_not(error: Any):
    assert error_code(error) is None


@pytest.mark.parametrize(
    ("response", "fields"),
    [
        ({}, {}),
        ({"error": ""}, {}),
        ({"error_description": "alone"}, {}),
        ({"error": "Bad Request"}, {"error": "Bad Request", "description": ""}),
        ({"error": {"code": 401}, "error_description": "a"}, {"error": "…", "description": "a"}),
    ],
)
def test_a_log_gets_of_a_response(response: dict[str, Any], fields: dict[str, str]):
    assert refusal_fields(response) == fields


def test_a_challenge_names_an_error():
    header = 'DPoP realm="x", Bearer error="invalid_token", error_description="It, has expired"'

    assert challenge_params(header) == {"error": "invalid_token", "error_description": "It, has expired"}


@pytest.mark.parametrize(
    ("error", "said", "required"),
    [
        ("invalid_request", "Pushed Authorization Request must be used", True),  # npm oidc-provider
        ("invalid_request", "Pushed Authorization Request is only allowed.", True),  # Keycloak
        ("invalid_request", "Pushed authorization is required.", True),  # Duende IdentityServer
        ("unauthorized_client", "this client must use PAR", True),
        ("invalid_request", "invalid parameter: scope", False),
        ("login_required", "Pushed Authorization Request", False),
    ],
)
def test_that_requests_must_be_pushed_is_told_by_the_description(error: str, said: str, required: bool):
    assert requires_pushed_requests({"error": error, "description": said}) == required


# Every request that a provider may refuse

REFUSED = {"error": "invalid_scope", "error_description": "Unknown scope: nope"}
FAILURE = Failure(400, json.dumps(REFUSED).encode())


async def at_the_authorization_endpoint(browser: Browser, provider: Provider, clock: Clock) -> str:
    provider.overrides["callback"] = {"code": None, **REFUSED}
    return (await browser.get(await browser.choose(await browser.start_login()))).text


async def at_the_token_endpoint(browser: Browser, provider: Provider, clock: Clock) -> str:
    provider.fails["token"] = FAILURE
    return (await browser.get(await browser.choose(await browser.start_login()))).text


async def of_a_pushed_request(browser: Browser, provider: Provider, clock: Clock) -> str:
    provider.overrides["metadata"] = {"require_pushed_authorization_requests": True}
    provider.fails["par"] = FAILURE
    return (await browser.get("/bff/login")).text


async def of_a_refresh(browser: Browser, provider: Provider, clock: Clock) -> str:
    await sign_in(browser.app, browser)
    clock.advance(301)
    provider.fails["token"] = FAILURE
    await browser.fetch("/api/echo")
    return ""


async def of_client_credentials(browser: Browser, provider: Provider, clock: Clock) -> str:
    provider.fails["token"] = FAILURE
    with pytest.raises(TokenUnavailable):
        await browser.app.services.clients.application_token("apiClient")
    return ""


async def of_a_revocation(browser: Browser, provider: Provider, clock: Clock) -> str:
    await sign_in(browser.app, browser)
    provider.fails["revoke"] = FAILURE
    left = await browser.logout()
    await browser.get((await browser.http.get(left.headers["Location"])).headers["Location"])
    return ""


async def of_userinfo(browser: Browser, provider: Provider, clock: Clock) -> str:
    challenge = 'Bearer error="invalid_scope", error_description="Unknown scope: nope"'
    provider.fails["userinfo"] = Failure(403, headers={"WWW-Authenticate": challenge})
    await sign_in(browser.app, browser)
    return ""


async def of_a_logout(browser: Browser, provider: Provider, clock: Clock) -> str:
    await sign_in(browser.app, browser)
    state = query_params((await browser.logout()).headers["Location"])["state"]
    said = "error=invalid_scope&error_description=Unknown%20scope:%20nope"
    return (await browser.get(f"/bff/logout/callback?state={state}&{said}")).text


Refusal = Callable[[Browser, Provider, Clock], Awaitable[str]]
REFUSALS: list[Refusal] = [
    at_the_authorization_endpoint,
    at_the_token_endpoint,
    of_a_pushed_request,
    of_a_refresh,
    of_client_credentials,
    of_a_revocation,
    of_userinfo,
    of_a_logout,
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.__name__)
async def test_the_log_names_error_and_description_and_the_page_the_error_alone(
    refusal: Refusal, browser: Browser, provider: Provider, clock: Clock, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    page = await refusal(browser, provider, clock)
    logged = [vars(record) for record in caplog.records if "description" in vars(record)]
    said = [(each["error"], each["description"]) for each in logged]

    assert said == [("invalid_scope", "Unknown scope: nope")]
    assert "invalid_scope" in page or refusal not in REFUSALS[:3]
    assert "Unknown scope" not in page


async def test_a_link_with_another_state_leaves_no_word_in_the_log(
    browser: Browser, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    await browser.start_login()
    await browser.get("/bff/callback?state=forged&error=invalid_scope&error_description=Call%20555")

    assert not [record for record in caplog.records if "description" in vars(record)]


# A refusal that says: push your requests. Any browser can make one up for its own attempt.

PUSH = "error=invalid_request&error_description=only%20a%20pushed%20request"


async def refused_since_it_was_not_pushed(browser: Browser, provider: Provider) -> None:
    state = query_params(await browser.start_login())["state"]
    await browser.get(f"/bff/callback?state={state}&iss={provider.issuer}&{PUSH}")


@pytest.mark.parametrize(
    ("failure", "tries"),
    [
        pytest.param(Failure(400, b'{"error": "unauthorized_client"}'), 1, id="is refused: it was not true"),
        pytest.param(Failure(503), 2, id="fails for a while"),
    ],
)
async def test_where_pushing_then_fails_requests_go_through_the_browser_as_before(
    browser: Browser, provider: Provider, failure: Failure, tries: int
):
    await refused_since_it_was_not_pushed(browser, provider)
    provider.fails["par"] = failure
    urls = [await browser.start_login() for _ in range(2)]

    assert ["request_uri" in query_params(url) for url in urls] == [False, False]
    assert provider.counts["par"] == tries


async def test_a_process_that_pushed_in_vain_once_is_not_told_to_push_again(
    browser: Browser, provider: Provider
):
    await refused_since_it_was_not_pushed(browser, provider)
    provider.fails["par"] = Failure(400, b'{"error": "unauthorized_client"}')
    for _ in range(2):
        await refused_since_it_was_not_pushed(browser, provider)

    assert provider.counts["par"] == 1


async def test_without_an_endpoint_for_it_nothing_is_pushed(browser: Browser, provider: Provider):
    provider.overrides["metadata"] = {"pushed_authorization_request_endpoint": None}
    await refused_since_it_was_not_pushed(browser, provider)

    assert "request_uri" not in query_params(await browser.start_login())
