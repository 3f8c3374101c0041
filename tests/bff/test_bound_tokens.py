"""DPoP (RFC 9449) and PAR (RFC 9126) in the whole application: what is bound to a key, and what is pushed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from app.bff.errors import TokenUnavailable
from app.bff.sessions.session import LOGIN, Session, Target
from tests.bff.harness import Browser, Clock, RunningApp, new_browser, query_params, running_app, sign_in

LIFETIME = 300  # of the provider's access tokens, in seconds
MINUTE = 60  # longer than any pause
ORDERS = "https://orders.example"


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    clients = {
        "apiClient": {"base_url": api.base_url, "token": "user"},
        "exchanged": {"base_url": api.base_url, "token": "exchange", "audience": ORDERS},
        "ours": {"base_url": api.base_url, "token": "client"},
    }
    async with running_app(provider, api, clock=clock, dpop=True, par=True, http_clients=clients) as app:
        yield app


async def key_of(app: RunningApp, provider: Provider, session: Session, target: Target = LOGIN) -> str | None:
    """The key that the session's token is bound to at the provider."""
    record = provider.access_token(await app.services.tokens.get(session, target=target))
    assert record
    return record.jkt


# Tokens


async def test_every_session_has_a_key_of_its_own(app: RunningApp, session: Session, provider: Provider):
    async with new_browser(app) as browser:
        other = await sign_in(app, browser)
        ours, theirs = await key_of(app, provider, session), await key_of(app, provider, other)

    assert ours
    assert theirs
    assert ours != theirs


async def test_the_key_stays_the_same_for_all_tokens_of_the_session(
    app: RunningApp, session: Session, provider: Provider, clock: Clock
):
    targets = [Target(resource=ORDERS), Target(audience=ORDERS, exchanged=True), LOGIN]
    keys = [await key_of(app, provider, session, target) for target in targets]
    clock.advance(LIFETIME)
    keys += [await key_of(app, provider, session, target) for target in targets]

    assert len(set(keys)) == 1


async def test_the_key_is_never_shown(session: Session):
    assert session.dpop_key
    assert session.dpop_key["d"] not in repr(session)


async def test_a_token_that_is_not_bound_is_refused_at_login(
    app: RunningApp, browser: Browser, provider: Provider
):
    provider.overrides["token"] = {"token_type": "Bearer"}
    response = await browser.get(await browser.choose(await browser.start_login()))

    assert response.status_code == 503
    assert await app.session_of(browser) is None


async def test_a_token_that_is_not_bound_is_refused_at_a_refresh_and_the_session_stays(
    app: RunningApp, session: Session, provider: Provider, clock: Clock
):
    provider.rotates = False
    provider.overrides["token"] = {"token_type": "Bearer"}
    clock.advance(LIFETIME)
    with pytest.raises(TokenUnavailable):
        await app.services.tokens.get(session)

    provider.overrides.clear()
    assert await key_of(app, provider, session)


async def test_a_session_from_before_dpop_keeps_its_tokens(
    provider: Provider, api: DemoApi, clock: Clock, app: RunningApp
):
    async with running_app(provider, api, clock=clock) as before, new_browser(before) as browser:
        session = await sign_in(before, browser)
    await app.services.sessions.create(session)
    clock.advance(LIFETIME)

    assert await key_of(app, provider, session) is None


# APIs


@pytest.mark.parametrize("name", ["apiClient", "exchanged", "ours"])
@pytest.mark.parametrize("nonce", [None, "newest"])
async def test_a_named_client_proves_its_key(
    app: RunningApp, session: Session, api: DemoApi, name: str, nonce: str | None
):
    api.dpop_nonce = nonce
    for _ in range(2):
        async with app.services.clients.create(name, session).post("echo?a=b", data=b"body") as response:
            assert response.status == 200

    assert api.counts["echo"] == (2 if nonce is None else 3)  # a challenge once, then the cached nonce


async def test_a_remote_api_gets_a_proof_of_the_session_and_not_of_the_browser(
    browser: Browser, session: Session, api: DemoApi
):
    response = await browser.fetch("/api/echo", headers={"DPoP": "of the browser"})
    headers = [(name.lower(), value) for name, value in api.last_request.headers]

    assert response.status_code == 200
    assert [name for name, _ in headers].count("dpop") == 1
    assert ("dpop", "of the browser") not in headers


