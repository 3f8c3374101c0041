"""Which claims a session keeps, and how each refresh renews them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from app.bff import ApiHandler
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from app.bff.oidc.kept_claims import (
    OF_LOGIN,
    UNUSED,
    changed_claims,
    kept_claims,
    left_out_claims,
    renewed_claims,
)
from app.bff.sessions.mongo.sessions import from_bytes, to_bytes
from tests.bff.harness import Browser, Clock, RunningApp, make_settings, new_browser, running_app, sign_in
from tests.bff.test_session_store import a_session

EXPIRED = 301  # seconds
LOGIN_CLAIMS = dict.fromkeys(OF_LOGIN, "of the login")


def test_a_session_keeps_all_claims_but_those_of_one_id_token():
    claims = {**LOGIN_CLAIMS, **dict.fromkeys(UNUSED, 1), "name": "Alice", "groups": ["a"]}

    assert kept_claims(claims, ()) == {**LOGIN_CLAIMS, "name": "Alice", "groups": ["a"]}


def test_of_named_claims_it_keeps_these_and_what_the_engine_needs():
    claims = {**LOGIN_CLAIMS, "name": "Alice", "groups": ["a"], "exp": 1}

    assert kept_claims(claims, ("name", "exp", "nothing")) == {**LOGIN_CLAIMS, "name": "Alice"}


@pytest.mark.parametrize(
    ("session", "earlier", "id_token", "userinfo", "renewed"),
    [
        pytest.param({"g": 1}, {"g": 1}, {"g": 2}, None, {"g": 2}, id="a new value"),
        pytest.param({"g": 1}, {"g": 1}, {}, None, {}, id="gone from the ID token"),
        pytest.param({}, {}, {"g": 1}, None, {"g": 1}, id="new in the ID token"),
        pytest.param({"n": 1}, {}, {}, None, {"n": 1}, id="of userinfo, which is not asked"),
        pytest.param({"n": 1}, {}, {"n": 2}, None, {"n": 2}, id="of userinfo before, of the ID token now"),
        pytest.param({"n": 1}, {}, {}, {"n": 2}, {"n": 2}, id="new in userinfo"),
        pytest.param({"n": 1}, {}, {}, {}, {}, id="gone from userinfo"),
        pytest.param(
            {"n": 1, "g": 1}, {"g": 1}, {}, {"g": 1}, {"g": 1}, id="in userinfo, and not in the ID token"
        ),
        pytest.param({"n": 1}, {}, {"n": 2}, {"n": 3}, {"n": 2}, id="in both: the signed one"),
        pytest.param(
            {"acr": "mfa"}, {"acr": "mfa"}, {"acr": "pwd"}, None, {"acr": "mfa"}, id="acr of the login"
        ),
        pytest.param(
            {"auth_time": 1}, {}, {"auth_time": 9}, {"auth_time": 9}, {"auth_time": 1}, id="auth_time"
        ),
        pytest.param({"sid": "s", "aud": "a"}, {"sid": "s"}, {}, {}, {"sid": "s", "aud": "a"}, id="left out"),
        pytest.param({}, {}, {"acr": "mfa"}, {"sub": "bob"}, {}, id="not of the login"),
    ],
)
def test_a_refresh_renews(
    session: dict[str, Any],
    earlier: dict[str, Any],
    id_token: dict[str, Any],
    userinfo: dict[str, Any] | None,
    renewed: dict[str, Any],
):
    assert renewed_claims(session, earlier=earlier, id_token=id_token, userinfo=userinfo) == renewed


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a"]),
        ({"a": 1}, {"a": True}, ["a"]),
        ({"a": 1}, {"a": "1"}, ["a"]),
        ({"a": None}, {}, ["a"]),
        ({}, {"a": None}, ["a"]),
        ({"a": ["x", "y"]}, {"a": ["y", "x"]}, []),
        ({"a": ["x", "y"]}, {"a": ["x"]}, ["a"]),
        ({"a": ["x", 1, None, {"b": [2, 1]}]}, {"a": [{"b": [1, 2]}, None, 1, "x"]}, []),
        ({"a": {"roles": ["x", "y"]}}, {"a": {"roles": ["y", "x"]}}, []),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, []),
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, ["a", "b", "c"]),
    ],
    ids=repr,
)
def test_what_has_changed(before: dict[str, Any], after: dict[str, Any], changed: list[str]):
    assert changed_claims(before, after) == changed


@pytest.mark.parametrize(
    ("claims", "names"),
    [
        ({}, []),
        ({"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {}}}, ["groups"]),
        ({"_claim_names": {"groups": "a", "roles": "a"}, "hasgroups": True}, ["groups", "roles"]),
        ({"hasgroups": True}, ["groups"]),
        ({"hasgroups": "true"}, ["groups"]),
        ({"hasgroups": False}, []),
        ({"_claim_names": "groups"}, []),
        ({"_claim_names": None}, []),
    ],
    ids=repr,
)
def test_claims_that_the_provider_has_left_out(claims: dict[str, Any], names: list[str]):
    assert left_out_claims(claims) == names


# Settings


def test_names_of_claims_are_separated_by_commas():
    settings = make_settings(claims="name, groups", user_claims="name")

    assert (settings.claims, settings.user_claims) == (("name", "groups"), ("name",))


def test_userinfo_on_refresh_needs_userinfo():
    with pytest.raises(ValidationError, match="needs BFF_USERINFO=true"):
        make_settings(userinfo=False, userinfo_on_refresh=True)


# The stored format


def test_a_session_of_an_earlier_release_has_claims_of_its_login(clock: Clock):
    session = replace(a_session(clock), created_at=clock() - 60)
    content = to_bytes(session).replace(b'"claims_renewed_at": 0', b'"unknown": 0')

    assert from_bytes(content).claims_renewed_at == session.created_at


def test_what_the_application_has_added_survives_a_release_that_does_not_know_of_it(clock: Clock):
    session = a_session(clock, claims={"sub": "alice", "role": "x"}, added=("role",), changes=2)
    stored = to_bytes(session)

    assert b'"added"' not in stored  # a field of its own would be lost
    assert from_bytes(stored) == session


# In the running application


@pytest.fixture
def claims(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings; tests override them."""
    return dict(getattr(request, "param", {}))


