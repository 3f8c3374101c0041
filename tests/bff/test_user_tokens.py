"""UserTokens: which access token a caller gets, how often it is refreshed, and when a session ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from app.bff.errors import (
    NoSession,
    ReauthenticationRequired,
    SessionEnded,
    TokenUnavailable,
)
from app.bff.sessions.memory import MemorySessions
from app.bff.sessions.session import Reason, Session
from app.bff.tokens.user import UserTokens
from tests.bff.harness import (
    CLIENT_ID,
    Browser,
    Clock,
    RunningApp,
    running_app,
    user_tokens_of_another_process,
    wait_until,
)

LIFETIME = 300  # of the provider's access tokens, in seconds
MINUTE = 60
MARGIN = LIFETIME / 10  # the setting says 60, a tenth of the lifetime is less


@pytest.fixture
def users(app: RunningApp) -> UserTokens:
    return app.services.tokens


async def stored(app: RunningApp, session: Session) -> Session | None:
    """What the next request will find."""
    return await app.services.sessions.get(session.ref)


def refreshes(provider: Provider) -> int:
    return provider.counts["token:refresh_token"]


# Fresh, or about to expire


async def test_a_fresh_token_is_returned_without_asking_the_provider(
    users: UserTokens, session: Session, provider: Provider
):
    assert await users.get(session) == session.tokens.access_token
    assert refreshes(provider) == 0


async def test_a_token_inside_the_margin_is_returned_while_it_is_refreshed(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME - MARGIN)
    held = provider.holds_answer["token"] = asyncio.Event()

    assert await users.get(session) == session.tokens.access_token  # although the provider has not answered
    held.set()
    await users.drain()
    refreshed = await stored(app, session)
    assert provider.is_active(await users.get(refreshed))
    assert refreshed.tokens.access_token != session.tokens.access_token
    assert refreshes(provider) == 1


async def test_late_in_the_margin_callers_wait_and_the_rotated_refresh_token_is_saved(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME - MARGIN / 4)

    token = await users.get(session)

    tokens = (await stored(app, session)).tokens
    assert token == tokens.access_token != session.tokens.access_token
    assert tokens.refresh_token != session.tokens.refresh_token
    assert provider.is_active(token)
    assert provider.is_active(tokens.refresh_token)
    assert refreshes(provider) == 1


@pytest.mark.parametrize("answer", [Failure(503), Failure(400, b'{"error": "invalid_grant"}')])
async def test_a_failed_background_refresh_raises_in_no_caller(
    users: UserTokens, session: Session, provider: Provider, clock: Clock, answer: Failure
):
    clock.advance(LIFETIME - MARGIN)
    provider.fails["token"] = answer

    assert await users.get(session) == session.tokens.access_token
    await users.drain()
    assert refreshes(provider) == 1


async def test_a_token_just_outside_the_margin_is_not_refreshed(
    users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME - MARGIN - 1)

    assert await users.get(session) == session.tokens.access_token
    assert refreshes(provider) == 0


async def test_rotated_refresh_tokens_work_again_and_again(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    for _ in range(5):
        clock.advance(LIFETIME)
        assert provider.is_active(await users.get(await stored(app, session)))

    assert refreshes(provider) == 5


async def test_a_token_of_half_a_minute_is_not_refreshed_at_every_call(
    app: RunningApp, browser: Browser, users: UserTokens, provider: Provider, clock: Clock
):
    provider.access_token_seconds = 30
    await browser.login("alice")
    session = await app.session_of(browser)
    for _ in range(26):
        clock.advance(1)
        await users.get(session)
    assert refreshes(provider) == 0

    clock.advance(1)
    await users.get(session)
    await users.drain()
    assert refreshes(provider) == 1


async def test_a_token_of_unknown_lifetime_is_used_until_an_api_rejects_it(
    app: RunningApp, browser: Browser, users: UserTokens, provider: Provider, clock: Clock
):
    provider.expires_in = None
    await browser.login("alice")
    session = await app.session_of(browser)
    clock.advance(LIFETIME)

    token = await users.get(session)

    assert token == session.tokens.access_token
    assert await users.get(session, rejected=token) != token


# Many at once


async def test_two_hundred_requests_at_once_cause_one_refresh(
    users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME)

    tokens = await asyncio.gather(*(users.get(session) for _ in range(200)))

    assert len(set(tokens)) == 1
    assert provider.is_active(tokens[0])
    assert refreshes(provider) == 1


async def test_cancelled_requests_do_not_affect_the_others(
    users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME)
    provider.holds_answer["token"] = asyncio.Event()
    requests = [asyncio.create_task(users.get(session)) for _ in range(200)]
    await wait_until(lambda: refreshes(provider))
    for request in requests[::2]:
        request.cancel()
    provider.holds_answer["token"].set()

    answers = await asyncio.gather(*requests, return_exceptions=True)

    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
    assert len(set(answers[1::2])) == 1
    assert provider.is_active(answers[1])
    assert refreshes(provider) == 1


async def test_a_cancelled_request_does_not_lose_the_rotated_token(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME)
    provider.holds_answer["token"] = asyncio.Event()
    request = asyncio.create_task(users.get(session))
    await wait_until(lambda: refreshes(provider))
    request.cancel()
    provider.holds_answer["token"].set()
    await users.drain()

    assert provider.is_active((await stored(app, session)).tokens.refresh_token)
    assert provider.is_active(await users.get(await stored(app, session)))


async def test_a_late_request_with_an_outdated_session_causes_no_second_refresh(
    users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME)
    first = await users.get(session)

    assert await users.get(session) == first
    assert refreshes(provider) == 1


async def test_sessions_of_the_same_user_are_refreshed_separately(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    phone = Browser(app)
    await phone.login("alice")
    clock.advance(LIFETIME)

    laptops, phones = await asyncio.gather(users.get(session), users.get(await app.session_of(phone)))

    assert laptops != phones
    assert refreshes(provider) == 2
    await phone.http.aclose()


# Refused by an API


async def test_a_hundred_rejected_requests_cause_one_refresh(
    users: UserTokens, session: Session, provider: Provider
):
    refused = session.tokens.access_token

    tokens = await asyncio.gather(*(users.get(session, rejected=refused) for _ in range(100)))
    late = await users.get(session, rejected=refused)

    assert {late} == set(tokens) != {refused}
    assert refreshes(provider) == 1


async def test_a_rejected_token_is_not_returned_from_the_flight_of_another_caller(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME)
    refused = await users.get(session)
    newer = await stored(app, session)

    # The first has an old session, so it looks again and finds the token that the second must not get.
    easy, picky = await asyncio.gather(users.get(session), users.get(newer, rejected=refused))

    assert easy == refused != picky
    assert provider.is_active(picky)


async def test_a_rejected_token_is_not_returned_although_the_provider_is_down(
    users: UserTokens, session: Session, provider: Provider
):
    provider.fails["token"] = Failure(503)

    with pytest.raises(TokenUnavailable):
        await users.get(session, rejected=session.tokens.access_token)
    assert await users.get(session) == session.tokens.access_token


# What a refresh brings


async def test_a_refresh_token_that_a_response_omits_stays(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    provider.rotates = False
    for _ in range(2):
        clock.advance(LIFETIME)
        await users.get(session)

    assert (await stored(app, session)).tokens.refresh_token == session.tokens.refresh_token
    assert refreshes(provider) == 2


async def test_an_id_token_that_a_response_omits_stays(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    provider.refresh_returns_id_token = False
    clock.advance(LIFETIME)
    await users.get(session)

    assert (await stored(app, session)).tokens.id_token == session.tokens.id_token


async def test_a_refreshed_id_token_replaces_the_old_one(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME)
    await users.get(session)

    assert (await stored(app, session)).tokens.id_token != session.tokens.id_token


def a_lie(**claims: object) -> Callable[[Provider], None]:
    return lambda provider: provider.overrides.update(id_token=claims)


def a_forged_signature(provider: Provider) -> None:
    provider.signs_with_unpublished_key = True


def no_signature(provider: Provider) -> None:
    provider.signing_alg = "none"


@pytest.mark.parametrize(
    "goes_wrong",
    [
        pytest.param(a_lie(sub="bob"), id="about another user"),
        pytest.param(a_lie(aud="someone-else"), id="meant for someone else"),
        pytest.param(a_lie(aud=[CLIENT_ID, "more"], azp=CLIENT_ID), id="meant for more than before"),
        pytest.param(a_lie(iss="https://other.example"), id="of another issuer"),
        pytest.param(a_forged_signature, id="signed with another key"),
        pytest.param(no_signature, id="not signed"),
    ],
)
async def test_a_session_ends_with_a_refreshed_id_token_that_is(
    app: RunningApp,
    users: UserTokens,
    session: Session,
    provider: Provider,
    clock: Clock,
    goes_wrong: Callable[[Provider], None],
):
    goes_wrong(provider)
    clock.advance(LIFETIME)

    with pytest.raises(SessionEnded):
        await users.get(session)
    assert await stored(app, session) is None
    assert provider.counts["revoke"] == 2  # what the session had, and what came with that id token
    assert provider.last_request["revoke"]["token"] != session.tokens.refresh_token


async def test_an_id_token_that_cannot_be_verified_now_does_not_lose_the_rotated_token(
    app: RunningApp, session: Session, provider: Provider, api: DemoApi, clock: Clock
):
    provider.fails["jwks"] = Failure(503)
    clock.advance(LIFETIME)
    async with running_app(provider, api, clock=clock) as another:  # a process that has no keys yet
        users = user_tokens_of_another_process(app, clock, oidc=another.services.oidc)
        token = await users.get(session)

    tokens = (await stored(app, session)).tokens
    assert tokens.access_token == token
    assert provider.is_active(tokens.refresh_token)
    assert tokens.id_token == session.tokens.id_token


# invalid_grant


async def test_invalid_grant_ends_the_session(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    provider.end_all_grants()
    clock.advance(LIFETIME)

    with pytest.raises(SessionEnded):
        await users.get(session)
    assert await stored(app, session) is None
    with pytest.raises(NoSession):
        await users.get(session)
    assert refreshes(provider) == 1


async def test_invalid_grant_ends_nothing_if_another_process_has_refreshed_meanwhile(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    another = user_tokens_of_another_process(app, clock)
    clock.advance(LIFETIME)
    held = provider.holds["token"] = asyncio.Event()
    ours = asyncio.create_task(users.get(session))
    await wait_until(lambda: refreshes(provider))
    del provider.holds["token"]
    clock.advance(60)  # our lease has ended
    theirs = await another.get(session)
    held.set()  # only now the provider looks at our refresh token, which they have used

    assert await ours == theirs
    assert (await stored(app, session)).tokens.access_token == theirs


async def test_a_session_that_is_gone_is_not_refreshed(
    users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    await users.end(session.ref, Reason.SIGNED_OUT)
    clock.advance(LIFETIME)

    with pytest.raises(NoSession):
        await users.get(session)
    assert refreshes(provider) == 0


# The provider does not answer


def oauth_error(status: int, error: str) -> Failure:
    return Failure(status, json.dumps({"error": error}).encode(), {"Content-Type": "application/json"})


NO_ANSWER = [
    pytest.param(Failure(503), 5, id="503"),
    pytest.param(Failure(500, b"<html>Oops</html>"), 5, id="500 with a page"),
    pytest.param(Failure(200, b"<html>Maintenance</html>"), 5, id="a page"),
    pytest.param(Failure(200, b"{}"), 5, id="no token"),
    pytest.param(Failure(200, b"x" * 1_000_001), 5, id="more than a megabyte"),
    pytest.param(Failure(302, headers={"Location": "/elsewhere"}), 5, id="a redirect"),
    pytest.param(Failure(429, headers={"Retry-After": "18"}), 17, id="429 with Retry-After, a second ago"),
    pytest.param(Failure(503, headers={"Retry-After": "1e9"}), 5, id="503 with nonsense"),
    pytest.param(oauth_error(500, "invalid_grant"), 5, id="invalid_grant with 500"),
    pytest.param(oauth_error(404, "invalid_grant"), 5, id="invalid_grant with 404"),
    pytest.param(oauth_error(429, "interaction_required"), 5, id="interaction_required with 429"),
    pytest.param(oauth_error(400, "temporarily_unavailable"), 5, id="temporarily_unavailable"),
    pytest.param(oauth_error(400, "slow_down"), 5, id="slow_down"),
]


@pytest.mark.parametrize(("answer", "retry_after"), NO_ANSWER)
async def test_a_valid_token_is_used_and_then_none_and_the_session_stays_when_the_provider_answers(
    app: RunningApp,
    users: UserTokens,
    session: Session,
    provider: Provider,
    clock: Clock,
    answer: Failure,
    retry_after: int,
):
    provider.fails["token"] = answer
    clock.advance(LIFETIME - 1)
    assert await users.get(session) == session.tokens.access_token

    clock.advance(1)
    with pytest.raises(TokenUnavailable) as caught:
        await users.get(session)
    assert caught.value.retry_after_seconds == retry_after
    assert await stored(app, session) == session

    provider.fails.clear()
    clock.advance(retry_after)
    assert provider.is_active(await users.get(session))


REFUSALS = [
    *("interaction_required", "login_required", "consent_required", "access_denied", "token_inactive"),
    *("invalid_client", "unauthorized_client", "invalid_request", "invalid_scope", "unheard_of"),
]


@pytest.mark.parametrize("error", REFUSALS)
async def test_a_refused_refresh_leaves_the_token_until_it_expires_and_then_the_way_to_the_login(
    app: RunningApp,
    browser: Browser,
    session: Session,
    provider: Provider,
    clock: Clock,
    error: str,
):
    provider.fails["token"] = oauth_error(400, error)
    clock.advance(LIFETIME - 1)
    assert (await browser.fetch("/api/echo")).status_code == 200

    clock.advance(1)
    refused = await browser.fetch("/api/echo")
    assert (refused.status_code, refused.json()["code"]) == (401, "reauthentication_required")
    assert refused.json()["login_url"].startswith("/bff/login")
    assert (await stored(app, session)).tokens == session.tokens


async def test_a_page_that_a_refused_refresh_stops_leads_to_the_login(
    browser: Browser, session: Session, provider: Provider, clock: Clock
):
    provider.fails["token"] = oauth_error(400, "interaction_required")
    clock.advance(LIFETIME)
    page = await browser.get("/account")

    assert page.status_code == 401
    assert "<code>reauthentication_required</code>" in page.text
    assert 'href="/bff/login?returnUrl=%2Faccount"' in page.text


async def test_a_login_mends_a_refused_refresh(browser: Browser, provider: Provider, clock: Clock):
    await browser.login("alice")
    provider.fails["token"] = oauth_error(400, "interaction_required")
    clock.advance(LIFETIME)
    refused = await browser.fetch("/api/echo")

    provider.fails.clear()
    way_on = await browser.start_login(refused.json()["login_url"].partition("returnUrl=")[2] or "/")
    await browser.get(await browser.choose(way_on))

    assert (await browser.fetch("/api/echo")).status_code == 200


async def test_an_invalid_client_secret_ends_no_session(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    registered = provider.clients[CLIENT_ID]
    provider.clients[CLIENT_ID] = replace(registered, client_secret="another")
    clock.advance(LIFETIME)
    with pytest.raises(ReauthenticationRequired):
        await users.get(session)

    provider.clients[CLIENT_ID] = registered
    assert provider.is_active(await users.get(session))


async def test_a_provider_that_refuses_connections_ends_no_session(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    await provider.stop()
    clock.advance(LIFETIME)

    with pytest.raises(TokenUnavailable):
        await users.get(session)
    assert await stored(app, session) == session


async def test_a_provider_that_hangs_ends_no_session(
    app: RunningApp, session: Session, provider: Provider, api: DemoApi, clock: Clock
):
    provider.holds["token"] = asyncio.Event()
    async with running_app(provider, api, clock=clock, provider_timeout_seconds=0.5) as impatient:
        users = user_tokens_of_another_process(app, clock, oidc=impatient.services.oidc)
        clock.advance(LIFETIME - 1)
        assert await users.get(session) == session.tokens.access_token
        clock.advance(1)
        with pytest.raises(TokenUnavailable):
            await users.get(session)

    assert await stored(app, session) == session


# No refresh token


async def test_without_a_refresh_token_the_user_must_log_in_when_the_access_token_expires(
    app: RunningApp, browser: Browser, users: UserTokens, provider: Provider, clock: Clock
):
    provider.issues_refresh_token = False
    await browser.login("alice")
    session = await app.session_of(browser)
    clock.advance(LIFETIME - 1)
    assert await users.get(session) == session.tokens.access_token

    clock.advance(1)
    with pytest.raises(ReauthenticationRequired):
        await users.get(session)
    assert await stored(app, session) == session


# Logout


async def test_a_logout_during_a_refresh_wins_and_the_new_refresh_token_is_revoked(
    app: RunningApp,
    browser: Browser,
    users: UserTokens,
    session: Session,
    provider: Provider,
    clock: Clock,
):
    clock.advance(LIFETIME)
    provider.holds_answer["token"] = asyncio.Event()
    request = asyncio.create_task(users.get(session))
    await wait_until(lambda: refreshes(provider))
    await browser.logout()
    provider.holds_answer["token"].set()

    with pytest.raises(NoSession):
        await request
    assert await stored(app, session) is None
    clock.advance(60)  # the browser may be at the provider's logout
    await app.services.revocation.drain_due()
    last_revoked = provider.last_request["revoke"]["token"]
    assert last_revoked.startswith("rt-")
    assert last_revoked != session.tokens.refresh_token
    assert not provider.is_active(last_revoked)


async def test_the_end_of_a_session_revokes_its_refresh_token(
    users: UserTokens, session: Session, provider: Provider
):
    await users.end(session.ref, Reason.SIGNED_OUT)
    await users.end(session.ref, Reason.SIGNED_OUT)  # again, by another tab

    assert not provider.is_active(session.tokens.refresh_token)
    assert provider.counts["revoke"] == 1


async def test_a_session_ends_although_its_refresh_token_cannot_be_revoked(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider
):
    provider.fails["revoke"] = Failure(503)

    await users.end(session.ref, Reason.SIGNED_OUT)

    assert await stored(app, session) is None


async def test_the_end_of_a_session_revokes_nothing_if_the_setting_is_off(
    provider: Provider, api: DemoApi, clock: Clock
):
    async with running_app(provider, api, clock=clock, revoke_refresh_token_on_logout=False) as app:
        browser = Browser(app)
        await browser.login("alice")
        session = await app.session_of(browser)
        await browser.logout()
        await browser.http.aclose()

    assert provider.is_active(session.tokens.refresh_token)


# Revoking by hand


async def test_an_explicit_revocation_leaves_the_session_without_its_refresh_token(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    await users.revoke(session)
    await users.revoke(session)  # there is nothing left to revoke

    assert not provider.is_active(session.tokens.refresh_token)
    assert provider.counts["revoke"] == 1
    assert (await stored(app, session)).tokens == replace(session.tokens, refresh_token=None)
    assert await users.get(await stored(app, session)) == session.tokens.access_token


async def test_after_an_explicit_revocation_the_user_must_log_in_when_the_access_token_expires(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    await users.revoke(session)
    clock.advance(LIFETIME)

    with pytest.raises(ReauthenticationRequired):
        await users.get(session)
    assert await stored(app, session) is not None
    assert refreshes(provider) == 0


async def test_a_failed_revocation_is_retried_and_the_session_loses_the_token_at_once(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    provider.fails["revoke"] = Failure(503)
    await users.revoke(session)
    assert (await stored(app, session)).tokens.refresh_token is None

    provider.fails.clear()
    clock.advance(MINUTE)
    await app.services.revocation.drain_due()
    assert not provider.is_active(session.tokens.refresh_token)


async def test_a_refresh_during_an_explicit_revocation_does_not_end_the_session(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME - 1)
    provider.holds_answer["revoke"] = asyncio.Event()
    revocation = asyncio.create_task(users.revoke(session))
    await wait_until(lambda: provider.counts["revoke"])

    assert await users.get(session) == session.tokens.access_token
    provider.holds_answer["revoke"].set()
    await revocation
    assert (await stored(app, session)).tokens.refresh_token is None


async def test_an_explicit_revocation_during_a_refresh_leaves_no_refresh_token_and_no_expired_token(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME)
    provider.holds_answer["token"] = asyncio.Event()
    request = asyncio.create_task(users.get(session))
    await wait_until(lambda: refreshes(provider))
    await users.revoke(session)
    provider.holds_answer["token"].set()

    with pytest.raises(ReauthenticationRequired):
        await request
    assert (await stored(app, session)).tokens.refresh_token is None
    assert provider.last_request["revoke"]["token"] != session.tokens.refresh_token


class Overtaken(MemorySessions):
    """A store in which another process refreshes the session right after it was read for the first time."""

    reads = 0

    async def get(self, ref: str) -> Session | None:
        session = await super().get(ref)
        self.reads += 1
        if session is not None and self.reads == 1:
            await self.save(replace(session, tokens=replace(session.tokens, refresh_token="rt-newer")))
        return session


async def test_an_explicit_revocation_also_revokes_the_refresh_token_of_a_concurrent_refresh(
    app: RunningApp, session: Session, provider: Provider, clock: Clock
):
    sessions = Overtaken(clock=clock)
    await sessions.create(session)
    users = user_tokens_of_another_process(app, clock, sessions=sessions)

    await users.revoke(session)

    assert (await sessions.get(session.ref)).tokens.refresh_token is None
    assert provider.counts["revoke"] == 2


# Stopping, and secrets


async def test_drain_waits_for_the_refresh_in_flight(
    app: RunningApp, users: UserTokens, session: Session, provider: Provider, clock: Clock
):
    clock.advance(LIFETIME)
    provider.holds_answer["token"] = asyncio.Event()
    request = asyncio.create_task(users.get(session))
    await wait_until(lambda: refreshes(provider))
    stop = asyncio.create_task(users.drain())
    request.cancel()
    await asyncio.wait([request])
    assert not stop.done()

    provider.holds_answer["token"].set()
    await stop
    assert (await stored(app, session)).tokens.access_token != session.tokens.access_token


async def test_a_token_never_shows_in_a_repr_or_in_the_log(
    app: RunningApp,
    users: UserTokens,
    session: Session,
    provider: Provider,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level("DEBUG", logger="app")
    clock.advance(LIFETIME)
    await users.get(session)
    newer = await stored(app, session)
    await users.end(session.ref, Reason.SIGNED_OUT)

    shown = repr([users, session, newer, newer.tokens]) + str([vars(record) for record in caplog.records])
    assert "session refreshed" in shown
    for tokens in (session.tokens, newer.tokens):
        for secret in (tokens.access_token, tokens.refresh_token, tokens.id_token, session.ref):
            assert secret not in shown.replace(repr(session.ref), "")
