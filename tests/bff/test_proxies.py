"""Proxies of the environment: which requests take them, and what passes through one."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from app.bff.doctor.apis import probe_apis
from app.bff.errors import ProviderUnavailable
from app.bff.oidc.http import tls
from app.bff.oidc.metadata import Provider as OpenIdProvider
from app.bff.oidc.metadata import provider_http
from app.bff.settings.apis import HttpClientSettings
from app.bff.settings.proxies import Proxies
from tests.bff.harness import Clock, RunningApp, new_browser, running_app, sign_in
from tests.bff.network import ForwardProxy, forward_proxy
from tests.bff.websocket_clients import open_websocket

PROXY = "http://proxy.test:3128"
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without proxies, which a test may set."""
    for name in (*NAMES, *map(str.lower, NAMES)):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("url", "no_proxy", "takes"),
    [
        ("https://login.example.com/token", "", True),
        ("http://login.example.com/token", "", True),
        ("wss://api.example.com/socket", "", True),
        ("ftp://api.example.com/", "", False),
        # Loopback never takes a proxy.
        ("http://localhost:8080/", "", False),
        ("http://app.localhost/", "", False),
        ("http://127.0.0.1:9000/", "", False),
        ("https://127.8.9.10/", "", False),
        ("http://[::1]:9000/", "", False),
        # NO_PROXY: names with all below them, ports, addresses, networks, everything.
        ("https://login.example.com/", "login.example.com", False),
        ("https://LOGIN.example.com/", "login.EXAMPLE.com", False),
        ("https://login.example.com/", ".example.com", False),
        ("https://login.example.com/", "example.com", False),
        ("https://example.com/", ".example.com", False),
        ("https://notexample.com/", "example.com", True),
        ("https://login.example.com/", "other.test, login.example.com", False),
        ("https://login.example.com/", "other.test login.example.com", False),
        ("https://login.example.com:8443/", "login.example.com:8443", False),
        ("https://login.example.com:8443/", "login.example.com:443", True),
        ("https://login.example.com:8443/", "login.example.com", False),
        ("https://10.1.2.3/", "10.1.2.3", False),
        ("https://10.1.2.3:8443/", "10.0.0.0/8", False),
        ("https://11.1.2.3/", "10.0.0.0/8", True),
        ("https://[fd00::7]/", "fd00::/8", False),
        ("https://login.example.com/", "*", False),
        ("https://login.example.com/", "", True),
    ],
)
def test_a_request_takes_the_proxy_unless_it_is_for_loopback_or_listed(url: str, no_proxy: str, takes: bool):
    assert Proxies({"http": PROXY, "https": PROXY}, no_proxy).of(url) == (PROXY if takes else None)


def test_each_scheme_has_its_proxy_and_lower_case_comes_first(environment: pytest.MonkeyPatch):
    environment.setenv("HTTP_PROXY", "http://upper.test:1")
    environment.setenv("http_proxy", "lower.test:2")
    environment.setenv("HTTPS_PROXY", "https://user:secret@secure.test:3")
    proxies = Proxies.of_environment()

    assert proxies.of("http://api.test/") == "http://lower.test:2"
    assert proxies.of("https://api.test/") == "https://user:secret@secure.test:3"
    assert "secret" not in repr(proxies)


@pytest.mark.parametrize("proxy", ["socks5://user:hunter2@proxy:1080", "http://", "http://proxy:port", "://"])
def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(
    environment: pytest.MonkeyPatch, proxy: str
):
    environment.setenv("HTTPS_PROXY", proxy)

    with pytest.raises(ValueError, match=r"^HTTPS_PROXY: must be the http\(s\) URL of a proxy") as refusal:
        Proxies.of_environment()
    assert "hunter2" not in str(refusal.value)


# With a real proxy


@pytest.fixture
async def proxy(
    environment: pytest.MonkeyPatch, provider: Provider, api: DemoApi
) -> AsyncIterator[ForwardProxy]:
    """Knows `login.test` and `api.test`, which no DNS does."""
    async with forward_proxy({"login.test:80": provider.port, "api.test:80": api.port}) as proxy:
        environment.setenv("HTTP_PROXY", proxy.url.replace("//", "//user:p%40ss@"))
        environment.setenv("HTTPS_PROXY", proxy.url)
        yield proxy


