"""The hooks of an application: what they add, what they stop, and what is left when they fail."""

from __future__ import annotations

import asyncio
import base64
import secrets
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pymongo import MongoClient

from app.bff import AppError, Forbidden, HookContext, Hooks
from app.bff.commands import sessions
from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Client, Provider
from app.bff.hooks import HookRunner
from app.bff.services import Services, running_services
from app.bff.sessions.session import Reason, Session
from app.bff.testing.browsers import NAVIGATION_HEADERS
from app.bff.tokens.revocation import Revocation
from tests.bff.harness import (
    CLIENT_ID,
    CLIENT_SECRET,
    KEY,
    Browser,
    Clock,
    RunningApp,
    make_settings,
    new_browser,
    running_app,
    sign_in,
    wait_until,
)
from tests.bff.subprocesses import app_settings, running_process
from tests.bff.test_session_store import a_session

EXPIRED = 301  # seconds
SLOW = 0.05  # seconds, of a hook that never returns

Work = Callable[[HookContext], Any]


class Recorder(Hooks):
    """Notes each event, and does what a test says: a value that it returns, or an error that it raises."""

    timeout_seconds = 20

    def __init__(self, **works: Any) -> None:
        self.works = works
        self.events: list[tuple[str, HookContext]] = []

    async def _happens(self, event: str, context: HookContext) -> Any:
        self.events.append((event, context))
        work = self.works.get(event)
        if isinstance(work, Exception):
            raise work
        return await work(context) if callable(work) else work

    async def on_sign_in(self, context: HookContext) -> Any:
        return await self._happens("sign_in", context)

    async def on_refresh(self, context: HookContext) -> Any:
        return await self._happens("refresh", context)

    async def on_sign_out(self, context: HookContext) -> None:
        await self._happens("sign_out", context)

    def contexts(self, event: str) -> list[HookContext]:
        return [context for name, context in self.events if name == event]


Start = Callable[..., AbstractAsyncContextManager[tuple[RunningApp, Browser]]]


@pytest.fixture
def start(provider: Provider, api: DemoApi, clock: Clock) -> Start:
    @asynccontextmanager
    async def start(hooks: Hooks, **settings: Any) -> AsyncIterator[tuple[RunningApp, Browser]]:
        async with (
            running_app(provider, api, clock=clock, hooks=hooks, state="the state", **settings) as app,
            new_browser(app) as browser,
        ):
            yield app, browser

    return start


async def callback(browser: Browser, user: str = "alice") -> httpx2.Response:
    return await browser.get(await browser.choose(await browser.start_login(), user))


async def refreshed(browser: Browser, clock: Clock) -> Session:
    clock.advance(EXPIRED)
    assert (await browser.fetch("/api/echo")).status_code == 200
    session = await browser.app.session_of(browser)
    assert session is not None
    return session


async def never(context: HookContext) -> None:
    await asyncio.Event().wait()


async def cancelled(context: HookContext) -> None:
    job = asyncio.create_task(never(context))
    asyncio.get_running_loop().call_soon(job.cancel)
    await job


# Signing in


async def test_a_sign_in_gives_the_hook_claims_tokens_and_state_and_adds_what_it_returns(start: Start):
    hooks = Recorder(sign_in={"role": "editor", "seats": (1, 2)})
    async with start(hooks, claims="name") as (app, browser):
        session = await sign_in(app, browser)

    [(_, context)] = hooks.events
    assert (context.claims["email"], context.state) == ("alice@example.com", "the state")
    assert context.tokens.access_token == session.tokens.access_token
    assert session.claims["role"] == "editor"
    assert session.claims["seats"] == [1, 2]
    assert "email" not in session.claims


@pytest.mark.parametrize(
    ("works", "status", "code", "offers_retry"),
    [
        pytest.param(Forbidden("No account for you."), 403, "forbidden", False, id="refuses"),
        pytest.param(never, 503, "sign_in_unavailable", True, id="takes too long"),
        pytest.param(TimeoutError(), 503, "sign_in_unavailable", True, id="a time-out in it"),
        pytest.param(LookupError("rt-secret"), 500, "internal_error", True, id="fails"),
        pytest.param(AppError("x"), 500, "internal_error", True, id="fails with an error of ours"),
        pytest.param(cancelled, 500, "internal_error", True, id="waits for what was cancelled"),
        pytest.param({"sub": "root"}, 500, "internal_error", True, id="adds what is said of the login"),
        pytest.param({"x": object()}, 500, "internal_error", True, id="adds what is no JSON"),
        pytest.param({"bff:x": 1}, 500, "internal_error", True, id="adds what is named as ours"),
        pytest.param("editor", 500, "internal_error", True, id="returns no claims"),
    ],
)
async def test_nobody_is_signed_in_and_the_tokens_are_revoked_if_on_sign_in(
    works: Any, status: int, code: str, offers_retry: bool, start: Start, provider: Provider
):
    hooks = Recorder(sign_in=works)
    hooks.timeout_seconds = SLOW if works is never else 20
    async with start(hooks) as (app, browser):
        page = await callback(browser)
        [context] = hooks.contexts("sign_in")

        assert (page.status_code, f"<code>{code}</code>" in page.text) == (status, True)
        assert ("Try again" in page.text) == offers_retry
        assert "rt-secret" not in page.text
        assert await app.session_of(browser) is None
        assert [session async for session in app.services.sessions.every()] == []
        assert provider.counts["revoke"] == 1
        assert not provider.is_active(context.tokens.refresh_token or "")
        assert await app.services.outbox.claim(until=2**40) is None


