"""Kinds of tokens, and ways to ask for them, against the certified npm package `oidc-provider`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from app.bff.clients.registry import HttpClientFactory
from app.bff.settings.apis import HttpClientSettings
from app.bff.tokens.application import ApplicationTokens
from tests.bff.certified_provider import ACCESS_TOKEN_SECONDS
from tests.bff.harness import CLIENT_ID, Clock, query_params
from tests.bff.test_certified_provider import Person, a_person

A, B = "https://a.example", "https://b.example"
CLIENTS = {
    "a": {"base_url": "http://127.0.0.1:1/", "token": "user", "scope": "orders.read", "resource": A},
    "b": {"base_url": "http://127.0.0.1:1/", "token": "user", "scope": "orders.write", "resource": B},
    "ours": {"base_url": "http://127.0.0.1:1/", "token": "client", "scope": "orders.read", "resource": A},
}


# Resource indicators (RFC 8707)


async def test_parallel_calls_for_two_resources_each_get_their_own_token(clock: Clock):
    async with a_person(clock, http_clients=CLIENTS) as (alice, certified):
        await alice.signs_in()
        token_options = [
            {"resource": A, "scope": "orders.read"},
            {"resource": B, "scope": "orders.write"},
        ] * 10
        tokens = await asyncio.gather(*(alice.token(**each) for each in token_options))
        facts = [await certified.introspected(token) for token in tokens[:2]]

        assert [(each["aud"], each["scope"]) for each in facts] == [(A, "orders.read"), (B, "orders.write")]
        assert len(set(tokens)) == 2
        assert await certified.refreshes() == 2


async def test_the_tokens_for_resources_are_stored_and_refreshed_when_they_expire(clock: Clock):
    async with a_person(clock, http_clients=CLIENTS) as (alice, certified):
        await alice.signs_in()
        first = await alice.token(resource=A)
        assert await alice.token(resource=A) == first
        clock.advance(ACCESS_TOKEN_SECONDS)
        second = await alice.token(resource=A)

        assert second != first
        assert (await certified.introspected(second))["aud"] == A
        assert await certified.refreshes() == 2
        assert await certified.is_active(await alice.refresh_token())


async def test_our_own_token_is_for_the_resource_of_its_client(clock: Clock):
    async with a_person(clock, http_clients=CLIENTS) as (alice, certified):
        clients = alice.app.services.clients
        tokens = await asyncio.gather(*(clients.application_token("ours") for _ in range(500)))
        facts = await certified.introspected(tokens[0])

        assert len(set(tokens)) == 1
        assert (facts["aud"], facts["scope"], facts["client_id"]) == (A, "orders.read", CLIENT_ID)


# Pushed authorization requests (RFC 9126)


async def test_a_provider_that_requires_it_gets_the_request_pushed(clock: Clock):
    async with a_person(clock, requires=["par"]) as (alice, certified):
        out = await alice.start_login()
        await alice.signs_in()

        assert set(query_params(out)) == {"client_id", "request_uri"}
        assert await certified.pushed() == 2
        assert await certified.is_active(await alice.token())


async def test_a_provider_that_only_offers_it_gets_it_if_the_settings_say_so(clock: Clock):
    async with a_person(clock, par=True) as (alice, certified):
        await alice.signs_in()

        assert await certified.pushed() == 1
        assert await certified.is_active(await alice.token())


async def test_otherwise_nothing_is_pushed(clock: Clock):
    async with a_person(clock) as (alice, certified):
        await alice.signs_in()

        assert await certified.pushed() == 0


# DPoP (RFC 9449)


async def test_tokens_are_bound_to_one_key_of_the_session_also_after_a_refresh(clock: Clock):
    async with a_person(clock, dpop=True, registered={"dpop_bound_access_tokens": True}) as (
        alice,
        certified,
    ):
        await alice.signs_in()
        tokens = [await alice.token(), await alice.token(forced="yes")]
        facts = [await certified.introspected(token) for token in tokens]

        assert [each["token_type"] for each in facts] == ["DPoP", "DPoP"]
        assert facts[0]["cnf"]["jkt"] == facts[1]["cnf"]["jkt"]


async def test_a_provider_that_wants_nonces_gets_them_at_each_of_its_endpoints(clock: Clock):
    async with a_person(clock, dpop=True, requires=["dpop_nonce"]) as (alice, certified):
        await alice.signs_in()  # token endpoint and userinfo

        assert await certified.is_active(await alice.token(forced="yes"))
        assert await certified.refreshes() == 1


async def test_a_named_client_proves_its_key_to_the_api(clock: Clock):
    async with a_person(clock, dpop=True, requires=["dpop_nonce"]) as (alice, certified):
        await alice.signs_in()
        session = await alice.app.session_of(alice)
        userinfo = {"base_url": f"{certified.issuer}/", "token": "user"}
        async with (
            a_factory(alice, userinfo) as clients,
            clients.create("userinfo", session).get("me?some=query") as response,
        ):
            assert (await response.json())["sub"] == "alice"


@asynccontextmanager
async def a_factory(person: Person, userinfo: dict[str, Any]) -> AsyncIterator[HttpClientFactory]:
    """With a client for the provider's own API, whose address is known only now."""
    services = person.app.services
    application = ApplicationTokens(services.oidc, margin_seconds=60)
    settings = {"userinfo": HttpClientSettings(**userinfo)}
    factory = HttpClientFactory(settings, services.tokens, application, clock=services.clock)
    yield factory
    await factory.close()


async def test_all_of_it_works_together(clock: Clock):
    everything = {"par": True, "dpop": True, "http_clients": CLIENTS}
    async with a_person(clock, requires=["par", "dpop_nonce"], **everything) as (alice, certified):
        await alice.signs_in()
        facts = await certified.introspected(await alice.token(resource=B))

        assert (facts["aud"], facts["token_type"]) == (B, "DPoP")


# Userinfo as a signed JWT (OIDC Core §5.3.2)


async def test_userinfo_may_be_a_signed_jwt(clock: Clock):
    async with a_person(clock, registered={"userinfo_signed_response_alg": "RS256"}) as (alice, _):
        await alice.signs_in()
        session = await alice.app.session_of(alice)

        assert session
        assert session.claims["name"] == "Alice Adams"  # which is in userinfo alone