@pytest.fixture
async def app(
    proxy: ForwardProxy, provider: Provider, api: DemoApi, clock: Clock
) -> AsyncIterator[RunningApp]:
    """Reaches its API through the proxy, and the provider, on loopback, without."""
    clients = {"apiClient": {"base_url": "http://api.test/api/", "token": "user_or_none"}}
    async with running_app(provider, api, clock=clock, http_clients=clients) as app:
        yield app


async def test_calls_of_an_api_go_through_the_proxy_with_its_password(app: RunningApp, proxy: ForwardProxy):
    async with new_browser(app) as browser:
        session = await sign_in(app, browser)
        forwarded = await browser.fetch("/api/echo?x=1")
        async with app.services.clients.create("apiClient", session).get("todos") as response:
            assert response.status == 200

    assert forwarded.status_code == 200
    assert proxy.requests == [
        "GET http://api.test/api/echo?x=1 HTTP/1.1",
        "GET http://api.test/api/todos HTTP/1.1",
    ]
    expected = f"basic {base64.b64encode(b'user:p@ss').decode()}".lower()
    assert set(proxy.passwords) == {expected}


async def test_a_websocket_goes_through_the_proxy(app: RunningApp, proxy: ForwardProxy):
    async with new_browser(app) as browser:
        await sign_in(app, browser)
        async with open_websocket(browser, "/api/socket") as socket:
            await socket.send_str("hello")
            assert await socket.receive_str(timeout=10)

    assert proxy.requests == ["GET http://api.test/api/socket HTTP/1.1"]


async def test_loopback_is_reached_without_the_proxy(
    proxy: ForwardProxy, provider: Provider, api: DemoApi, clock: Clock
):
    async with running_app(provider, api, clock=clock) as app, new_browser(app) as browser:
        await sign_in(app, browser)
        assert (await browser.fetch("/api/echo")).status_code == 200

    assert proxy.requests == []


async def test_a_redirect_to_loopback_leaves_the_proxy(
    app: RunningApp, proxy: ForwardProxy, api: DemoApi, provider: Provider
):
    api.fails["todos"] = Failure(302, headers={"Location": f"{provider.issuer}/jwks"})
    async with app.services.clients.create("apiClient", None).get("todos") as response:
        assert "keys" in await response.json()

    assert proxy.requests == ["GET http://api.test/api/todos HTTP/1.1"]


async def test_a_proxy_that_refuses_is_named(app: RunningApp, proxy: ForwardProxy):
    proxy.refuses = "407 Proxy Authentication Required"
    client = HttpClientSettings(base_url="https://api.test/")
    async with new_browser(app) as browser:
        await sign_in(app, browser)
        response = await browser.fetch("/api/echo")

    assert response.status_code == 407
    assert await probe_apis({"api": client}) == {"api": "through the proxy: the proxy answered 407"}


async def test_a_proxy_that_is_down_is_named(
    environment: pytest.MonkeyPatch, provider: Provider, api: DemoApi
):
    environment.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    clients = {"apiClient": {"base_url": "http://api.test/", "token": "none"}}
    async with (
        running_app(provider, api, clock=Clock(), http_clients=clients) as app,
        new_browser(app) as browser,
    ):
        response = await browser.fetch("/api/echo")

    assert response.json()["detail"] == "the proxy could not be reached: connection refused"
    async with provider_http(5, tls()) as http:
        known = OpenIdProvider("http://login.test", http, timeout_seconds=5, keys_cooldown_seconds=30)
        with pytest.raises(ProviderUnavailable, match="the proxy could not be reached: connection refused"):
            await known.metadata()


async def test_metadata_comes_through_the_proxy(proxy: ForwardProxy, provider: Provider):
    provider.issuer = "http://login.test"
    async with provider_http(5, tls()) as http:
        known = OpenIdProvider(provider.issuer, http, timeout_seconds=5, keys_cooldown_seconds=30)
        assert (await known.metadata()).token_endpoint == "http://login.test/token"

    assert proxy.requests == ["GET http://login.test/.well-known/openid-configuration HTTP/1.1"]
