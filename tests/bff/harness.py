"""The parts that tests are made of: a clock that is moved by hand, the application, a browser."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http.cookies import Morsel, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from tornado.netutil import bind_sockets

from app.bff.dev.api import DemoApi, ReceivedRequest
from app.bff.dev.provider import Client, Provider
from app.bff.hooks import Hooks
from app.bff.oidc.client import OidcClient
from app.bff.server import Routes, make_app
from app.bff.services import running_services
from app.bff.sessions.interfaces import SessionStore
from app.bff.sessions.session import Session
from app.bff.settings.load import BffSettings
from app.bff.testing import Clock, browsers
from app.bff.testing.application import RunningApp, served
from app.bff.testing.browsers import FETCH_HEADERS as FETCH_HEADERS
from app.bff.testing.browsers import NAVIGATION_HEADERS
from app.bff.tokens.revocation import Revocation
from app.bff.tokens.user import UserTokens
from tests.bff.application.main import ROUTES
from tests.bff.application.settings import Settings

DEMO_API_URL = "http://127.0.0.1:8890/api/"  # of clients in code
CLIENT_ID, CLIENT_SECRET = "app", "s:e%c+r e&t"
KEY = os.urandom(32)


def make_settings(settings_class: type[BffSettings] = Settings, **changed: Any) -> BffSettings:
    """Settings that are right, but for what a test changes; the environment does not matter."""
    right = {
        "base_url": "http://localhost:8888",
        "issuer": "http://127.0.0.1:1",
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "encryption_keys": [KEY],
        "session_store": "memory:",
    }
    return settings_class(_env_file=None, **{**right, **changed})


@asynccontextmanager
async def running_app(
    provider: Provider,
    api: DemoApi,
    *,
    clock: Clock,
    settings_class: type[BffSettings] = Settings,
    routes: Routes = ROUTES,
    hooks: Hooks | None = None,
    state: Any = None,
    **settings: Any,
) -> AsyncIterator[RunningApp]:
    """The suite's application; with other routes and settings, another one on the same engine."""
    [socket] = bind_sockets(0, "127.0.0.1")
    base_url = f"http://localhost:{socket.getsockname()[1]}"
    provider.clients[CLIENT_ID] = Client(
        CLIENT_ID, CLIENT_SECRET, (f"{base_url}/bff/callback",), (f"{base_url}/bff/logout/callback",)
    )
    chosen = {
        "base_url": base_url,
        "issuer": provider.issuer,
        "http_clients": {
            "apiClient": {"base_url": api.base_url, "token": "user"},
            **{
                name: {"base_url": client.base_url.replace(DEMO_API_URL, api.base_url), "token": client.token}
                for name, client in settings_class.default_http_clients.items()
                if client.base_url.startswith(DEMO_API_URL)
            },
        },
        "remote_apis": [{"path": "/api", "client": "apiClient"}],
        **settings,
    }
    chosen_settings = make_settings(settings_class, **chosen)
    async with running_services(chosen_settings, hooks=hooks, clock=clock) as services:
        tornado = make_app(services, routes, state)
        async with served(tornado, socket):
            yield RunningApp(base_url, routes, services, tornado)


def user_tokens_of_another_process(
    app: RunningApp, clock: Clock, *, sessions: SessionStore | None = None, oidc: OidcClient | None = None
) -> UserTokens:
    """What a process of its own would have; `sessions` and `oidc` are the application's if not given."""
    asks = oidc or app.services.oidc
    store = sessions or app.services.sessions
    revocation = Revocation(asks, app.services.outbox, store, on_end=True, clock=clock)
    return UserTokens(store, asks, revocation, margin_seconds=60, lease_seconds=30, clock=clock)


