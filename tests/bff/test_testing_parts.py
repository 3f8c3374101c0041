"""The parts of `app.bff.testing`: the stand-in for APIs, and the browser."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from app.bff import BaseHandler, BffSettings, HttpClientSettings, RemoteApiSettings, url
from app.bff.dev.provider import Provider
from app.bff.testing import ApplicationParts, Browser, Clock, RunningApp, StandInApi, running_app
from app.bff.testing.example_paths import example_path

NAMES = ("orders", "stock")


class Settings(BffSettings):
    default_http_clients = {
        name: HttpClientSettings(base_url=f"https://{name}.example/v1", token="user") for name in NAMES
    }
    default_remote_apis = [RemoteApiSettings(path=f"/{name}", client=name) for name in NAMES]


class Form(BaseHandler):
    def get(self) -> None:
        self.write("<form method=post><input name=title></form>")

    def post(self) -> None:
        self.redirect(f"/?title={self.get_body_argument('title')}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def api(provider: Provider) -> AsyncIterator[StandInApi]:
    api = StandInApi(provider)
    await api.start()
    yield api
    await api.stop()


@pytest.fixture
async def app(provider: Provider, api: StandInApi, clock: Clock) -> AsyncIterator[RunningApp]:
    parts = ApplicationParts(Settings, [url("/form", Form)])
    async with running_app(parts, provider, api, clock=clock) as app:
        yield app


@pytest.fixture
async def browser(app: RunningApp) -> AsyncIterator[Browser]:
    async with Browser(app.base_url) as browser:
        yield browser


@pytest.fixture
async def alice(browser: Browser) -> Browser:
    await browser.login("alice")
    return browser


async def test_an_answer_is_for_one_client_or_for_all(alice: Browser, api: StandInApi):
    api.answers("GET", "list", json="any")
    api.answers("get", "/list/", text="stock's", client="stock", headers={"X-Page": "1"})
    orders, stock = await alice.fetch("/orders/list"), await alice.fetch("/stock/list")

    assert orders.json() == "any"
    assert stock.text == "stock's"
    assert [request.client for request in api.requests] == ["orders", "stock"]


async def test_a_later_answer_replaces_an_earlier_one(alice: Browser, api: StandInApi):
    api.answers("DELETE", "17", json={})
    api.answers("DELETE", "17", status=204)

    assert (await alice.fetch("/orders/17", "DELETE")).status_code == 204


async def test_a_request_is_recorded_with_its_user_query_and_body(alice: Browser, api: StandInApi):
    api.answers("POST", "new", json={}, status=201)
    await alice.fetch("/orders/new?gift=yes", "POST", json={"title": "Tea"})
    [request] = api.requests

    assert (request.method, request.path, request.query) == ("POST", "new", {"gift": "yes"})
    assert (request.user, request.json) == ("alice", {"title": "Tea"})
    assert "Authorization" in request.headers
    assert "Bearer" not in repr(request)


async def test_an_access_token_that_is_no_longer_valid_is_refused(
    alice: Browser, api: StandInApi, provider: Provider, app: RunningApp
):
    api.answers("GET", "list", json=[])
    session = await app.session_of(alice)
    assert session
    token = provider.access_token(session.tokens.access_token)
    assert token
    token.revoked = True

    assert (await alice.fetch("/orders/list")).json() == []
    assert [request.user for request in api.requests] == [None, "alice"]


async def test_a_stand_in_that_is_down_is_an_api_that_cannot_be_reached(alice: Browser, api: StandInApi):
    await api.stop()

    assert (await alice.fetch("/orders/list")).status_code == 502


async def test_a_form_is_submitted_as_by_its_page(browser: Browser):
    response = await browser.submit("/form", title="Tea")

    assert (response.status_code, response.headers["Location"]) == (302, "/?title=Tea")


async def test_a_browser_signs_in_and_out(browser: Browser, app: RunningApp):
    await browser.login("bob", return_url="/form")
    session = await app.session_of(browser)
    response = await browser.logout()

    assert session
    assert session.subject == "bob"
    assert response.headers["Location"].startswith(app.settings.issuer)
    assert await app.session_of(browser) is None


async def test_a_login_that_fails_says_where(browser: Browser, provider: Provider):
    provider.overrides["callback"] = {"error": "access_denied", "code": None}

    with pytest.raises(AssertionError, match="the login callback answered 4"):
        await browser.login()


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/", "/"),
        (r"/orders/(\d+)", "/orders/1"),
        ("/app(?:/.*)?", "/app/1"),
        (r"/files/(?P<name>[a-z]+\.txt)", "/files/a.txt"),
        (r"/(de|en)/([^/]+)/([0-9a-f]{8})", "/de/1/00000000"),
        (r"/days/(\d{4}-\d\d-\d\d)", "/days/1111-11-11"),
        (r"/words/([^\d/]+)", "/words/x"),
        (r"/(?!admin)(\w+)", "/1"),
        (r"/(\w+)-(?P<again>x)(?P=again)", None),
    ],
)
def test_a_path_that_a_pattern_matches(pattern: str, path: str | None):
    assert example_path(re.compile(f"{pattern}$")) == path