@pytest.fixture
async def app(
    provider: Provider, api: DemoApi, clock: Clock, claims: dict[str, Any]
) -> AsyncIterator[RunningApp]:
    async with running_app(provider, api, clock=clock, **claims) as app:
        yield app


@pytest.fixture
async def alice(app: RunningApp, provider: Provider) -> AsyncIterator[Browser]:
    provider.overrides["id_token"] = {"groups": ["admins", "staff"], "dept": "tea"}
    async with new_browser(app) as browser:
        await sign_in(app, browser)
        yield browser


async def refreshed_claims(browser: Browser, clock: Clock) -> dict[str, Any]:
    clock.advance(EXPIRED)
    assert (await browser.fetch("/api/echo")).status_code == 200
    session = await browser.app.session_of(browser)
    assert session is not None
    return dict(session.claims)


async def shown_claims(browser: Browser) -> set[str]:
    return {entry["type"] for entry in (await browser.fetch("/bff/user")).json()}


@pytest.mark.parametrize("gone", [["staff"], None], ids=["one of two", "the whole claim"])
async def test_a_group_that_is_taken_away_is_gone_at_the_next_refresh(
    gone: list[str] | None, alice: Browser, provider: Provider, clock: Clock
):
    before = await alice.app.session_of(alice)
    provider.overrides["id_token"]["groups"] = gone

    claims = await refreshed_claims(alice, clock)
    after = await alice.app.session_of(alice)

    assert claims.get("groups") == gone
    assert claims["dept"] == "tea"
    assert before is not None
    assert after is not None
    assert (before.changes, after.changes) == (0, 1)
    assert after.claims_renewed_at == before.claims_renewed_at + EXPIRED


async def test_a_refresh_that_changes_nothing_is_no_change(alice: Browser, provider: Provider, clock: Clock):
    provider.overrides["id_token"]["groups"] = ["staff", "admins"]
    await refreshed_claims(alice, clock)

    session = await alice.app.session_of(alice)
    assert session is not None
    assert (session.changes, session.claims_renewed_at) == (0, clock())