async def test_a_second_login_works_once_the_hook_does(start: Start):
    hooks = Recorder(sign_in=LookupError())
    async with start(hooks) as (app, browser):
        await callback(browser)
        hooks.works.clear()

        assert await sign_in(app, browser)


async def test_a_failing_hook_leaves_the_session_that_the_browser_has(start: Start, provider: Provider):
    hooks = Recorder()
    async with start(hooks) as (app, browser):
        session = await sign_in(app, browser)
        hooks.works["sign_in"] = LookupError()
        assert (await callback(browser)).status_code == 500

        assert await app.session_of(browser) == session
        assert provider.counts["revoke"] == 0  # both may live on one grant


async def test_a_process_that_dies_in_the_hook_leaves_no_session_and_another_one_revokes(
    start: Start, provider: Provider, clock: Clock
):
    hooks = Recorder(sign_in=never)
    async with start(hooks) as (app, browser):
        signing_in = asyncio.create_task(callback(browser))
        await wait_until(lambda: bool(hooks.events))

        services = app.services  # as it is now, another process finds it
        assert [session async for session in services.sessions.every()] == []
        another = Revocation(services.oidc, services.outbox, services.sessions, on_end=True, clock=clock)
        await another.drain_due()
        assert provider.counts["revoke"] == 0
        clock.advance(hooks.timeout_seconds + 61)
        await another.drain_due()

        assert provider.counts["revoke"] == 1
        assert not provider.is_active(hooks.events[0][1].tokens.refresh_token or "")
        hooks.timeout_seconds = 0
        signing_in.cancel()


HOOKED = """
import asyncio, sys
from app.bff import Hooks, run
from tests.bff.application.main import ROUTES
from tests.bff.application.settings import Settings

class Waiting(Hooks):
    async def on_sign_in(self, context):
        print("in the hook", flush=True)
        await asyncio.Event().wait()

if __name__ == "__main__":
    sys.exit(run(Settings, ROUTES, hooks=Waiting()))
"""


async def test_a_process_that_is_killed_in_the_hook_leaves_a_revocation_and_nothing_else(
    provider: Provider, clock: Clock, mongod: Mongod, tmp_path: Path
):
    (tmp_path / "hooked.py").write_text(HOOKED)
    name, key = f"test-hooks-{secrets.token_hex(4)}", base64.b64encode(KEY).decode()
    store = {"BFF_SESSION_STORE": f"{mongod.uri}/{name}", "BFF_ENCRYPTION_KEYS": key}
    settings = app_settings(BFF_ISSUER=provider.issuer, **store)
    base_url = settings["BFF_BASE_URL"]
    provider.clients[CLIENT_ID] = Client(CLIENT_ID, CLIENT_SECRET, (f"{base_url}/bff/callback",), ())
    async with running_process("hooked", tmp_path, **settings) as process:
        await process.answers()
        browser = process.browser()
        signing_in = asyncio.create_task(callback(browser))
        await process.says("in the hook")
        process.process.kill()
        with suppress(httpx2.TransportError):
            await signing_in
        await browser.http.aclose()

    clock.advance(3600)  # it is due after a minute
    ours = make_settings(session_store=store["BFF_SESSION_STORE"], issuer=provider.issuer)
    async with running_services(ours, clock=clock) as another:
        assert [session async for session in another.sessions.every()] == []
        await another.revocation.drain_due()
        assert await another.outbox.claim(until=clock() + 60) is None
    assert provider.counts["revoke"] == 1
    with MongoClient(mongod.uri) as client:
        client.drop_database(name)


async def test_a_session_that_has_started_keeps_its_refresh_token(
    start: Start, provider: Provider, clock: Clock
):
    async with start(Recorder()) as (app, browser):
        session = await sign_in(app, browser)
        clock.advance(100)
        await app.services.revocation.drain_due()

        assert provider.is_active(session.tokens.refresh_token or "")
        assert await app.session_of(browser) == session