class Browser(browsers.Browser):
    """The plugin's, with each step of a login, and with navigations that another site starts."""

    def __init__(self, app: RunningApp) -> None:
        super().__init__(app.base_url)
        self.app = app

    async def start_login(self, return_url: str = "/", **params: str) -> str:
        """Follow the way out; return the provider's URL that the browser is sent to."""
        response = await self.http.get(
            "/bff/login", params={"returnUrl": return_url, **params}, headers=NAVIGATION_HEADERS
        )
        assert response.status_code == 302, response.text
        return response.headers["Location"]

    async def choose(self, authorize_url: str, user: str = "alice") -> str:
        """Choose a user on the provider's page; return the callback URL that the provider sends us to."""
        response = await self.http.get(authorize_url)
        if response.status_code == 200:
            response = await self.http.post(authorize_url, data={"sub": user})
        return response.headers["Location"]

    async def login(self, user: str = "alice", return_url: str = "/") -> httpx2.Response:
        """Sign in from end to end; return what the callback answered."""
        response = await self.get(await self.choose(await self.start_login(return_url), user))
        assert response.status_code == 200, response.text
        return response

    async def logout_url(self) -> str:
        claims = {entry["type"]: entry["value"] for entry in (await self.fetch("/bff/user")).json()}
        return str(claims["bff:logout_url"])

    async def navigate_from_other_site(
        self, url: str, *, dest: str = "document", **options: Any
    ) -> httpx2.Response:
        """Navigate from another site: `SameSite=Strict` cookies do not come along."""
        left_at_home = [
            cookie for cookie in self.http.cookies.jar if cookie.get_nonstandard_attr("SameSite") == "Strict"
        ]
        for cookie in left_at_home:
            self.http.cookies.jar.clear(cookie.domain, cookie.path, cookie.name)
        response = await self.http.get(
            url,
            headers={**NAVIGATION_HEADERS, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": dest},
            **options,
        )
        for cookie in left_at_home:
            if cookie.name not in self.cookie_names():
                self.http.cookies.jar.set_cookie(cookie)
        return response

    def delete_cookie(self, name: str) -> None:
        for cookie in [cookie for cookie in self.http.cookies.jar if cookie.name == name]:
            self.http.cookies.jar.clear(cookie.domain, cookie.path, cookie.name)

    def cookie_names(self) -> set[str]:
        return {cookie.name for cookie in self.http.cookies.jar}


def new_session_id() -> str:
    return secrets.token_urlsafe(32)


def query_params(url: str) -> dict[str, str]:
    """The query parameters of a URL."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def refresh_target(page: str) -> str:
    """Where the tiny page that moves on leads."""
    found = re.search(r'http-equiv="refresh" content="0; url=([^"]*)"', page)
    assert found, page
    return found[1].replace("&amp;", "&")


@asynccontextmanager
async def new_browser(app: RunningApp) -> AsyncIterator[Browser]:
    browser = Browser(app)
    yield browser
    await browser.http.aclose()


async def sign_in(app: RunningApp, browser: Browser) -> Session:
    """Sign alice in, and return the session that she has now."""
    await browser.login("alice")
    session = await app.session_of(browser)
    assert session is not None
    return session


def last_request(api: DemoApi) -> ReceivedRequest:
    assert api.last_request
    return api.last_request


def last_request_headers(api: DemoApi) -> dict[str, str]:
    return {name.lower(): value for name, value in last_request(api).headers}


async def access_token_of(browser: Browser) -> str:
    session = await browser.app.session_of(browser)
    assert session
    return session.tokens.access_token


def response_cookies(response: httpx2.Response) -> dict[str, Morsel[str]]:
    """The cookies in `Set-Cookie`, with their attributes."""
    cookies: dict[str, Morsel[str]] = {}
    for line in response.headers.get_list("Set-Cookie"):
        cookies.update(SimpleCookie(line))
    return cookies


def raw_target(target: str) -> dict[str, Any]:
    """The option that sends a request target as it stands: an HTTP client would tidy up `..` and `//`."""
    return {"extensions": {"target": target.encode("latin-1")}}


async def wait_until(happens: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not happens():  # noqa: ASYNC110  yields to the servers, waits for no time to pass
            await asyncio.sleep(0)