async def test_without_an_id_token_in_the_answer_nothing_is_renewed(
    alice: Browser, provider: Provider, clock: Clock
):
    provider.refresh_returns_id_token = False
    assert (await refreshed_claims(alice, clock))["groups"] == ["admins", "staff"]

    session = await alice.app.session_of(alice)
    assert session is not None
    assert session.claims_renewed_at == session.created_at


class NameAfterRefresh(ApiHandler):
    async def get(self) -> None:
        await self.get_user_access_token()
        self.finish_json(self.require_session().claims["name"])


async def test_a_handler_that_refreshes_has_the_new_claims(alice: Browser, provider: Provider, clock: Clock):
    alice.app.tornado.add_handlers(".*", [("/name", NameAfterRefresh)])
    provider.overrides["id_token"]["name"] = "Alice Baker"
    clock.advance(EXPIRED)

    assert (await alice.fetch("/name")).json() == "Alice Baker"


@pytest.mark.parametrize("claims", [{"claims": "name,groups", "user_claims": "name"}], indirect=True)
async def test_settings_name_what_is_kept_and_what_is_shown(alice: Browser, provider: Provider, clock: Clock):
    session = await alice.app.session_of(alice)
    assert session is not None
    kept = {"name", "groups"}

    assert session.claims.keys() - OF_LOGIN == kept
    assert await shown_claims(alice) == {"name", "bff:logout_url", "bff:session_expires_in"}
    assert (await refreshed_claims(alice, clock)).keys() - OF_LOGIN == kept


@pytest.mark.parametrize("claims", [{"userinfo_on_refresh": True}], indirect=True)
async def test_claims_of_userinfo_are_renewed_with_the_setting(
    alice: Browser, provider: Provider, clock: Clock
):
    provider.overrides["userinfo"] = {"roles": ["editor"]}
    first = await refreshed_claims(alice, clock)
    provider.overrides["userinfo"] = {}
    second = await refreshed_claims(alice, clock)

    assert (first["roles"], second.get("roles")) == (["editor"], None)
    session = await alice.app.session_of(alice)
    assert session is not None
    assert session.changes == 2


@pytest.mark.parametrize("claims", [{"userinfo_on_refresh": True}], indirect=True)
@pytest.mark.parametrize(
    "answer",
    [Failure(503), Failure(200, b'{"sub": "bob", "groups": ["root"]}', {"Content-Type": "application/json"})],
)
async def test_a_refresh_stands_without_userinfo(
    answer: Failure, alice: Browser, provider: Provider, clock: Clock, caplog: pytest.LogCaptureFixture
):
    provider.fails["userinfo"] = answer
    claims = await refreshed_claims(alice, clock)

    assert claims["groups"] == ["admins", "staff"]
    assert [record.levelname for record in caplog.records if "from userinfo" in record.message] == ["WARNING"]


async def test_three_thousand_groups_are_left_out_and_the_log_says_how_large_they_were(
    app: RunningApp, browser: Browser, provider: Provider, caplog: pytest.LogCaptureFixture
):
    provider.overrides["id_token"] = {"groups": [f"{number:036}" for number in range(3000)]}
    await browser.login()

    [line] = [vars(record) for record in caplog.records if record.message == "claims dropped"]
    assert line["too_large"].keys() == {"groups"}
    assert line["too_large"]["groups"] > 3000 * 36


async def test_groups_that_are_too_many_for_a_token_are_told_of_once_and_not_shown(
    app: RunningApp, browser: Browser, provider: Provider, caplog: pytest.LogCaptureFixture
):
    provider.overrides["id_token"] = {
        "_claim_names": {"groups": "src1"},
        "_claim_sources": {"src1": {"endpoint": "https://graph.example/me"}},
    }
    with caplog.at_level(logging.WARNING):
        await browser.login()
        await browser.login()

    told = [record for record in caplog.records if record.message.startswith("provider left claims out")]
    assert [record.__dict__["claims"] for record in told] == [["groups"]]
    assert not any(name.startswith("_claim") for name in await shown_claims(browser))
