"""Userinfo: as JSON or as a signed JWT, refused, in a form that cannot be used, or not called at all."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.grants import Grant
from app.bff.dev.provider import Failure, Provider
from app.bff.errors import ProviderUnavailable
from app.bff.oidc.responses import EndpointResponse, parse_userinfo_response
from tests.bff.harness import CLIENT_ID, Browser, Clock, RunningApp, new_browser, running_app

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"


def received(status: int, body: bytes, document: dict[str, Any] | None = None) -> EndpointResponse:
    return EndpointResponse(status, {}, document, sent_at=0, received_at=0, body=body)


@pytest.mark.parametrize(
    ("response", "claims"),
    [
        pytest.param(received(200, b"{}", {"sub": "alice"}), {"sub": "alice"}, id="JSON"),
        pytest.param(received(200, b"{}", {"sub": "a", "error": 1}), {"sub": "a", "error": 1}, id="a claim"),
        pytest.param(received(200, JWT.encode()), JWT, id="a JWT"),
        pytest.param(received(200, f"{JWT}.e30.e30".encode()), None, id="encrypted"),
        pytest.param(received(200, b"<html>"), None, id="a page"),
        pytest.param(received(200, b""), None, id="nothing"),
        pytest.param(received(200, b"\xff"), None, id="bytes"),
        pytest.param(received(200, b"{}", {"error": "invalid_token"}), None, id="an error with 200"),
        pytest.param(received(204, b""), None, id="no content"),
        pytest.param(received(302, b""), None, id="a redirect"),
        *(
            pytest.param(received(status, b"{}", {"sub": "alice"}), None, id=str(status))
            for status in (400, 401, 403, 404, 405, 406, 410)
        ),
    ],
)
def test_userinfo_is_read_from(response, claims):
    assert parse_userinfo_response(response) == claims


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_an_outage_is_no_refusal(status):
    with pytest.raises(ProviderUnavailable):
        parse_userinfo_response(received(status, b"{}", {"sub": "alice"}))


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    async with running_app(provider, api, clock=clock) as app:
        yield app


def answers(provider: Provider, status: int, body: bytes, media_type: str) -> None:
    provider.fails["userinfo"] = Failure(status, body, {"Content-Type": media_type})


def signed(provider: Provider, **claims: object) -> bytes:
    """The claims as a JWT of the provider, which sends it with userinfo from now on."""
    provider.overrides["id_token"] = {"nickname": "Al", **claims}
    token = provider.issue_id_token(Grant(CLIENT_ID, sub="alice", scope="openid", sid="s"), "at-1", None)
    provider.overrides.clear()
    answers(provider, 200, token.encode(), "application/jwt")
    return token.encode()


async def callback(browser: Browser) -> int:
    return (await browser.get(await browser.choose(await browser.start_login()))).status_code


async def claims_of(app: RunningApp, browser: Browser) -> dict[str, Any]:
    session = await app.session_of(browser)
    assert session
    return dict(session.claims)


async def test_a_signed_jwt_is_verified_and_its_claims_are_used(
    app: RunningApp, browser: Browser, provider: Provider
):
    signed(provider)

    assert await callback(browser) == 200
    assert (await claims_of(app, browser))["nickname"] == "Al"


async def test_a_signed_jwt_need_not_name_issuer_client_and_times(
    app: RunningApp, browser: Browser, provider: Provider
):
    signed(provider, iss=None, aud=None, exp=None, iat=None)

    assert await callback(browser) == 200
    assert (await claims_of(app, browser))["nickname"] == "Al"


@pytest.mark.parametrize(
    "claims",
    [{"sub": "bob"}, {"sub": None}, {"iss": "https://other.example"}, {"aud": "other"}, {"exp": 1}],
    ids=str,
)
async def test_a_signed_jwt_is_refused_that_has(
    claims: dict[str, object], app: RunningApp, browser: Browser, provider: Provider
):
    signed(provider, **claims)

    assert await callback(browser) == 400
    assert await app.session_of(browser) is None


@pytest.mark.parametrize("switch", [{"signs_with_unpublished_key": True}, {"signing_alg": "none"}], ids=str)
async def test_a_jwt_is_refused_that_no_published_key_has_signed(
    switch: dict[str, object], app: RunningApp, browser: Browser, provider: Provider
):
    for name, value in switch.items():
        setattr(provider, name, value)
    token = signed(provider)
    if token.endswith(b"."):
        answers(provider, 200, token + b"AA", "application/jwt")
    provider.signs_with_unpublished_key, provider.signing_alg = False, "RS256"

    assert await callback(browser) == 400
    assert await app.session_of(browser) is None


@pytest.mark.parametrize(
    ("status", "body", "media_type"),
    [
        pytest.param(401, b'{"error": "invalid_token"}', "application/json", id="the token is for an API"),
        pytest.param(403, b"", "text/plain", id="forbidden"),
        pytest.param(404, b"<html>", "text/html", id="not there"),
        pytest.param(200, b"<html>", "text/html", id="a page"),
        pytest.param(200, JWT.encode() + b".e30.e30", "application/jwt", id="encrypted"),
    ],
)
async def test_where_it_cannot_be_used_that_is_logged_and_the_id_token_is_enough(
    status: int,
    body: bytes,
    media_type: str,
    app: RunningApp,
    browser: Browser,
    provider: Provider,
    caplog: pytest.LogCaptureFixture,
):
    answers(provider, status, body, media_type)

    with caplog.at_level(logging.WARNING):
        assert await callback(browser) == 200
    assert (await claims_of(app, browser))["sub"] == "alice"
    [record] = [each for each in caplog.records if each.getMessage().startswith("userinfo not used")]
    assert record.__dict__["status"] == status


@pytest.mark.parametrize("status", [429, 503])
async def test_during_an_outage_of_it_nobody_signs_in_with_half_of_the_claims(
    status: int, browser: Browser, provider: Provider
):
    provider.fails["userinfo"] = Failure(status)

    assert await callback(browser) == 503


async def test_with_the_setting_it_is_never_called(provider: Provider, api: DemoApi, clock: Clock):
    provider.overrides["userinfo"] = {"nickname": "Al"}
    async with running_app(provider, api, clock=clock, userinfo=False) as app, new_browser(app) as browser:
        assert await callback(browser) == 200

        assert provider.counts["userinfo"] == 0
        assert "nickname" not in await claims_of(app, browser)
