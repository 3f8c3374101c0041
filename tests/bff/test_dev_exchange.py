"""Tokens of the development provider for one API: resource indicators, scopes, token exchange, and lies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2 as httpx
import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Client, Provider
from tests.bff.harness import Clock
from tests.bff.provider_harness import Browser, basic, browser_at, callback_params

ORDERS, BILLS = "https://orders.example/v1", "https://bills.example"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


@pytest.fixture
async def browser(provider: Provider) -> AsyncIterator[Browser]:
    async with browser_at(provider) as browser:
        yield browser


async def exchange(browser: Browser, subject_token: str, **changed: str) -> httpx.Response:
    form = {"subject_token": subject_token, "subject_token_type": ACCESS_TOKEN, **changed}
    return await browser.token(EXCHANGE, **form)


def error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


def resource(provider: Provider, tokens: dict[str, Any]) -> str | None:
    record = provider.access_token(tokens["access_token"])
    assert record is not None
    return record.resource


# Which API a token is for


async def test_a_token_is_for_the_resource_of_the_authorization_request(provider: Provider, browser: Browser):
    tokens = await browser.tokens(resource=ORDERS)
    refreshed = (await browser.refresh(tokens["refresh_token"])).json()

    assert resource(provider, tokens) == resource(provider, refreshed) == ORDERS


async def test_without_a_resource_a_token_is_for_no_api_in_particular(provider: Provider, browser: Browser):
    assert resource(provider, await browser.tokens()) is None


async def test_a_login_for_several_resources_gets_a_token_for_none_in_particular(
    provider: Provider, browser: Browser
):
    tokens = await browser.tokens(resource=[ORDERS, BILLS])  # type: ignore[arg-type]
    one = (await browser.refresh(tokens["refresh_token"], resource=BILLS)).json()

    assert (resource(provider, tokens), resource(provider, one)) == (None, BILLS)


async def test_the_code_is_redeemed_for_another_resource(provider: Provider, browser: Browser):
    back = await browser.sign_in(resource=ORDERS)

    assert resource(provider, (await browser.redeem(back["code"], resource=BILLS)).json()) == BILLS


async def test_a_refresh_asks_for_another_resource_this_once(provider: Provider, browser: Browser):
    first = await browser.tokens(resource=ORDERS)
    second = (await browser.refresh(first["refresh_token"], resource=BILLS)).json()
    third = (await browser.refresh(second["refresh_token"])).json()

    assert (resource(provider, second), resource(provider, third)) == (BILLS, ORDERS)


async def test_client_credentials_are_for_a_resource(provider: Provider, browser: Browser):
    tokens = (await browser.token("client_credentials", resource=BILLS)).json()

    assert resource(provider, tokens) == BILLS


async def test_introspection_tells_the_audience_when_there_is_one(browser: Browser):
    with_one, without = await browser.tokens(resource=ORDERS), await browser.tokens()

    assert (await browser.introspect(with_one["access_token"]))["aud"] == ORDERS
    assert "aud" not in await browser.introspect(without["access_token"])


async def test_a_narrower_scope_at_the_refresh_is_for_that_access_token_alone(
    provider: Provider, browser: Browser
):
    first = await browser.tokens(scope="openid offline_access orders")
    second = (await browser.refresh(first["refresh_token"], scope="orders")).json()
    third = (await browser.refresh(second["refresh_token"])).json()

    assert (second["scope"], third["scope"]) == ("orders", "openid offline_access orders")
    assert (await browser.introspect(second["access_token"]))["scope"] == "orders"


async def test_a_wider_scope_at_the_refresh_is_invalid_scope(provider: Provider, browser: Browser):
    first = await browser.tokens(scope="openid offline_access")
    answer = await browser.refresh(first["refresh_token"], scope="openid orders")

    assert error(answer) == (400, "invalid_scope")
    assert provider.is_active(first["refresh_token"])


@pytest.mark.parametrize("bad", ["", "orders", "/v1", "https://orders.example/#top"])
async def test_a_resource_is_an_absolute_uri_without_a_fragment(bad: str, browser: Browser):
    answer = await browser.token("client_credentials", resource=bad)

    assert error(answer) == (400, "invalid_target")


async def test_more_than_one_resource_is_invalid_target(browser: Browser):
    answer = await browser.token("client_credentials", resource=[ORDERS, BILLS])  # type: ignore[arg-type]

    assert error(answer) == (400, "invalid_target")


async def test_a_refused_resource_is_invalid_target_and_uses_nothing_up(provider: Provider, browser: Browser):
    back, tokens = await browser.sign_in(), await browser.tokens()
    provider.refuses_targets = {BILLS}

    answers = [
        await browser.redeem(back["code"], resource=BILLS),
        await browser.refresh(tokens["refresh_token"], resource=BILLS),
        await browser.token("client_credentials", resource=BILLS),
    ]
    assert [error(answer) for answer in answers] == [(400, "invalid_target")] * 3
    assert (await browser.redeem(back["code"])).status_code == 200
    assert (await browser.refresh(tokens["refresh_token"])).status_code == 200


async def test_a_refused_resource_of_the_authorization_request_is_an_error_that_goes_back(
    provider: Provider, browser: Browser
):
    provider.refuses_targets = {BILLS}
    back = callback_params(await browser.authorize(resource=BILLS))

    assert (back["error"], back["state"]) == ("invalid_target", "the-state")


# The API


async def call(api: DemoApi, tokens: dict[str, Any]) -> httpx.Response:
    async with httpx.AsyncClient(base_url=api.base_url) as http:
        return await http.get("echo", headers={"Authorization": f"Bearer {tokens['access_token']}"})


async def test_the_echo_shows_the_audience(api: DemoApi, browser: Browser):
    bound, free = await browser.tokens(resource=ORDERS), await browser.tokens()

    assert (await call(api, bound)).json()["audience"] == ORDERS
    assert (await call(api, free)).json()["audience"] is None


@pytest.fixture
async def orders(provider: Provider) -> AsyncIterator[DemoApi]:
    api = DemoApi(provider, audience=ORDERS)
    await api.start()
    yield api
    await api.stop()


async def test_an_api_with_an_audience_takes_its_own_tokens(orders: DemoApi, browser: Browser):
    assert (await call(orders, await browser.tokens(resource=ORDERS))).status_code == 200


@pytest.mark.parametrize("params", [{"resource": BILLS}, {}], ids=["another API", "no API"])
async def test_an_api_with_an_audience_refuses_tokens_for(
    params: dict[str, str], orders: DemoApi, browser: Browser
):
    answer = await call(orders, await browser.tokens(**params))

    assert error(answer) == (401, "invalid_token")
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


# Token exchange


async def test_the_metadata_names_the_grant_type(browser: Browser):
    metadata = (await browser.http.get("/.well-known/openid-configuration")).json()

    assert EXCHANGE in metadata["grant_types_supported"]


async def test_an_access_token_is_exchanged_for_one_for_another_api(provider: Provider, browser: Browser):
    tokens = await browser.tokens()
    answer = (await exchange(browser, tokens["access_token"], audience="orders", scope="read")).json()

    record = provider.access_token(answer.pop("access_token"))
    assert record is not None
    assert (record.sub, record.client_id, record.resource) == ("alice", "app", "orders")
    assert answer == {
        "token_type": "Bearer",
        "issued_token_type": ACCESS_TOKEN,
        "scope": "read",
        "expires_in": 300,
    }
    assert provider.counts[f"token:{EXCHANGE}"] == 1


async def test_an_exchanged_token_lives_as_long_as_any_other(
    provider: Provider, browser: Browser, clock: Clock
):
    provider.access_token_seconds = 60
    tokens = await browser.tokens()
    clock.advance(40)
    exchanged = (await exchange(browser, tokens["access_token"])).json()["access_token"]
    clock.advance(40)

    assert (provider.is_active(tokens["access_token"]), provider.is_active(exchanged)) == (False, True)


async def test_without_a_scope_or_a_target_an_exchange_keeps_those_of_the_subject_token(
    provider: Provider, browser: Browser
):
    wide = await browser.tokens(scope="openid offline_access orders")
    narrow = (await browser.refresh(wide["refresh_token"], scope="orders", resource=ORDERS)).json()
    answer = (await exchange(browser, narrow["access_token"])).json()

    assert (answer["scope"], resource(provider, answer)) == ("orders", ORDERS)


async def test_an_exchanged_token_belongs_to_the_client_that_requested_it(
    provider: Provider, browser: Browser
):
    provider.clients["other"] = Client("other", "secret", ())
    tokens = await browser.tokens()
    answer = await exchange(browser, tokens["access_token"], basic=basic("other", "secret"))

    introspection = await browser.introspect(answer.json()["access_token"])
    assert (introspection["sub"], introspection["client_id"]) == ("alice", "other")


async def test_an_exchange_may_name_a_resource_instead_of_an_audience(provider: Provider, browser: Browser):
    tokens = await browser.tokens()
    answer = (await exchange(browser, tokens["access_token"], resource=BILLS)).json()

    assert resource(provider, answer) == BILLS


@pytest.mark.parametrize(
    "changed",
    [
        {"subject_token": "at-unknown"},
        {"subject_token_type": "urn:ietf:params:oauth:token-type:jwt"},
        {"subject_token_type": ""},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
        {"actor_token": "at-1"},
    ],
    ids=lambda changed: "=".join(*changed.items()),
)
async def test_an_exchange_is_refused_with(changed: dict[str, str], browser: Browser):
    form = {"subject_token": (await browser.tokens())["access_token"], **changed}

    assert error(await exchange(browser, **form)) == (400, "invalid_request")


async def test_an_exchange_says_what_the_subject_token_is(browser: Browser):
    answer = await browser.token(EXCHANGE, subject_token=(await browser.tokens())["access_token"])

    assert error(answer) == (400, "invalid_request")


async def test_only_a_living_access_token_is_exchanged(browser: Browser, clock: Clock):
    tokens = await browser.tokens()
    refresh_token = await exchange(browser, tokens["refresh_token"])
    clock.advance(300)
    expired = await exchange(browser, tokens["access_token"])

    assert (error(refresh_token), error(expired)) == ((400, "invalid_request"),) * 2


async def test_an_exchange_wants_to_know_the_client(browser: Browser):
    tokens = await browser.tokens()
    answer = await exchange(browser, tokens["access_token"], basic=basic("app", "wrong"))

    assert error(answer) == (401, "invalid_client")


@pytest.mark.parametrize("name", ["audience", "resource"])
async def test_an_exchange_is_refused_for_a_refused(name: str, provider: Provider, browser: Browser):
    tokens = await browser.tokens()
    provider.refuses_targets = {BILLS}
    answer = await exchange(browser, tokens["access_token"], **{name: BILLS})

    assert error(answer) == (400, "invalid_target")


async def test_an_exchanged_token_can_be_exchanged_again(provider: Provider, browser: Browser):
    first = (await exchange(browser, (await browser.tokens())["access_token"], audience="a")).json()
    second = (await exchange(browser, first["access_token"], audience="b")).json()

    assert resource(provider, second) == "b"


# Lies


async def test_a_token_answer_can_be_changed(provider: Provider, browser: Browser):
    provider.overrides["token"] = {"token_type": "mac", "issued_token_type": None}
    tokens = await browser.tokens()
    exchanged = (await exchange(browser, tokens["access_token"])).json()

    assert tokens["token_type"] == exchanged["token_type"] == "mac"
    assert "issued_token_type" not in exchanged


async def test_an_id_token_can_be_left_out_of_a_token_answer(provider: Provider, browser: Browser):
    provider.overrides["token"] = {"id_token": None}

    assert "id_token" not in await browser.tokens()


async def test_a_token_error_is_no_place_for_lies(provider: Provider, browser: Browser):
    provider.overrides["token"] = {"token_type": "mac"}

    assert "token_type" not in (await browser.refresh("rt-unknown")).json()
