"""Back-channel logout: who has signed out at the provider is signed out here, whichever process hears it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Failure, Provider
from app.bff.errors import StoreUnavailable
from app.bff.server import make_app
from app.bff.sessions.memory import MemoryReplayCache, MemorySessions
from app.bff.sessions.session import Reason, Session
from tests.bff.harness import (
    CLIENT_ID,
    Browser,
    Clock,
    RunningApp,
    new_browser,
    running_app,
    sign_in,
    user_tokens_of_another_process,
    wait_until,
)

COOLDOWN = 30  # seconds between two looks at the provider's keys
PATH = "/bff/backchannel"


@pytest.fixture(params=["memory", "motor", "pymongo"])
async def nodes(
    request: pytest.FixtureRequest, provider: Provider, api: DemoApi, mongod: Mongod, clock: Clock
) -> AsyncIterator[list[RunningApp]]:
    """Applications that share nothing but the store and the provider; in memory there can be but one."""
    in_mongodb = {"session_store": f"{mongod.uri}/backchannel", "mongodb_driver": request.param}
    store = {} if request.param == "memory" else in_mongodb
    async with AsyncExitStack() as stack:
        start = stack.enter_async_context
        yield [
            await start(running_app(provider, api, clock=clock, **store)) for _ in range(2 if store else 1)
        ]


def registered(provider: Provider, app: RunningApp) -> None:
    """Tell the provider where we want to hear of a logout."""
    client = provider.clients[CLIENT_ID]
    provider.clients[CLIENT_ID] = replace(client, backchannel_logout_uri=app.base_url + PATH)


async def delivered(app: RunningApp, token: str, **headers: str) -> httpx2.Response:
    """What the provider would be answered."""
    async with httpx2.AsyncClient(base_url=app.base_url) as http:
        return await http.post(PATH, data={"logout_token": token}, headers=headers)


async def user_status(browser: Browser) -> int:
    return (await browser.fetch("/bff/user")).status_code


def refresh_token_of(session: Session) -> str:
    assert session.tokens.refresh_token
    return session.tokens.refresh_token


# From end to end


async def test_who_signs_out_at_the_provider_is_signed_out_here_at_whichever_process_it_hears(
    nodes: list[RunningApp], provider: Provider
):
    registered(provider, nodes[0])
    async with new_browser(nodes[-1]) as browser:
        session = await sign_in(nodes[-1], browser)
        await browser.http.get(f"{provider.issuer}/logout")
        await provider.backchannel.settle()

        assert provider.backchannel.answers == [(CLIENT_ID, 200)]
        assert await user_status(browser) == 401
        assert not provider.is_active(refresh_token_of(session))


async def test_an_administrator_of_the_provider_ends_the_users_sessions_in_all_browsers_and_no_other(
    nodes: list[RunningApp], provider: Provider
):
    registered(provider, nodes[0])
    async with AsyncExitStack() as stack:
        browsers = [await stack.enter_async_context(new_browser(nodes[-1])) for _ in range(3)]
        for browser, user in zip(browsers, ("alice", "alice", "bob"), strict=True):
            await browser.login(user)
        await provider.end_sessions("alice")

        assert [await user_status(browser) for browser in browsers] == [401, 401, 200]


async def test_a_token_counts_once_whichever_process_it_comes_to(nodes: list[RunningApp], provider: Provider):
    async with new_browser(nodes[-1]) as browser:
        session = await sign_in(nodes[-1], browser)
        token = provider.logout_token(CLIENT_ID, sub=session.subject)
        first = await delivered(nodes[0], token)
        await browser.login()
        again = [await delivered(node, token) for node in nodes]

        assert first.status_code == 200
        assert {answer.status_code for answer in again} == {400}
        assert await user_status(browser) == 200


# Whom it ends


async def test_a_session_alone_ends_that_one_and_leaves_the_users_others(
    app: RunningApp, browser: Browser, session: Session, provider: Provider
):
    async with new_browser(app) as laptop:
        await laptop.login("alice")
        answer = await delivered(app, provider.logout_token(CLIENT_ID, sid=session.sid))

        assert answer.status_code == 200
        assert [await user_status(each) for each in (browser, laptop)] == [401, 200]


async def test_a_user_alone_ends_all_that_the_user_has(
    app: RunningApp, browser: Browser, session: Session, provider: Provider
):
    async with new_browser(app) as laptop, new_browser(app) as bobs:
        await laptop.login("alice")
        await bobs.login("bob")
        await delivered(app, provider.logout_token(CLIENT_ID, sub="alice"))

        assert [await user_status(each) for each in (browser, laptop, bobs)] == [401, 401, 200]


async def test_the_session_of_another_user_is_not_ended(
    app: RunningApp, browser: Browser, session: Session, provider: Provider
):
    answer = await delivered(app, provider.logout_token(CLIENT_ID, sub="bob", sid=session.sid))

    assert answer.status_code == 200
    assert await user_status(browser) == 200


async def test_a_session_without_a_name_at_the_provider_ends_with_its_user(
    app: RunningApp, browser: Browser, provider: Provider
):
    provider.overrides["id_token"] = {"sid": None}
    await browser.login("alice")
    statuses = []
    for named in ({"sid": "any", "sub": "alice"}, {"sub": "alice"}):
        assert (await delivered(app, provider.logout_token(CLIENT_ID, **named))).status_code == 200
        statuses.append(await user_status(browser))

    assert statuses == [200, 401]


@pytest.mark.parametrize("named", [{"sub": "unknown"}, {"sid": "none"}, {"sub": "unknown", "sid": "none"}])
async def test_an_unknown_session_is_no_error(app: RunningApp, provider: Provider, named: dict[str, str]):
    assert (await delivered(app, provider.logout_token(CLIENT_ID, **named))).status_code == 200


async def test_the_refresh_token_is_revoked_later_when_the_provider_cannot_do_it_now(
    app: RunningApp, session: Session, provider: Provider, clock: Clock
):
    provider.fails["revoke"] = Failure(503)
    answer = await delivered(app, provider.logout_token(CLIENT_ID, sid=session.sid))
    assert answer.status_code == 200
    assert provider.is_active(refresh_token_of(session))

    provider.fails.clear()
    clock.advance(60)
    await app.services.revocation.drain_due()

    assert not provider.is_active(refresh_token_of(session))


async def test_a_refresh_under_way_brings_nothing_back(
    app: RunningApp, browser: Browser, session: Session, provider: Provider, clock: Clock
):
    clock.advance(300)
    held = provider.holds_answer["token"] = asyncio.Event()
    call = asyncio.create_task(browser.fetch("/api/echo"))
    await wait_until(lambda: provider.counts["token:refresh_token"] == 1)
    assert (await delivered(app, provider.logout_token(CLIENT_ID, sid=session.sid))).status_code == 200
    held.set()

    assert (await call).status_code == 401
    assert await user_status(browser) == 401


# What it answers


async def test_a_success_is_an_empty_200_that_is_not_cached(app: RunningApp, provider: Provider):
    answer = await delivered(app, provider.logout_token(CLIENT_ID, sub="alice"))

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers


async def test_a_refusal_is_an_oauth_error_that_is_not_cached(app: RunningApp, provider: Provider):
    provider.overrides["logout_token"] = {"aud": "another-client"}
    answer = await delivered(app, provider.logout_token(CLIENT_ID, sub="alice"))

    assert answer.status_code == 400
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"
    why = "the claim aud is invalid"
    assert answer.json() == {"error": "invalid_request", "error_description": why}


async def test_it_needs_no_cookie_no_csrf_header_and_no_origin_of_ours(app: RunningApp, provider: Provider):
    foreign = {"Origin": provider.issuer, "Sec-Fetch-Site": "cross-site"}
    answer = await delivered(app, provider.logout_token(CLIENT_ID, sub="alice"), **foreign)

    assert answer.status_code == 200


# What is refused, rule by rule; tests/test_logout_token.py has the finer points


@pytest.mark.parametrize(
    ("lies", "why"),
    [
        pytest.param({"iss": "https://evil.example"}, "iss", id="another issuer's"),
        pytest.param({"aud": "another-client"}, "aud", id="for another audience"),
        pytest.param({"exp": 1}, "exp", id="over"),
        pytest.param({"exp": None}, "exp", id="without end"),
        pytest.param({"iat": None}, "iat", id="issued at no time"),
        pytest.param({"iat": 10**10}, "iat", id="issued in the future"),
        pytest.param({"iat": 1}, "iat", id="issued long ago"),
        pytest.param({"jti": None}, "jti", id="without an id"),
        pytest.param({"events": None}, "events", id="about no event"),
        pytest.param({"events": {"urn:other": {}}}, "events", id="about another event"),
        pytest.param({"nonce": "n-1"}, "nonce", id="with a nonce"),
        pytest.param({"sub": None, "sid": None}, "sub", id="without a subject"),
    ],
)
async def test_a_logout_token_ends_nothing_when_it_is(
    app: RunningApp, browser: Browser, session: Session, provider: Provider, lies: dict[str, Any], why: str
):
    provider.overrides["logout_token"] = lies
    answer = await delivered(app, provider.logout_token(CLIENT_ID, sub="alice", sid=session.sid))

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert f"the claim {why} " in answer.json()["error_description"]
    assert await user_status(browser) == 200


@pytest.mark.parametrize("type_", ["at+jwt", "dpop+jwt"])
async def test_a_token_of_another_type_ends_nothing(
    app: RunningApp, browser: Browser, session: Session, provider: Provider, type_: str
):
    provider.overrides["logout_token_header"] = {"typ": type_}
    answer = await delivered(app, provider.logout_token(CLIENT_ID, sid=session.sid))

    assert (answer.status_code, await user_status(browser)) == (400, 200)


async def test_an_id_token_of_ours_ends_nothing(app: RunningApp, browser: Browser, session: Session):
    answer = await delivered(app, session.tokens.id_token or "")

    assert (answer.status_code, await user_status(browser)) == (400, 200)


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
async def test_a_token_that_is_not_signed_with_a_key_of_the_provider_ends_nothing(
    app: RunningApp, browser: Browser, session: Session, provider: Provider, algorithm: str
):
    provider.signing_alg = algorithm
    answer = await delivered(app, provider.logout_token(CLIENT_ID, sid=session.sid))

    assert (answer.status_code, await user_status(browser)) == (400, 200)


async def test_a_forged_signature_ends_nothing_and_fetches_keys_once_per_cooldown(
    app: RunningApp, browser: Browser, session: Session, provider: Provider, clock: Clock
):
    provider.signs_with_unpublished_key = True
    clock.advance(COOLDOWN)
    forged = [provider.logout_token(CLIENT_ID, sid=session.sid) for _ in range(5)]
    looks = provider.counts["jwks"]
    answers = [await delivered(app, token) for token in forged]

    assert [answer.status_code for answer in answers] == [400, 503, 503, 503, 503]
    assert provider.counts["jwks"] == looks + 1
    assert await user_status(browser) == 200


FORM = "application/x-www-form-urlencoded"
MULTIPART = '--x\r\nContent-Disposition: form-data; name="logout_token"\r\n\r\nTOKEN\r\n--x--\r\n'


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param("", FORM, id="nothing"),
        pytest.param("token=TOKEN", FORM, id="the token under another name"),
        pytest.param("logout_token=", FORM, id="an empty token"),
        pytest.param("logout_token=a.b.c", FORM, id="no token at all"),
        pytest.param("logout_token=%ff", FORM, id="no text"),
        pytest.param("logout_token=TOKEN&logout_token=TOKEN", FORM, id="the token twice"),
        pytest.param("logout_token=TOKEN", "text/plain", id="a form that says it is none"),
        pytest.param('{"logout_token": "TOKEN"}', "application/json", id="JSON"),
        pytest.param(MULTIPART, "multipart/form-data; boundary=x", id="a form of another kind"),
    ],
)
async def test_the_body_is_refused_when_it_is(
    app: RunningApp, browser: Browser, session: Session, provider: Provider, body: str, content_type: str
):
    token = provider.logout_token(CLIENT_ID, sid=session.sid)
    async with httpx2.AsyncClient(base_url=app.base_url, headers={"Content-Type": content_type}) as http:
        answer = await http.post(PATH, content=body.replace("TOKEN", token))

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert await user_status(browser) == 200


async def test_a_token_in_the_url_is_not_read(
    app: RunningApp, browser: Browser, session: Session, provider: Provider
):
    token = provider.logout_token(CLIENT_ID, sid=session.sid)
    async with httpx2.AsyncClient(base_url=app.base_url, headers={"Content-Type": FORM}) as http:
        answer = await http.post(PATH, params={"logout_token": token})

    assert (answer.status_code, await user_status(browser)) == (400, 200)


async def test_other_methods_are_not_allowed(app: RunningApp):
    async with httpx2.AsyncClient(base_url=app.base_url) as http:
        answer = await http.get(PATH)

    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


# What may be sent again


async def test_new_keys_of_the_provider_are_looked_for_at_once(
    app: RunningApp, browser: Browser, session: Session, provider: Provider
):
    provider.rotate_keys()
    token = provider.logout_token(CLIENT_ID, sid=session.sid)

    assert ((await delivered(app, token)).status_code, await user_status(browser)) == (200, 401)


async def test_after_a_forged_token_the_provider_may_try_again_when_the_cooldown_is_over(
    app: RunningApp, browser: Browser, session: Session, provider: Provider, clock: Clock
):
    provider.signs_with_unpublished_key = True
    forged = await delivered(app, provider.logout_token(CLIENT_ID, sid=session.sid))
    provider.signs_with_unpublished_key = False
    provider.rotate_keys()
    token = provider.logout_token(CLIENT_ID, sid=session.sid)
    early = await delivered(app, token)
    clock.advance(COOLDOWN)
    late = await delivered(app, token)

    assert forged.status_code == 400
    assert (early.status_code, early.headers["Retry-After"]) == (503, str(COOLDOWN))
    assert early.headers["Cache-Control"] == "no-store"
    assert (late.status_code, await user_status(browser)) == (200, 401)


async def test_keys_that_cannot_be_had_are_no_reason_to_refuse(
    app: RunningApp, browser: Browser, session: Session, provider: Provider, clock: Clock
):
    provider.rotate_keys()
    provider.fails["jwks"] = Failure(503)
    clock.advance(COOLDOWN)
    token = provider.logout_token(CLIENT_ID, sid=session.sid)
    without_keys = await delivered(app, token)
    provider.fails.clear()
    clock.advance(COOLDOWN)

    assert without_keys.status_code == 503
    assert (await delivered(app, token)).status_code == 200
    assert await user_status(browser) == 401


class FailingSessions(MemorySessions):
    """The second session that is to be ended is not: the database is gone by then."""

    deletes = 0

    async def delete(self, ref: str, *, reason: Reason) -> Session | None:
        self.deletes += 1
        if self.deletes == 2:
            raise StoreUnavailable
        return await super().delete(ref, reason=reason)


class FailingReplayCache(MemoryReplayCache):
    """The first that is to be remembered is not."""

    adds = 0

    async def add(self, key: str, *, until: float) -> None:
        self.adds += 1
        if self.adds == 1:
            raise StoreUnavailable
        await super().add(key, until=until)


@asynccontextmanager
async def at_a_store_that_fails(
    app: RunningApp, clock: Clock, *, sessions: MemorySessions, **services: Any
) -> AsyncIterator[RunningApp]:
    tokens = user_tokens_of_another_process(app, clock, sessions=sessions)
    failing = replace(app.services, sessions=sessions, tokens=tokens, **services)
    [socket] = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(make_app(failing, []))
    server.add_sockets([socket])
    yield replace(app, base_url=f"http://localhost:{socket.getsockname()[1]}", services=failing)
    server.stop()
    await server.close_all_connections()


async def test_a_store_that_fails_half_way_is_no_reason_to_refuse_the_next_try(
    app: RunningApp, session: Session, provider: Provider, clock: Clock
):
    sessions = FailingSessions(clock=clock)
    for ref in ("laptop", "phone"):
        await sessions.create(replace(session, ref=ref))
    token = provider.logout_token(CLIENT_ID, sub="alice")
    async with at_a_store_that_fails(app, clock, sessions=sessions) as failing:
        first = await delivered(failing, token)
        left = await sessions.of_user(session.issuer, "alice")
        second = await delivered(failing, token)

    assert (first.status_code, int(first.headers["Retry-After"]) > 0, len(left)) == (503, True, 1)
    assert second.status_code == 200
    assert await sessions.of_user(session.issuer, "alice") == []


async def test_a_token_that_could_not_be_remembered_has_done_its_work_and_may_come_again(
    app: RunningApp, session: Session, provider: Provider, clock: Clock
):
    sessions, replay_cache = MemorySessions(clock=clock), FailingReplayCache(clock=clock)
    await sessions.create(session)
    token = provider.logout_token(CLIENT_ID, sid=session.sid)
    async with at_a_store_that_fails(app, clock, sessions=sessions, replay_cache=replay_cache) as failing:
        first = await delivered(failing, token)
        left = await sessions.get(session.ref)
        answers = [first, *[await delivered(failing, token) for _ in range(2)]]

    assert left is None
    assert [answer.status_code for answer in answers] == [503, 200, 400]


# What the log says


async def test_the_log_tells_of_it_and_never_shows_a_token_a_session_or_a_user(
    app: RunningApp, session: Session, provider: Provider, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG, "app")
    provider.overrides["logout_token"] = {"nonce": "n-1"}
    refused = provider.logout_token(CLIENT_ID, sub="alice", sid=session.sid)
    await delivered(app, refused)
    provider.overrides.clear()
    good = provider.logout_token(CLIENT_ID, sub="alice", sid=session.sid)
    await delivered(app, good)

    ours = [record for record in caplog.records if record.name.startswith("app")]
    said = json.dumps([vars(record) for record in ours], default=str)
    assert {"logout token refused", "session ended", "signed out at the provider"} <= {
        record.message for record in ours
    }
    for secret in (refused, good, session.sid, session.ref, "alice"):
        assert secret not in said