async def test_a_silent_login_that_is_refused_says_so_to_the_page(start: Start):
    async with start(Recorder(sign_in=Forbidden())) as (_, browser):
        await browser.choose(await browser.start_login())
        params, headers = {"prompt": "none"}, NAVIGATION_HEADERS
        started = await browser.http.get("/bff/login", params=params, headers=headers)
        response = await browser.get(await browser.choose(started.headers["Location"]))

    assert response.status_code == 200
    assert '"error": "forbidden"' in response.text


async def test_what_the_hook_adds_may_satisfy_the_rule_of_who_may_sign_in(start: Start):
    hooks = Recorder(sign_in={"role": "editor"})
    async with start(hooks, require={"role": "editor"}) as (app, browser):
        assert await sign_in(app, browser)
        hooks.works["sign_in"] = {"role": "reader"}

        assert (await callback(browser)).status_code == 403


# Refreshing


async def test_a_refresh_that_changes_claims_calls_the_hook_once_and_added_claims_stay(
    start: Start, provider: Provider, clock: Clock
):
    hooks = Recorder(sign_in={"role": "editor", "email": "of@the.application"})
    async with start(hooks) as (app, browser):
        await sign_in(app, browser)
        same = await refreshed(browser, clock)
        assert hooks.contexts("refresh") == []
        provider.overrides["id_token"] = {"name": "Alice Baker"}
        changed = await refreshed(browser, clock)

    [context] = hooks.contexts("refresh")
    assert (context.changed, context.claims["name"], context.state) == (["name"], "Alice Baker", "the state")
    assert context.tokens.access_token == changed.tokens.access_token
    for session in (same, changed):
        assert (session.claims["role"], session.claims["email"]) == ("editor", "of@the.application")
    assert changed.changes == 1


async def test_on_refresh_adds_replaces_and_takes_away(start: Start, provider: Provider, clock: Clock):
    hooks = Recorder(sign_in={"role": "editor", "seat": 1}, refresh={"role": None, "seat": 2, "new": 3})
    async with start(hooks) as (app, browser):
        await sign_in(app, browser)
        provider.overrides["id_token"] = {"name": "Alice Baker"}
        session = await refreshed(browser, clock)
        again = await refreshed(browser, clock)

    assert session.claims.keys() & {"role", "seat", "new"} == {"seat", "new"}
    assert (session.claims["seat"], set(session.added), session.changes) == (2, {"seat", "new"}, 2)
    assert again.claims == session.claims


@pytest.mark.parametrize(
    "works",
    [LookupError(), Forbidden(), {"sub": "root"}, never, cancelled],
    ids=["fails", "refuses", "wrong", "slow", "cancelled"],
)
async def test_a_refresh_stands_if_on_refresh(
    works: Any, start: Start, provider: Provider, clock: Clock, caplog: pytest.LogCaptureFixture
):
    hooks = Recorder(sign_in={"role": "editor"}, refresh=works)
    async with start(hooks) as (app, browser):
        before = await sign_in(app, browser)
        hooks.timeout_seconds = SLOW if works is never else 20
        provider.overrides["id_token"] = {"name": "Alice Baker"}
        after = await refreshed(browser, clock)

    assert after.tokens.access_token != before.tokens.access_token
    assert (after.claims["name"], after.claims["role"]) == ("Alice Baker", "editor")
    [record] = [record for record in caplog.records if record.message.startswith("hook ")]
    assert (record.levelname, record.__dict__["hook"]) == ("ERROR", "on_refresh")
    assert record.message == ("hook took too long" if works is never else "hook failed")


async def test_claims_that_were_added_while_another_process_saved_the_session_are_not_lost(
    start: Start, provider: Provider, clock: Clock
):
    async def save(context: HookContext) -> dict[str, int]:
        current = await app.services.sessions.get(context.session.ref)
        assert current is not None
        assert await app.services.sessions.save(current.without_refresh_token)
        return {"seat": 2}

    async with start(Recorder(refresh=save)) as (app, browser):
        await sign_in(app, browser)
        provider.overrides["id_token"] = {"name": "Alice Baker"}
        session = await refreshed(browser, clock)

    assert (session.claims["seat"], session.tokens.refresh_token) == (2, None)


# Signing out


async def ended(hooks: Recorder) -> list[Reason | None]:
    await wait_until(lambda: bool(hooks.contexts("sign_out")))
    return [context.reason for context in hooks.contexts("sign_out")]


async def log_out(app: RunningApp, browser: Browser, provider: Provider, clock: Clock) -> None:
    await browser.logout()


async def end_elsewhere(app: RunningApp, browser: Browser, provider: Provider, clock: Clock) -> None:
    session = await app.session_of(browser)
    assert session is not None
    await app.services.tokens.end(session.ref, Reason.SIGNED_OUT_ELSEWHERE)


async def sign_in_again(app: RunningApp, browser: Browser, provider: Provider, clock: Clock) -> None:
    await browser.login("alice")


