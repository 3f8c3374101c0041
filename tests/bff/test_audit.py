"""The audit log: each event is one line, and lines of one user can be joined by who has the key."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.bff import ApiHandler, Forbidden, Hooks, authenticated
from app.bff.cli import command_line
from app.bff.commands import audit_id
from app.bff.crypto import Vault
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.sessions.session import Session
from app.bff.telemetry import observer
from app.bff.telemetry.logs import Audit, operator_name, session_log_id, user_log_ids
from app.bff.telemetry.observer import Observer, installed
from tests.bff.harness import (
    CLIENT_ID,
    KEY,
    Browser,
    Clock,
    RunningApp,
    make_settings,
    new_browser,
    running_app,
    sign_in,
)
from tests.bff.test_session_store import a_session

RULE = {"groups": "of nobody"}


class AdminsOnly(ApiHandler):
    @authenticated(require=RULE)
    async def get(self) -> None:
        self.set_status(204)


class Token(ApiHandler):
    async def get(self) -> None:
        await self.get_user_access_token()


class WithMfa(ApiHandler):
    @authenticated(acr="mfa")
    async def get(self) -> None:
        self.set_status(204)


class Refusing(Hooks):
    async def on_sign_in(self, context: Any) -> None:
        if context.session.subject == "bob":
            raise Forbidden("Bob is away.")


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    apis = [{"path": "/api", "client": "apiClient", "require": RULE}]
    async with running_app(provider, api, clock=clock, hooks=Refusing(), remote_apis=apis) as app:
        app.tornado.add_handlers(".*", [("/admins", AdminsOnly), ("/mfa", WithMfa), ("/token", Token)])
        yield app


class Lines:
    """The audited lines since the last look."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        caplog.set_level("INFO")

    def new(self) -> list[dict[str, Any]]:
        lines = [vars(record) for record in self._caplog.records if hasattr(record, "audit")]
        self._caplog.clear()
        return lines


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    return Lines(caplog)


def user_of(app: RunningApp, subject: str) -> str:
    [user] = user_log_ids(app.services.vault, app.settings.issuer, subject)
    return user


async def callback(browser: Browser, user: str, **params: str) -> int:
    login = await browser.start_login(**params)
    return (await browser.get(await browser.choose(login, user))).status_code


async def test_a_sign_in_a_step_up_and_a_sign_out_are_one_line_each(
    app: RunningApp, browser: Browser, lines: Lines
):
    first = await sign_in(app, browser)
    [signed_in] = lines.new()
    assert await callback(browser, "alice", acr_values="mfa") == 200
    second = await app.session_of(browser)
    assert second is not None
    replaced, stepped_up = lines.new()
    await browser.logout()
    [signed_out] = lines.new()

    found = [
        (line["audit"], line["message"], line["session"]) for line in (signed_in, stepped_up, signed_out)
    ]
    assert found == [
        ("sign_in", "session started", session_log_id(first.ref)),
        ("step_up", "session started", session_log_id(second.ref)),
        ("sign_out", "session ended", session_log_id(second.ref)),
    ]
    assert (replaced["audit"], replaced["reason"], signed_out["reason"]) == (
        "sign_out",
        "renewed",
        "signed_out",
    )
    assert {line["user"] for line in (signed_in, stepped_up, signed_out)} == {user_of(app, "alice")}


@pytest.mark.parametrize("path", ["/admins", "/api/echo"])
async def test_a_refusal_is_one_line_with_the_rule(
    path: str, app: RunningApp, browser: Browser, session: Session, lines: Lines
):
    lines.new()
    assert (await browser.fetch(path)).status_code == 403
    [line] = lines.new()

    assert (line["audit"], line["path"], line["session"]) == ("refusal", path, session_log_id(session.ref))
    assert (line["user"], "of nobody" in line["rule"]) == (user_of(app, "alice"), True)


async def test_who_may_not_sign_in_is_one_line_with_the_reason(
    app: RunningApp, browser: Browser, lines: Lines
):
    assert await callback(browser, "bob") == 403
    [line] = lines.new()

    assert (line["audit"], line["reason"], line["user"]) == ("refusal", "Bob is away.", user_of(app, "bob"))


async def test_other_refusals_are_no_matter_of_the_audit(
    app: RunningApp, browser: Browser, session: Session, lines: Lines
):
    lines.new()
    await browser.fetch("/admins", csrf=False)
    await browser.fetch("/mfa")
    await browser.fetch("/nowhere")

    assert lines.new() == []


async def test_a_session_that_another_one_ends_is_one_line(
    app: RunningApp, browser: Browser, session: Session, lines: Lines
):
    async with new_browser(app) as other:
        ending = await sign_in(app, other)
        lines.new()
        await other.fetch("/bff/sessions", "DELETE")
        await other.logout()
    line, own = lines.new()

    assert (line["reason"], line["session"]) == ("signed_out_elsewhere", session_log_id(session.ref))
    assert (line["by"], "by" in own) == (session_log_id(ending.ref), False)


async def test_what_the_provider_ends_on_a_connection_of_another_session_is_not_ended_by_that(
    app: RunningApp, browser: Browser, session: Session, provider: Provider, lines: Lines
):
    async with new_browser(app) as other:
        await sign_in(app, other)
        lines.new()
        token = {"logout_token": provider.logout_token(CLIENT_ID, sid=session.sid)}
        assert (await other.http.post("/bff/backchannel", data=token)).status_code == 200
    [line] = lines.new()

    assert (line["reason"], line["session"]) == ("provider", session_log_id(session.ref))
    assert "by" not in line


async def test_a_session_that_the_provider_ends_is_one_line(
    browser: Browser, session: Session, provider: Provider, clock: Clock, lines: Lines
):
    lines.new()
    provider.end_all_grants()
    clock.advance(301)
    await browser.fetch("/token")
    [line] = lines.new()

    assert (line["audit"], line["reason"], line["message"]) == ("sign_out", "provider", "session ended")


def test_a_user_has_one_hash_under_each_key_and_another_at_another_issuer(clock: Clock):
    old, new = os.urandom(32), os.urandom(32)
    session = a_session(clock)
    both = user_log_ids(Vault([new, old]), session.issuer, "alice")

    assert both == [
        *user_log_ids(Vault([new]), session.issuer, "alice"),
        *user_log_ids(Vault([old]), session.issuer, "alice"),
    ]
    assert Audit(Vault([new])).fields("sign_in", session)["user"] == both[0]
    assert user_log_ids(Vault([new]), "https://other.example", "alice") != both[:1]
    assert "alice" not in both[0]


def test_each_event_is_counted(clock: Clock):
    class Counting(Observer):
        is_on = True

        def __init__(self) -> None:
            self.events: list[str] = []

        def audited(self, event: str) -> None:
            self.events.append(event)

    with installed(Counting()) as _:
        counting = observer.current
        Audit().fields("sign_in", a_session(clock))

    assert isinstance(counting, Counting)
    assert counting.events == ["sign_in"]


def test_an_operator_has_a_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SUDO_USER", "ann")

    assert operator_name() == "ann"


async def test_a_command_prints_what_log_lines_call_a_user(capsys: pytest.CaptureFixture[str]):
    keys = [KEY, os.urandom(32)]
    settings = make_settings(encryption_keys=keys, issuer="https://idp.example.com")
    assert await audit_id.run(settings, command_line().parse_args(["audit-id", "--user", "alice"])) == 0

    expected = user_log_ids(Vault(keys), "https://idp.example.com", "alice")
    assert capsys.readouterr().out.splitlines() == expected
