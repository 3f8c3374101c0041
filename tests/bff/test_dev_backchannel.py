"""The development provider tells its clients when a session there has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from joserfc import jwt
from tornado.httputil import HTTPServerRequest

from app.bff.dev.environment import dev_client
from app.bff.dev.provider import Client, Provider
from app.bff.dev.realm import LOGOUT_EVENT
from app.bff.dev.server import Answer, Endpoint, Failure, LocalServer, params
from tests.bff.harness import Clock
from tests.bff.provider_harness import APP, CALLBACK, Browser, browser_at


class Listener(LocalServer):
    """A client that hears logout tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def routes(self) -> list[Any]:
        return [("/", Endpoint, {"server": self, "name": "logout", "work": self._hear, "methods": ("POST",)})]

    def _hear(self, request: HTTPServerRequest) -> Answer:
        self.heard.append(params(request.body_arguments)["logout_token"])
        return Answer()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listener = Listener()
    await listener.start()
    yield listener
    await listener.stop()


@pytest.fixture
async def browser(provider: Provider, listener: Listener) -> AsyncIterator[Browser]:
    async with browser_at(provider) as browser:
        provider.clients[APP.client_id] = replace(APP, backchannel_logout_uri=listener.url)
        yield browser


async def sign_out(provider: Provider, browser: Browser) -> None:
    await browser.http.get("/logout")
    await provider.backchannel.settle()


async def test_it_says_that_it_does(browser: Browser) -> None:
    metadata = (await browser.http.get("/.well-known/openid-configuration")).json()

    assert metadata["backchannel_logout_supported"] is True
    assert metadata["backchannel_logout_session_supported"] is True


async def test_signing_out_there_sends_a_logout_token(
    provider: Provider, browser: Browser, listener: Listener, clock: Clock
) -> None:
    tokens = await browser.tokens()
    keys = await browser.keys()
    sid = jwt.decode(tokens["id_token"], keys).claims["sid"]
    await sign_out(provider, browser)

    [heard] = listener.heard
    token = jwt.decode(heard, keys)
    assert token.header["typ"] == "logout+jwt"
    assert len(token.claims.pop("jti")) == 16
    now = int(clock())
    assert token.claims == {
        "iss": provider.issuer,
        "aud": "app",
        "iat": now,
        "exp": now + 120,
        "events": {LOGOUT_EVENT: {}},
        "sub": "alice",
        "sid": sid,
    }
    assert provider.backchannel.answers == [("app", 200)]


async def test_every_client_of_the_session_is_notified_and_no_other(
    provider: Provider, browser: Browser, listener: Listener
) -> None:
    for client_id in ("second", "third"):
        provider.clients[client_id] = Client(client_id, "secret", (CALLBACK,), (), listener.url)
    provider.clients["deaf"] = Client("deaf", "secret", (CALLBACK,))
    await browser.sign_in("bob", client_id="third")
    await browser.tokens()  # as alice
    for client_id in ("second", "deaf"):
        await browser.authorize(client_id=client_id)
    await sign_out(provider, browser)

    assert sorted(provider.backchannel.answers) == [("app", 200), ("second", 200)]


async def test_who_has_not_signed_in_ends_nothing_by_signing_out(
    provider: Provider, browser: Browser, listener: Listener
) -> None:
    await sign_out(provider, browser)

    assert listener.heard == []


async def test_an_administrator_ends_all_sessions_of_a_user(
    provider: Provider, browser: Browser, listener: Listener
) -> None:
    await browser.tokens()
    async with browser_at(provider) as other:
        provider.clients[APP.client_id] = replace(APP, backchannel_logout_uri=listener.url)
        await other.sign_in("bob")
        await provider.end_sessions("alice")

        assert len(listener.heard) == 1
        assert (await browser.authorize()).status_code == 200
        assert (await other.authorize()).status_code == 303


async def test_a_client_that_refuses_or_is_not_there_is_in_nobodys_way(
    provider: Provider, browser: Browser, listener: Listener
) -> None:
    listener.fails["logout"] = Failure(503)
    await browser.tokens()
    await sign_out(provider, browser)
    await browser.tokens()
    await listener.stop()
    await sign_out(provider, browser)

    assert provider.backchannel.answers == [("app", 503)]


async def test_a_test_can_have_a_logout_token_and_lie_in_it(provider: Provider, browser: Browser) -> None:
    provider.overrides["logout_token"] = {"jti": None, "events": {"urn:other": {}}}
    provider.overrides["logout_token_header"] = {"typ": "at+jwt"}
    token = jwt.decode(provider.logout_token("app", sid="sid-1"), await browser.keys())

    assert token.header["typ"] == "at+jwt"
    assert (token.claims["sid"], token.claims["events"]) == ("sid-1", {"urn:other": {}})
    assert not {"sub", "jti"} & set(token.claims)


def test_the_application_in_development_is_notified_too() -> None:
    base_url = {"BFF_BASE_URL": "http://localhost:9000"}

    assert dev_client(base_url).backchannel_logout_uri == "http://localhost:9000/bff/backchannel"