async def test_a_nonce_of_the_api_is_not_passed_to_the_browser(
    browser: Browser, session: Session, api: DemoApi
):
    api.dpop_nonce = "newest"

    assert "DPoP-Nonce" not in (await browser.fetch("/api/echo")).headers


async def test_a_streamed_body_is_not_sent_twice_for_a_nonce(app: RunningApp, session: Session, api: DemoApi):
    async def chunks() -> AsyncIterator[bytes]:
        yield b"once"

    api.dpop_nonce = "newest"
    async with app.services.clients.create("apiClient", session).post("echo", data=chunks()) as response:
        assert response.status == 401
    assert api.counts["echo"] == 1


async def test_a_rejected_token_is_renewed_once_with_the_same_key(
    app: RunningApp, session: Session, api: DemoApi
):
    api.rejects.add(session.tokens.access_token)
    async with app.services.clients.create("apiClient", session).get("echo") as response:
        assert response.status == 200


async def test_a_redirect_to_elsewhere_takes_no_proof_along(
    app: RunningApp, session: Session, api: DemoApi, provider: Provider
):
    elsewhere = DemoApi(provider)
    await elsewhere.start()
    target = f"redirect?to=http://localhost:{elsewhere.port}/api/echo"
    async with app.services.clients.create("apiClient", session).get(target) as response:
        assert response.status == 401
    await elsewhere.stop()

    assert {name.lower() for name, _ in elsewhere.last_request.headers} & {"authorization", "dpop"} == set()


# The provider's own nonces


async def test_the_providers_nonce_is_sent_from_then_on(
    app: RunningApp, browser: Browser, provider: Provider, clock: Clock
):
    provider.dpop_nonce = "first"
    session = await sign_in(app, browser)
    provider.dpop_nonce = "second"
    clock.advance(LIFETIME)
    await app.services.tokens.get(session)

    assert provider.counts["token:authorization_code"] == 1  # the nonce came with the response of /par
    assert provider.counts["token:refresh_token"] == 2
    assert provider.is_active((await app.session_of(browser)).tokens.refresh_token)


async def test_the_nonces_of_tokens_and_of_userinfo_do_not_displace_each_other(
    browser: Browser, provider: Provider
):
    provider.dpop_nonce, provider.userinfo_nonce = "for tokens", "for userinfo"
    for _ in range(3):
        await browser.login()

    assert provider.counts["token:authorization_code"] == 3
    assert provider.counts["userinfo"] == 3 + 1  # the first one told the nonce


# Pushed authorization requests


async def test_the_browser_carries_a_request_uri_and_nothing_else(browser: Browser, provider: Provider):
    out = query_params(await browser.start_login("/account"))

    assert set(out) == {"client_id", "request_uri"}
    assert provider.last_request["par"]["code_challenge_method"] == "S256"
    assert provider.last_request["par"]["dpop_jkt"]


async def test_each_login_pushes_a_request_of_its_own(browser: Browser, provider: Provider):
    first, second = query_params(await browser.start_login()), query_params(await browser.start_login())

    assert first["request_uri"] != second["request_uri"]


async def test_a_provider_that_requires_par_gets_it_whatever_the_setting(
    provider: Provider, api: DemoApi, clock: Clock
):
    provider.requires_par = True
    async with running_app(provider, api, clock=clock) as app, new_browser(app) as browser:
        await browser.login()

    assert provider.counts["par"] == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Failure(503, headers={"Retry-After": "7"}), id="503"),
        pytest.param(Failure(201, b"<html>"), id="a page"),
        pytest.param(Failure(201, b'{"request_uri": 7}'), id="no reference"),
        pytest.param(Failure(400, b'{"error": "invalid_request"}'), id="a refusal"),
    ],
)
async def test_a_login_cannot_start_when_the_provider_answers(
    browser: Browser, provider: Provider, answer: Failure
):
    provider.fails["par"] = answer
    response = await browser.get("/bff/login")

    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) in (5, 7)


async def test_par_without_an_endpoint_is_logged_as_an_error(
    provider: Provider, api: DemoApi, clock: Clock, caplog: pytest.LogCaptureFixture
):
    provider.overrides["metadata"] = {"pushed_authorization_request_endpoint": None}
    async with running_app(provider, api, clock=clock, par=True) as app, new_browser(app) as browser:
        assert (await browser.get("/bff/login")).status_code == 503

    assert "check BFF_PAR" in caplog.text