async def refresh_in_vain(app: RunningApp, browser: Browser, provider: Provider, clock: Clock) -> None:
    provider.end_all_grants()
    clock.advance(EXPIRED)
    assert (await browser.fetch("/api/echo")).status_code == 401


async def get_the_id_token_of_bob(
    app: RunningApp, browser: Browser, provider: Provider, clock: Clock
) -> None:
    provider.overrides["id_token"] = {"sub": "bob"}
    clock.advance(EXPIRED)
    assert (await browser.fetch("/api/echo")).status_code == 401


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (log_out, Reason.SIGNED_OUT),
        (end_elsewhere, Reason.SIGNED_OUT_ELSEWHERE),
        (sign_in_again, Reason.RENEWED),
        (refresh_in_vain, Reason.PROVIDER),
        (get_the_id_token_of_bob, Reason.PROVIDER),
    ],
)
async def test_the_end_of_a_session_calls_the_hook_once(
    end: Any, reason: Reason, start: Start, provider: Provider, clock: Clock
):
    hooks = Recorder()
    async with start(hooks) as (app, browser):
        session = await sign_in(app, browser)
        await end(app, browser, provider, clock)

        assert await ended(hooks) == [reason]
        [context] = hooks.contexts("sign_out")
        assert (context.session.ref, context.state) == (session.ref, "the state")


async def test_a_failing_hook_keeps_nobody_signed_in(start: Start, caplog: pytest.LogCaptureFixture):
    hooks = Recorder(sign_out=LookupError())
    async with start(hooks) as (app, browser):
        await sign_in(app, browser)
        await browser.logout()
        await ended(hooks)

        assert await app.session_of(browser) is None
    [record] = [record for record in caplog.records if record.message == "hook failed"]
    assert record.__dict__["hook"] == "on_sign_out"


async def test_a_stop_waits_for_the_hook(clock: Clock):
    going_on, done = asyncio.Event(), []

    async def finish(context: HookContext) -> None:
        await going_on.wait()
        done.append(context.reason)

    runner = HookRunner(Recorder(sign_out=finish))
    runner.signed_out(a_session(clock), Reason.OPERATOR)
    asyncio.get_running_loop().call_soon(going_on.set)
    await runner.drain()

    assert done == [Reason.OPERATOR]


async def test_a_hook_that_ignores_its_cancellation_holds_nothing_up(clock: Clock):
    released = asyncio.Event()

    async def stubborn(context: HookContext) -> None:
        try:
            await released.wait()
        except asyncio.CancelledError:
            await released.wait()

    hooks = Recorder(refresh=stubborn)
    hooks.timeout_seconds = SLOW
    session = a_session(clock)

    assert await HookRunner(hooks).refreshed(session, ["name"]) is session
    released.set()


async def test_the_command_of_an_operator_calls_the_hook_with_the_state_of_the_lifespan(
    provider: Provider, api: DemoApi, clock: Clock, mongod: Mongod
):
    @asynccontextmanager
    async def lifespan(services: Services) -> AsyncIterator[str]:
        yield "of the command"

    hooks, store = Recorder(), f"{mongod.uri}/test-hooks-{secrets.token_hex(4)}"
    async with (
        running_app(provider, api, clock=clock, session_store=store) as app,
        new_browser(app) as browser,
    ):
        session = await sign_in(app, browser)
        given = {"hooks": hooks, "lifespan": lifespan, "action": "end", "user": "alice", "sid": None}
        code = await sessions.run(app.settings, Namespace(**given))

    [(event, context)] = hooks.events
    assert (code, event, context.reason) == (0, "sign_out", Reason.OPERATOR)
    assert (context.session.ref, context.state) == (session.ref, "of the command")


# What is added


@pytest.mark.parametrize(
    ("added", "returned", "claims", "names"),
    [
        ((), {}, {"a": 1}, ()),
        ((), {"b": 2}, {"a": 1, "b": 2}, ("b",)),
        ((), {"a": 2}, {"a": 2}, ("a",)),
        (("a",), {"a": None}, {}, ()),
        ((), {"a": None}, {"a": 1}, ()),
        (("a",), {"b": 2}, {"a": 1, "b": 2}, ("a", "b")),
        (("a",), {"a": 2}, {"a": 2}, ("a",)),
    ],
    ids=repr,
)
async def test_returned_claims_are_added_to_those_that_were(
    added: tuple[str, ...],
    returned: Mapping[str, Any],
    claims: Mapping[str, Any],
    names: tuple[str, ...],
    clock: Clock,
):
    session = replace(a_session(clock, claims={"a": 1}), added=added)
    result = await HookRunner(Recorder(refresh=returned)).refreshed(session, ["a"])

    assert (result.claims, result.added) == (claims, names)
