"""Tokens for a scope, a resource or an audience: each API gets its own token, and never another's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from app.bff.dev.registrations import TOKEN_EXCHANGE
from app.bff.errors import NoSession, ReauthenticationRequired, SessionEnded, TokenUnavailable
from app.bff.sessions.session import LOGIN, Session, Target
from tests.bff.harness import Browser, Clock, RunningApp, new_browser, query_params, running_app, sign_in

LIFETIME = 300  # of the provider's access tokens, in seconds
MINUTE = 60  # longer than any pause
ORDERS, STOCK = "https://orders.example", "https://stock.example"
FOR_ORDERS, FOR_STOCK = Target("openid", ORDERS), Target(None, STOCK)
EXCHANGED = Target(audience=ORDERS, exchanged=True)


def clients(api: DemoApi) -> dict[str, dict[str, Any]]:
    there = {"base_url": api.base_url}
    return {
        "login": {**there, "token": "user"},
        "orders": {**there, "token": "user", "scope": "orders.read", "resource": ORDERS},
        "stock": {**there, "token": "user", "resource": STOCK},
        "exchanged": {**there, "token": "exchange", "audience": ORDERS, "scope": "orders.write"},
        "ours": {**there, "token": "client", "scope": "orders.all", "resource": ORDERS},
    }


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    async with running_app(provider, api, clock=clock, http_clients=clients(api)) as app:
        yield app


async def stored(app: RunningApp, session: Session) -> Session:
    found = await app.services.sessions.get(session.ref)
    assert found
    return found


async def audience_of(app: RunningApp, session: Session | None, name: str) -> str | None:
    """Whom a request of the named client brings a token for."""
    async with app.services.clients.create(name, session).get("echo") as response:
        return (await response.json())["audience"]


def refreshes(provider: Provider) -> int:
    return provider.counts["token:refresh_token"]


def exchanges(provider: Provider) -> int:
    return provider.counts[f"token:{TOKEN_EXCHANGE}"]


# Login


async def test_the_login_requests_the_scopes_and_resources_of_named_clients(
    app: RunningApp, browser: Browser, api: DemoApi
):
    out = await browser.start_login()

    assert query_params(out)["scope"] == "openid profile email offline_access orders.read"
    assert f"resource={ORDERS}&resource={STOCK}" in out.replace("%3A", ":").replace("%2F", "/")


async def test_without_such_clients_it_requests_no_resource(provider: Provider, api: DemoApi, clock: Clock):
    async with running_app(provider, api, clock=clock) as app, new_browser(app) as browser:
        out = query_params(await browser.start_login())

    assert out["scope"] == "openid profile email offline_access"
    assert "resource" not in out


# Each its own


@pytest.mark.parametrize(
    ("name", "audience"), [("orders", ORDERS), ("stock", STOCK), ("exchanged", ORDERS), ("ours", ORDERS)]
)
async def test_a_named_client_sends_a_token_for_its_own_api(
    app: RunningApp, session: Session, name: str, audience: str
):
    assert await audience_of(app, session, name) == audience


async def test_parallel_calls_for_two_resources_never_get_each_others_token(
    app: RunningApp, session: Session, provider: Provider
):
    names = ["orders", "stock"] * 50
    audiences = await asyncio.gather(*(audience_of(app, session, name) for name in names))

    assert audiences == [ORDERS, STOCK] * 50
    assert refreshes(provider) == 2


async def test_parallel_calls_after_an_expiry_never_get_each_others_token(
    app: RunningApp, session: Session, provider: Provider, clock: Clock
):
    users = app.services.tokens
    targets = [LOGIN, FOR_ORDERS, FOR_STOCK, EXCHANGED] * 20
    for _ in range(2):
        clock.advance(LIFETIME)
        tokens = await asyncio.gather(*(users.get(session, target=target) for target in targets))
        facts = [provider.access_token(token) for token in tokens]

        assert [fact.resource for fact in facts[1:4]] == [ORDERS, STOCK, ORDERS]
        assert len(set(tokens)) == 4
    assert (refreshes(provider), exchanges(provider)) == (6, 2)
    assert provider.is_active((await stored(app, session)).tokens.refresh_token)


async def test_a_token_for_a_resource_does_not_change_that_of_the_login(
    app: RunningApp, session: Session, provider: Provider
):
    await app.services.tokens.get(session, target=FOR_ORDERS)

    now = await stored(app, session)
    assert await app.services.tokens.get(now) == session.tokens.access_token
    assert now.tokens.refresh_token != session.tokens.refresh_token
    assert provider.is_active(now.tokens.refresh_token)


async def test_a_token_for_a_resource_is_stored_in_the_session(
    app: RunningApp, session: Session, provider: Provider
):
    for target in (FOR_ORDERS, EXCHANGED, FOR_STOCK):
        token = await app.services.tokens.get(session, target=target)
        assert await app.services.tokens.get(await stored(app, session), target=target) == token
        assert (await stored(app, session)).tokens_for(target).access_token == token

    assert (refreshes(provider), exchanges(provider)) == (2, 1)


async def test_expired_tokens_are_dropped_from_the_session(app: RunningApp, session: Session, clock: Clock):
    await app.services.tokens.get(session, target=FOR_ORDERS)
    clock.advance(LIFETIME)
    await app.services.tokens.get(session, target=FOR_STOCK)

    assert [tokens.target for tokens in (await stored(app, session)).others] == [FOR_STOCK]


async def test_the_parameters_of_the_target_are_sent(app: RunningApp, session: Session, provider: Provider):
    await app.services.tokens.get(session, target=FOR_ORDERS)

    params = provider.last_request["token"]
    assert (params["scope"], params["resource"]) == ("openid", ORDERS)


async def test_an_api_that_rejects_a_token_gets_another_one_for_the_same_resource(
    app: RunningApp, session: Session, api: DemoApi
):
    api.rejects.add(await app.services.tokens.get(session, target=Target("orders.read", ORDERS)))

    assert await audience_of(app, await stored(app, session), "orders") == ORDERS


async def test_a_resource_that_the_provider_does_not_know_ends_no_session(
    app: RunningApp, session: Session, provider: Provider
):
    provider.refuses_targets.add(STOCK)

    with pytest.raises(ReauthenticationRequired):  # the login may have been before this target was added
        await app.services.tokens.get(session, target=FOR_STOCK)
    assert await app.services.tokens.get(session, target=FOR_ORDERS)
    assert await stored(app, session)


@pytest.mark.parametrize("resource", ["orders", "https://orders.example#top", "/orders"])
def test_an_invalid_resource_is_a_value_error(resource: str):
    with pytest.raises(ValueError, match="absolute URI"):
        Target(resource=resource)


async def test_invalid_grant_for_a_resource_ends_the_session_like_any_other(
    app: RunningApp, session: Session, provider: Provider
):
    provider.end_all_grants()

    with pytest.raises(SessionEnded):
        await app.services.tokens.get(session, target=FOR_ORDERS)


# Exchange (RFC 8693)


async def test_the_users_token_is_exchanged(app: RunningApp, session: Session, provider: Provider):
    token = await app.services.tokens.get(session, target=EXCHANGED)

    params = provider.last_request["token"]
    assert (params["subject_token"], params["audience"]) == (session.tokens.access_token, ORDERS)
    assert provider.access_token(token).sub == "alice"


async def test_a_hundred_callers_cause_one_exchange(app: RunningApp, session: Session, provider: Provider):
    tokens = await asyncio.gather(*(app.services.tokens.get(session, target=EXCHANGED) for _ in range(100)))

    assert len(set(tokens)) == 1
    assert (exchanges(provider), refreshes(provider)) == (1, 0)


async def test_an_expired_token_is_refreshed_before_it_is_exchanged(
    app: RunningApp, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME)
    await app.services.tokens.get(session, target=EXCHANGED)

    assert provider.last_request["token"]["subject_token"] == (await stored(app, session)).tokens.access_token
    assert (exchanges(provider), refreshes(provider)) == (1, 1)


async def test_a_request_whose_exchange_has_refreshed_the_users_token_uses_that_one_next(
    app: RunningApp, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME)
    holder, tokens = SimpleNamespace(session=session), app.services.tokens
    await tokens.tokens(session, target=EXCHANGED, holder=holder)
    own = await tokens.tokens(holder.session, holder=holder)

    assert own.access_token == (await stored(app, session)).tokens.access_token
    assert holder.session.tokens.access_token == own.access_token
    assert (exchanges(provider), refreshes(provider)) == (1, 1)


async def test_without_a_refresh_token_it_is_exchanged_until_it_expires(
    app: RunningApp, browser: Browser, provider: Provider, clock: Clock
):
    provider.issues_refresh_token = False
    session = await sign_in(app, browser)
    assert await app.services.tokens.get(session, target=EXCHANGED)

    clock.advance(LIFETIME)
    with pytest.raises(ReauthenticationRequired):
        await app.services.tokens.get(session, target=EXCHANGED)


def refusal(error: str) -> Failure:
    return Failure(400, json.dumps({"error": error}).encode())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(refusal("invalid_target"), id="a target it does not know"),
        pytest.param(refusal("invalid_request"), id="a token it does not take"),
        pytest.param(refusal("invalid_grant"), id="a grant it does not know"),
        pytest.param(Failure(503), id="503"),
    ],
)
async def test_a_refused_exchange_ends_no_session(
    app: RunningApp, session: Session, provider: Provider, clock: Clock, answer: Failure
):
    provider.fails["token"] = answer
    with pytest.raises(TokenUnavailable):
        await app.services.tokens.get(session, target=EXCHANGED)

    provider.fails.clear()
    clock.advance(MINUTE)
    assert await app.services.tokens.get(await stored(app, session), target=EXCHANGED)


@pytest.mark.parametrize("kind", ["urn:ietf:params:oauth:token-type:id_token", "N_A", None])
async def test_another_issued_token_type_is_refused(
    app: RunningApp, session: Session, provider: Provider, kind: str | None
):
    provider.overrides["token"] = {"issued_token_type": kind}

    with pytest.raises(TokenUnavailable):
        await app.services.tokens.get(session, target=EXCHANGED)


async def test_without_a_session_there_is_no_exchange_and_no_request(app: RunningApp, api: DemoApi):
    with pytest.raises(NoSession):
        await audience_of(app, None, "exchanged")
    assert api.counts["echo"] == 0
