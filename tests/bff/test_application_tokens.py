"""ApplicationTokens: tokens of the client credentials grant, and how often they are requested."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from app.bff.dev.provider import Failure, Provider
from app.bff.errors import TokenUnavailable
from app.bff.sessions.session import LOGIN, Target
from app.bff.tokens.application import ApplicationTokens
from tests.bff.harness import CLIENT_ID, Clock, RunningApp, wait_until

LIFETIME = 300  # of the provider's access tokens, in seconds
MINUTE = 60  # longer than any pause
MARGIN = LIFETIME / 10  # the setting says 60, a tenth of the lifetime is less
ORDERS = Target("orders.read", "https://orders.example/")


@pytest.fixture
def tokens(app: RunningApp, clock: Clock) -> ApplicationTokens:
    return ApplicationTokens(app.services.oidc, margin_seconds=60, clock=clock)


def requests(provider: Provider) -> int:
    return provider.counts["token:client_credentials"]


async def test_a_token_is_issued_to_the_application_and_to_no_user(
    tokens: ApplicationTokens, provider: Provider
):
    token = provider.access_token(await tokens.get(ORDERS))

    assert token is not None
    assert (token.client_id, token.sub, token.scope) == (CLIENT_ID, None, "orders.read")


async def test_scope_and_resource_are_requested(tokens: ApplicationTokens, provider: Provider):
    await tokens.get(ORDERS)

    assert provider.last_request["token"] == {"grant_type": "client_credentials", **ORDERS.params}


async def test_scope_and_resource_that_are_not_set_are_not_sent(
    tokens: ApplicationTokens, provider: Provider
):
    await tokens.get(LOGIN)

    assert provider.last_request["token"] == {"grant_type": "client_credentials"}


async def test_five_hundred_callers_at_once_cause_one_request(tokens: ApplicationTokens, provider: Provider):
    answers = await asyncio.gather(*(tokens.get(ORDERS) for _ in range(500)))

    assert len(set(answers)) == 1
    assert requests(provider) == 1


async def test_a_token_is_cached_per_scope_and_resource(tokens: ApplicationTokens, provider: Provider):
    targets = [ORDERS, replace(ORDERS, scope="orders.write"), replace(ORDERS, resource=None)]

    first = [await tokens.get(each) for each in targets]
    again = [await tokens.get(each) for each in targets]

    assert first == again
    assert len(set(first)) == requests(provider) == 3


async def test_a_token_is_renewed_before_it_expires_and_callers_do_not_wait(
    tokens: ApplicationTokens, provider: Provider, clock: Clock
):
    first = await tokens.get(ORDERS)
    clock.advance(LIFETIME - MARGIN - 1)
    assert await tokens.get(ORDERS) == first

    clock.advance(1)
    assert await tokens.get(ORDERS) == first
    await wait_until(lambda: tokens.tokens_for(ORDERS).access_token != first)
    assert requests(provider) == 2


async def test_a_hundred_rejected_requests_cause_one_renewal(tokens: ApplicationTokens, provider: Provider):
    refused = await tokens.get(ORDERS)

    renewed = await asyncio.gather(*(tokens.get(ORDERS, rejected=refused) for _ in range(100)))
    late = await tokens.get(ORDERS, rejected=refused)

    assert {late} == set(renewed) != {refused}
    assert requests(provider) == 2


def oauth_error(status: int, error: str) -> Failure:
    return Failure(status, json.dumps({"error": error}).encode())


NO_ANSWER = [
    pytest.param(Failure(503), id="503"),
    pytest.param(Failure(200, b"<html>Maintenance</html>"), id="a page"),
    pytest.param(oauth_error(401, "invalid_client"), id="invalid_client"),
    pytest.param(oauth_error(400, "invalid_scope"), id="invalid_scope"),
    pytest.param(oauth_error(400, "invalid_target"), id="invalid_target"),
    pytest.param(oauth_error(400, "invalid_grant"), id="invalid_grant"),
]


@pytest.mark.parametrize("answer", NO_ANSWER)
async def test_there_is_no_token_when_the_provider_answers(
    tokens: ApplicationTokens, provider: Provider, clock: Clock, answer: Failure
):
    provider.fails["token"] = answer
    with pytest.raises(TokenUnavailable):
        await tokens.get(ORDERS)

    provider.fails.clear()
    clock.advance(MINUTE)
    assert provider.is_active(await tokens.get(ORDERS))


async def test_a_token_that_is_still_valid_is_used_while_the_provider_is_down(
    tokens: ApplicationTokens, provider: Provider, clock: Clock
):
    first = await tokens.get(ORDERS)
    provider.fails["token"] = Failure(503)
    clock.advance(LIFETIME - 1)
    assert await tokens.get(ORDERS) == first

    clock.advance(1)
    with pytest.raises(TokenUnavailable):
        await tokens.get(ORDERS)


async def test_a_rejected_token_is_not_returned_although_the_provider_is_down(
    tokens: ApplicationTokens, provider: Provider
):
    refused = await tokens.get(ORDERS)
    provider.fails["token"] = Failure(503)

    with pytest.raises(TokenUnavailable):
        await tokens.get(ORDERS, rejected=refused)


async def test_retry_after_is_passed_on(tokens: ApplicationTokens, provider: Provider):
    provider.fails["token"] = Failure(429, headers={"Retry-After": "17"})

    with pytest.raises(TokenUnavailable) as caught:
        await tokens.get(ORDERS)
    assert caught.value.retry_after_seconds == 17


async def test_there_is_no_token_when_the_provider_refuses_connections(
    tokens: ApplicationTokens, provider: Provider
):
    await provider.stop()

    with pytest.raises(TokenUnavailable):
        await tokens.get(ORDERS)


async def test_a_token_never_shows_in_a_repr(tokens: ApplicationTokens):
    token = await tokens.get(ORDERS)

    assert token not in repr(tokens) + repr(vars(tokens))
