"""A role that is taken away at the provider: gone at the next refresh, or at once; and BFF_REQUIRE then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from app.bff import ApiHandler, BaseHandler, SocketHandler, authenticated, url
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import USERS, Failure, Provider
from app.bff.oidc.kept_claims import OF_LOGIN
from app.bff.sessions.session import Reason
from tests.bff.application.main import ROUTES
from tests.bff.event_streams import listening
from tests.bff.harness import Browser, Clock, RunningApp, new_browser, running_app
from tests.bff.websocket_clients import close_code_and_reason, open_websocket

EXPIRED = 301  # seconds: the access token is over
ADMINS = {"groups": "admins"}


class Settled(ApiHandler):
    @authenticated(require=ADMINS)
    async def get(self) -> None:
        self.finish_json("for admins")


class Fresh(BaseHandler):
    @authenticated(require=ADMINS, fresh_claims=60)
    async def get(self) -> None:
        self.finish("for admins")


class Grant(ApiHandler):
    async def get(self) -> None:
        await self.renew_claims(10)
        self.finish_json(self.may(ADMINS))


class AdminSocket(SocketHandler):
    require = ADMINS
    look_again_seconds = 3600  # so that only the news of a change closes it

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message)


PAGES = [url("/settled", Settled), url("/fresh", Fresh), url("/grant", Grant), url("/socket", AdminSocket)]


@pytest.fixture
def settings() -> dict[str, Any]:
    return {}


@pytest.fixture
async def app(
    provider: Provider, api: DemoApi, clock: Clock, settings: dict[str, Any]
) -> AsyncIterator[RunningApp]:
    async with running_app(provider, api, clock=clock, routes=[*ROUTES, *PAGES], **settings) as app:
        yield app


@pytest.fixture
async def alice(browser: Browser) -> Browser:
    await browser.login("alice")
    return browser


def take_away(provider: Provider) -> None:
    provider.users = {**USERS, "alice": replace(USERS["alice"], groups=("staff",))}


async def status(browser: Browser, path: str) -> int:
    return (await browser.fetch(path)).status_code


def refreshes(provider: Provider) -> int:
    return provider.counts["token:refresh_token"]


async def test_a_role_counts_until_the_next_refresh(alice: Browser, provider: Provider, clock: Clock):
    take_away(provider)
    assert await status(alice, "/settled") == 200

    clock.advance(EXPIRED)
    await alice.fetch("/api/echo")

    assert await status(alice, "/settled") == 403


async def test_with_fresh_claims_it_counts_for_so_many_seconds(
    alice: Browser, provider: Provider, clock: Clock
):
    take_away(provider)
    clock.advance(60)
    assert (await status(alice, "/fresh"), refreshes(provider)) == (200, 0)

    clock.advance(1)

    assert (await status(alice, "/fresh"), refreshes(provider)) == (403, 1)
    assert (await status(alice, "/fresh"), refreshes(provider)) == (403, 1)


async def test_a_role_that_is_given_opens_without_another_login(
    browser: Browser, provider: Provider, clock: Clock
):
    await browser.login("bob")
    assert await status(browser, "/fresh") == 403
    provider.users = {**USERS, "bob": replace(USERS["bob"], groups=("admins",))}
    clock.advance(61)

    assert await status(browser, "/fresh") == 200


async def test_many_requests_at_once_cause_one_refresh(alice: Browser, provider: Provider, clock: Clock):
    clock.advance(61)
    answers = await asyncio.gather(*(status(alice, "/fresh") for _ in range(10)))

    assert (set(answers), refreshes(provider)) == ({200}, 1)


async def test_a_refresh_for_another_reason_is_enough(alice: Browser, provider: Provider, clock: Clock):
    clock.advance(EXPIRED)
    await alice.fetch("/api/echo")

    assert (await status(alice, "/fresh"), refreshes(provider)) == (200, 1)


async def test_a_handler_renews_claims_by_itself(alice: Browser, provider: Provider, clock: Clock):
    take_away(provider)
    clock.advance(11)

    assert (await alice.fetch("/grant")).json() is False


async def test_without_a_session_there_is_nothing_to_renew(browser: Browser):
    assert (await browser.get("/fresh")).headers["Location"] == "/bff/login?returnUrl=%2Ffresh"
    assert await status(browser, "/grant") == 401


async def test_claims_that_no_refresh_renews_need_a_login_and_are_not_asked_for_again_and_again(
    alice: Browser, provider: Provider, clock: Clock
):
    provider.refresh_returns_id_token = False
    clock.advance(61)
    problems = [(await alice.fetch("/fresh")).json() for _ in range(3)]

    assert {problem["code"] for problem in problems} == {"reauthentication_required"}
    assert problems[0]["login_url"] == "/bff/login?returnUrl=%2Ffresh"
    assert refreshes(provider) == 1

    await alice.login("alice")
    assert await status(alice, "/fresh") == 200


@pytest.mark.parametrize("settings", [{"userinfo_on_refresh": True}])
async def test_userinfo_renews_them_as_well(alice: Browser, provider: Provider, clock: Clock):
    provider.refresh_returns_id_token = False
    clock.advance(61)

    assert await status(alice, "/fresh") == 200


async def test_without_a_refresh_token_a_login_is_needed(alice: Browser, clock: Clock):
    session = await alice.app.session_of(alice)
    assert session is not None
    await alice.app.services.sessions.save(session.without_refresh_token)
    clock.advance(61)

    assert (await alice.fetch("/fresh")).json()["code"] == "reauthentication_required"


async def test_an_outage_of_the_provider_opens_nothing_and_ends_nothing(
    alice: Browser, provider: Provider, clock: Clock
):
    provider.fails["token"] = Failure()
    clock.advance(61)

    assert (await alice.fetch("/fresh")).json()["code"] == "provider_unavailable"
    assert await status(alice, "/settled") == 200


@pytest.mark.parametrize("seconds", [0, -1])
def test_claims_cannot_be_fresher_than_a_second(seconds: int):
    with pytest.raises(ValueError, match="fresh_claims"):
        authenticated(fresh_claims=seconds)


# Those who are told


async def test_an_open_socket_is_closed_and_an_open_page_told_at_once(
    alice: Browser, provider: Provider, clock: Clock
):
    async with open_websocket(alice, "/socket") as socket, listening(alice) as stream:
        take_away(provider)
        clock.advance(EXPIRED)
        await alice.fetch("/api/echo")

        assert await close_code_and_reason(socket) == (4403, "not allowed any more")
        assert await stream.next() == ("session_changed", {})


# BFF_REQUIRE


@pytest.mark.parametrize("settings", [{"require": ADMINS}])
async def test_a_refresh_ends_the_session_of_a_user_who_may_not_sign_in_any_more(
    alice: Browser, provider: Provider, clock: Clock
):
    app, session = alice.app, await alice.app.session_of(alice)
    assert session is not None
    async with listening(alice) as stream:
        take_away(provider)
        clock.advance(EXPIRED)
        refused = await alice.fetch("/api/echo")

        assert (refused.status_code, refused.json()["code"]) == (401, "session_ended")
        assert (await stream.rest())[-1] == ("session_ended", {"reason": "not_allowed"})
    assert await app.services.sessions.reasons([session.ref]) == {session.ref: Reason.NOT_ALLOWED}
    assert provider.counts["revoke"] == 1
    assert await status(alice, "/bff/user") == 401


@pytest.mark.parametrize("settings", [{"require": {"groups": "staff"}}])
async def test_a_session_whose_claims_still_meet_the_rule_goes_on(
    alice: Browser, provider: Provider, clock: Clock
):
    take_away(provider)
    clock.advance(EXPIRED)

    assert await status(alice, "/api/echo") == 200


@pytest.mark.parametrize("settings", [{"require": lambda claims: "admins" in claims["groups"]}])
async def test_a_function_that_fails_at_a_refresh_ends_the_session(
    alice: Browser, provider: Provider, clock: Clock, caplog: pytest.LogCaptureFixture
):
    provider.overrides["id_token"] = provider.overrides["userinfo"] = {"groups": None}
    clock.advance(EXPIRED)

    assert (await alice.fetch("/api/echo")).json()["code"] == "session_ended"
    assert [record.levelname for record in caplog.records if record.getMessage() == "rule failed"] == [
        "ERROR"
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"claims": "email", "require": ADMINS},
        {"claims": "email", "require": {"realm_access.roles": "admin"}},
    ],
)
async def test_what_the_rule_looks_at_is_kept_also_if_bff_claims_does_not_name_it(
    alice: Browser, provider: Provider, clock: Clock
):
    clock.advance(EXPIRED)

    assert await status(alice, "/api/echo") == 200
    session = await alice.app.session_of(alice)
    assert session is not None
    [kept] = session.claims.keys() - OF_LOGIN - {"email"}
    assert kept in ("groups", "realm_access")


async def test_the_claims_that_rules_in_settings_name(provider: Provider, api: DemoApi, clock: Clock):
    remote = {"path": "/x", "client": "apiClient", "require": {"a.b.c": "x"}, "write": {"d": "x"}}
    async with running_app(
        provider, api, clock=clock, claims="email", require={"e": "x"}, remote_apis=[remote]
    ) as app:
        settings = app.services.settings

    assert settings.kept_claims == {"email", "a", "a.b", "a.b.c", "d", "e"}
    async with (
        running_app(provider, api, clock=clock, require={"e": "x"}) as app,
        new_browser(app),
    ):
        assert app.services.settings.kept_claims == frozenset()  # all
