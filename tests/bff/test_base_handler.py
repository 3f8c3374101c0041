"""BaseHandler and ApiHandler, as a developer of an application uses them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from app.bff import errors
from app.bff.clients.registry import TypedClient
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from app.bff.errors import AppError, StoreUnavailable, TokenUnavailable
from app.bff.handlers.authenticated import authenticated
from app.bff.handlers.base import ApiHandler, BaseHandler
from tests.bff.harness import (
    Browser,
    Clock,
    RunningApp,
    new_browser,
    query_params,
    refresh_target,
    running_app,
)

NOBODY_LISTENS = "mongodb://127.0.0.1:1/bff"


# A small application


class Token(ApiHandler):
    """Shows a token, which no real application may."""

    async def get(self) -> None:
        self.write({"token": await self.get_user_access_token()})

    async def post(self) -> None:
        self.write({"token": await self.get_user_access_token(force_renewal=True)})

    async def delete(self) -> None:
        await self.revoke_user_refresh_token()


class OwnToken(ApiHandler):
    async def get(self, name: str) -> None:
        self.write({"token": await self.get_client_access_token(name)})


class EchoClient(TypedClient):
    name = "apiClient"

    async def user(self) -> str:
        async with self.api.get("echo", params={"page": 1}) as response:
            return str((await response.json())["user"])


class Typed(ApiHandler):
    async def get(self) -> None:
        self.write({"user": await self.create_client(EchoClient).user()})


class Named(BaseHandler):
    async def get(self, name: str) -> None:
        async with self.create_client(name).get("echo", raise_for_status=True) as response:
            self.write(await response.json())


class Page(BaseHandler):
    @authenticated
    async def get(self) -> None:
        self.render_page("home.html")

    @authenticated
    def post(self) -> None:
        self.write("posted")


class Public(BaseHandler):
    def get(self) -> None:
        self.write({"user": self.current_user})


class Raises(BaseHandler):
    async def get(self, name: str) -> None:
        raise RAISED[name]("because of the test")


def all_errors(parent: type[AppError] = AppError) -> Iterator[type[AppError]]:
    for child in parent.__subclasses__():
        yield child
        yield from all_errors(child)


class Busy(TokenUnavailable):
    def __init__(self, detail: str) -> None:
        super().__init__(detail, retry_after_seconds=7)


RAISED: dict[str, Any] = {error.__name__: error for error in all_errors()}
RAISED |= {"RuntimeError": RuntimeError, "TimeoutError": TimeoutError}

HANDLERS = [
    (r"/app/token", Token),
    (r"/app/own/(.*)", OwnToken),
    (r"/app/typed", Typed),
    (r"/app/named/(.*)", Named),
    (r"/app/page", Page),
    (r"/app/public", Public),
    (r"/app/raises/(.*)", Raises),
]


@pytest.fixture
async def app(app: RunningApp) -> RunningApp:
    app.tornado.add_handlers(r".*", HANDLERS)
    return app


@pytest.fixture
async def signed_in(browser: Browser) -> AsyncIterator[Browser]:
    await browser.login("alice")
    return browser


async def token_from(browser: Browser, method: str = "GET") -> str:
    response = await browser.fetch("/app/token", method)
    assert response.status_code == 200, response.text
    return str(response.json()["token"])


# The user's access token


async def test_one_call_returns_the_token_that_the_provider_gave(provider: Provider, signed_in: Browser):
    token = await token_from(signed_in)

    assert provider.access_token(token)
    assert await token_from(signed_in) == token
    assert provider.counts["token:refresh_token"] == 0


@pytest.mark.parametrize("seconds", [295, 301, 3000], ids=["about to expire", "expired", "long expired"])
async def test_a_token_is_refreshed_that_is(
    seconds: int, provider: Provider, signed_in: Browser, clock: Clock
):
    old = await token_from(signed_in)
    clock.advance(seconds)
    new = await token_from(signed_in)

    assert new != old
    assert provider.access_token(new)
    assert provider.counts["token:refresh_token"] == 1


async def test_a_renewal_can_be_forced(provider: Provider, signed_in: Browser):
    old = await token_from(signed_in)
    new = await token_from(signed_in, "POST")

    assert new != old
    assert await token_from(signed_in) == new
    assert provider.counts["token:refresh_token"] == 1


async def test_without_a_session_there_is_no_token(browser: Browser):
    response = await browser.fetch("/app/token")

    assert (response.status_code, response.json()["code"]) == (401, "no_session")


async def test_when_the_provider_is_away_a_living_token_is_used(
    provider: Provider, signed_in: Browser, clock: Clock
):
    old = await token_from(signed_in)
    await provider.stop()
    clock.advance(280)  # inside the margin, and alive

    assert await token_from(signed_in) == old


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(Failure(503, headers={"Retry-After": "7"}), id="busy"),
        pytest.param(Failure(429, headers={"Retry-After": "7"}), id="too many requests"),
        pytest.param(Failure(400, b'{"error": "slow_down"}', {"Retry-After": "7"}), id="too busy for us"),
        pytest.param(Failure(200, b"<html>", {"Retry-After": "7"}), id="talking nonsense"),
    ],
)
async def test_the_session_outlives_a_provider_that_is(
    failure: Failure, provider: Provider, signed_in: Browser, clock: Clock
):
    provider.fails["token"] = failure
    clock.advance(301)
    response = await signed_in.fetch("/app/token")
    provider.fails.clear()
    clock.advance(7)

    assert (response.status_code, response.json()["code"]) == (401, "provider_unavailable")
    assert int(response.headers["Retry-After"]) in (5, 7)
    assert "login_url" not in response.json()
    assert await token_from(signed_in)


async def test_without_a_refresh_token_the_person_must_sign_in_again(
    app: RunningApp, provider: Provider, browser: Browser, clock: Clock
):
    provider.issues_refresh_token = False
    await browser.login()
    clock.advance(301)
    response = await browser.fetch("/app/token")

    assert (response.status_code, response.json()["code"]) == (401, "reauthentication_required")
    assert response.json()["login_url"] == "/bff/login"


async def test_a_refresh_token_can_be_revoked_by_hand(provider: Provider, signed_in: Browser, clock: Clock):
    session = await signed_in.app.session_of(signed_in)
    assert session
    assert (await signed_in.fetch("/app/token", "DELETE")).status_code == 200
    clock.advance(301)
    response = await signed_in.fetch("/app/token")

    assert not provider.is_active(str(session.tokens.refresh_token))
    assert response.json()["code"] == "reauthentication_required"


async def test_a_revocation_by_hand_is_made_up_for_when_the_provider_answers_again(
    provider: Provider, signed_in: Browser, clock: Clock
):
    session = await signed_in.app.session_of(signed_in)
    provider.fails["revoke"] = Failure(503, headers={"Retry-After": "7"})
    response = await signed_in.fetch("/app/token", "DELETE")
    provider.fails.clear()
    clock.advance(7)
    await signed_in.app.services.revocation.drain_due()

    assert response.status_code == 200
    assert not provider.is_active(session.tokens.refresh_token)


# Our own token


async def test_the_client_token_belongs_to_no_user_and_is_shared(provider: Provider, browser: Browser):
    first, second = await asyncio.gather(*(browser.fetch("/app/own/apiClient") for _ in range(2)))
    record = provider.access_token(first.json()["token"])

    assert record
    assert record.sub is None
    assert second.json() == first.json()
    assert provider.counts["token:client_credentials"] == 1


@pytest.mark.parametrize("failure", [Failure(503), Failure(400, b'{"error": "invalid_grant"}')])
async def test_without_our_own_token_the_answer_is_401(
    failure: Failure, provider: Provider, browser: Browser
):
    provider.fails["token"] = failure
    response = await browser.fetch("/app/own/apiClient")

    assert (response.status_code, response.json()["code"]) == (401, "provider_unavailable")


# Clients


async def test_a_client_by_name_carries_the_token(signed_in: Browser):
    assert (await signed_in.fetch("/app/named/apiClient")).json()["user"] == "alice"


async def test_a_client_by_class_carries_the_token(api: DemoApi, signed_in: Browser):
    assert (await signed_in.fetch("/app/typed")).json() == {"user": "alice"}
    assert api.last_request
    assert api.last_request.query == "page=1"


async def test_a_client_for_a_user_sends_nothing_without_a_session(api: DemoApi, browser: Browser):
    response = await browser.fetch("/app/typed")

    assert (response.status_code, response.json()["code"]) == (401, "no_session")
    assert api.counts.total() == 0


async def test_an_unknown_client_is_a_mistake_in_the_code_and_not_shown_to_the_browser(
    signed_in: Browser,
):
    response = await signed_in.fetch("/app/named/billing")

    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "apiClient" not in response.text
    assert "billing" not in response.text


async def test_an_api_that_is_away_is_502(api: DemoApi, signed_in: Browser):
    await api.stop()
    response = await signed_in.fetch("/app/named/apiClient")

    assert (response.status_code, response.json()["code"]) == (502, "api_unreachable")


async def test_an_api_that_is_too_slow_is_504(provider: Provider, api: DemoApi, clock: Clock):
    api.holds["echo"] = asyncio.Event()
    clients = {"apiClient": {"base_url": api.base_url, "token": "user", "timeout_seconds": 0.05}}
    async with (
        running_app(provider, api, clock=clock, http_clients=clients) as app,
        new_browser(app) as browser,
    ):
        app.tornado.add_handlers(r".*", HANDLERS)
        await browser.login()
        response = await browser.fetch("/app/named/apiClient")

    assert (response.status_code, response.json()["code"]) == (504, "api_timeout")


# Who may come in


async def test_a_person_is_sent_to_sign_in_and_comes_back(browser: Browser):
    first = await browser.get("/app/page?tab=2")
    out = await browser.get(first.headers["Location"])
    back = await browser.get(await browser.choose(out.headers["Location"]))

    assert query_params(first.headers["Location"]) == {"returnUrl": "/app/page?tab=2"}
    assert refresh_target(back.text) == "/app/page?tab=2"
    assert (await browser.get("/app/page?tab=2")).status_code == 200


async def test_a_fetch_without_a_session_gets_401_with_the_login_url(browser: Browser):
    response = await browser.fetch("/app/page?tab=2")

    assert response.status_code == 401
    assert response.json()["code"] == "no_session"
    assert query_params(response.json()["login_url"]) == {"returnUrl": "/app/page?tab=2"}


async def test_a_form_posted_without_a_session_is_not_redirected(browser: Browser):
    response = await browser.http.post(
        "/app/page", headers={"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
    )

    assert response.status_code == 401  # a redirect would lose what was typed
    assert "<code>no_session</code>" in response.text


async def test_a_method_need_not_be_a_coroutine(signed_in: Browser):
    assert (await signed_in.fetch("/app/page", "POST")).text == "posted"


async def test_a_handler_without_authenticated_serves_anonymous_requests(browser: Browser):
    before = await browser.fetch("/app/public")
    await browser.login("alice")
    after = await browser.fetch("/app/public")

    assert before.json() == {"user": None}
    assert after.json() == {"user": {"sub": "alice", "name": "Alice Adams"}}


# Errors


@pytest.mark.parametrize(
    ("name", "status", "code", "retry_after"),
    [
        ("SettingsError", 500, "internal_error", None),
        ("LifespanFailed", 500, "internal_error", None),
        ("BadRequest", 400, "bad_request", None),
        ("BadReturnUrl", 400, "bad_return_url", None),
        ("LoginFailed", 400, "login_failed", None),
        ("WrongSid", 400, "wrong_sid", None),
        ("MethodNotAllowed", 405, "method_not_allowed", None),
        ("TooSlow", 408, "too_slow", None),
        ("TooLarge", 413, "too_large", None),
        ("UnsupportedMediaType", 415, "unsupported_media_type", None),
        ("InvalidBody", 422, "invalid_body", None),
        ("NotFound", 404, "not_found", None),
        ("Unauthorized", 401, "no_session", None),
        ("NoSession", 401, "no_session", None),
        ("SessionEnded", 401, "session_ended", None),
        ("ReauthenticationRequired", 401, "reauthentication_required", None),
        ("InsufficientAuthentication", 401, "insufficient_user_authentication", None),
        ("TokenUnavailable", 401, "provider_unavailable", None),
        ("Busy", 401, "provider_unavailable", "7"),
        ("Forbidden", 403, "forbidden", None),
        ("NotAllowed", 403, "forbidden", None),
        ("CsrfRejected", 403, "csrf_rejected", None),
        ("TooManyRequests", 429, "too_many_requests", "1"),
        ("Overloaded", 503, "overloaded", None),
        ("ApiRefused", 502, "api_refused", None),
        ("ApiUnreachable", 502, "api_unreachable", None),
        ("ApiError", 502, "api_error", None),
        ("ApiTimeout", 504, "api_timeout", None),
        ("SignInUnavailable", 503, "sign_in_unavailable", "5"),
        ("StoreUnavailable", 503, "store_unavailable", "5"),
        ("ProviderUnavailable", 503, "provider_unavailable", "5"),
        ("ClientRejected", 503, "provider_unavailable", "5"),
        ("InteractionRequired", 503, "provider_unavailable", "5"),
        ("GrantRefused", 500, "internal_error", None),
        ("UntrustedToken", 500, "internal_error", None),
        ("UnusableToken", 500, "internal_error", None),
        ("MistimedToken", 500, "internal_error", None),
        ("UsageError", 500, "internal_error", None),
        ("UnknownClient", 500, "internal_error", None),
        ("ForeignOrigin", 500, "internal_error", None),
        ("RuntimeError", 500, "internal_error", None),
        ("TimeoutError", 504, "api_timeout", None),
    ],
)
async def test_an_error_becomes(
    name: str, status: int, code: str, retry_after: str | None, app: RunningApp, browser: Browser
):
    problem = await browser.fetch(f"/app/raises/{name}")
    page = await browser.get(f"/app/raises/{name}")

    assert (problem.status_code, problem.json()["status"], problem.json()["code"]) == (status, status, code)
    assert problem.headers["Content-Type"] == "application/problem+json"
    assert problem.headers.get("Retry-After") == page.headers.get("Retry-After") == retry_after
    assert ("because of the test" in problem.text) == (status != 500 and name != "TimeoutError")
    if name not in ("NoSession", "InsufficientAuthentication"):  # which send a person to the login page
        assert page.status_code == status
        assert f"<code>{code}</code>" in page.text


def test_the_table_above_has_every_error():
    marks = test_an_error_becomes.pytestmark[0]  # type: ignore[attr-defined]
    listed = {row[0] for row in marks.args[1]}

    known = {name for name, error in vars(errors).items() if str(error).startswith("<class 'app.bff.errors.")}

    assert known - {"AppError"} <= listed


@pytest.mark.parametrize(
    ("name", "helps"),
    [("SessionEnded", True), ("ReauthenticationRequired", True), ("Busy", False), ("Forbidden", False)],
)
async def test_the_way_to_sign_in_is_shown_if_that_helps(
    name: str, helps: bool, app: RunningApp, browser: Browser
):
    here = "/bff/login?returnUrl=%2Fapp%2Fraises%2F"
    problem = await browser.fetch(f"/app/raises/{name}")
    page = await browser.get(f"/app/raises/{name}")

    assert problem.json().get("login_url") == (f"{here}{name}" if helps else None)
    assert (f'href="{here}{name}">Try again' in page.text) == helps


@pytest.mark.parametrize("name", ["RuntimeError", "UnknownClient"])
async def test_what_a_bug_says_is_for_the_log(name: str, app: RunningApp, browser: Browser):
    for response in (await browser.get(f"/app/raises/{name}"), await browser.fetch(f"/app/raises/{name}")):
        assert response.status_code == 500
        assert "Traceback" not in response.text
        assert "because of the test" not in response.text
        assert response.headers["X-Request-Id"] in response.text


async def test_an_error_page_has_the_same_content_and_offers_to_try_again(app: RunningApp, browser: Browser):
    page = await browser.get("/app/raises/ProviderUnavailable?a=%3Cb%3E")

    assert "<h1>The sign-in service is not answering</h1>" in page.text
    assert 'href="/app/raises/ProviderUnavailable?a=%3Cb%3E"' in page.text
    assert page.headers["X-Request-Id"] in page.text


# The store is away


async def test_without_the_store_the_answer_is_503_and_the_cookie_stays(
    provider: Provider, api: DemoApi, clock: Clock
):
    store = {"session_store": NOBODY_LISTENS}
    async with running_app(provider, api, clock=clock, **store) as app, new_browser(app) as browser:
        sent = {"Cookie": "bff=of-a-session", "X-CSRF": "1"}
        problem, page = await asyncio.gather(
            browser.http.get("/bff/user", headers=sent), browser.get("/account", Cookie="bff=of-a-session")
        )

    assert (problem.status_code, problem.json()["code"]) == (503, "store_unavailable")
    assert (
        problem.headers["Retry-After"]
        == page.headers["Retry-After"]
        == str(StoreUnavailable().retry_after_seconds)
    )
    assert "<code>store_unavailable</code>" in page.text
    assert "Set-Cookie" not in problem.headers
    assert "Set-Cookie" not in page.headers


# How long a session lasts


async def test_the_idle_time_is_written_at_most_once_a_minute(
    app: RunningApp, signed_in: Browser, clock: Clock
):
    begun = clock.now
    renewed_at = []
    for _ in range(5):
        clock.advance(25)
        await signed_in.fetch("/app/public")
        session = await app.session_of(signed_in)
        assert session
        renewed_at.append(session.renewed_at - begun)

    assert renewed_at == [0, 0, 75, 75, 75]


@pytest.mark.parametrize("idle_seconds", [1, 4, 60, 90, 600, 3600])
async def test_a_session_that_is_used_within_its_idle_time_does_not_end(
    idle_seconds: int, provider: Provider, api: DemoApi, clock: Clock
):
    running = running_app(provider, api, clock=clock, session_idle_seconds=idle_seconds)
    async with running as app, new_browser(app) as browser:
        await browser.login()
        for share in (0.5, 0.95, 0.95, 0.85):
            clock.advance(idle_seconds * share)
            session = await app.session_of(browser)
            assert session, share
            assert (await browser.fetch("/bff/user")).status_code == 200


async def test_an_unused_session_ends(app: RunningApp, signed_in: Browser, clock: Clock):
    clock.advance(3599)
    before = await signed_in.fetch("/app/page")
    clock.advance(3601)
    after = await signed_in.fetch("/app/page")

    assert (before.status_code, after.status_code) == (200, 401)


async def test_a_session_that_is_always_used_ends_too(app: RunningApp, signed_in: Browser, clock: Clock):
    statuses = []
    for _ in range(25):  # half an hour each
        statuses.append((await signed_in.fetch("/app/page")).status_code)
        clock.advance(1800)

    assert statuses == [200] * 24 + [401]  # 43200 seconds


async def test_a_session_that_is_over_looks_like_none(app: RunningApp, signed_in: Browser, clock: Clock):
    clock.advance(3601)
    page = await signed_in.get("/")

    assert page.status_code == 200
    assert "Sign in" in page.text
    assert "Alice" not in page.text
