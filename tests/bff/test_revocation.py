"""Revocation: the refresh token of a session that is over is revoked, whatever fails meanwhile."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from app.bff.backoff import revocation_seconds
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from app.bff.errors import ReauthenticationRequired, StoreUnavailable
from app.bff.sessions.interfaces import new_pending
from app.bff.sessions.memory import MemorySessions
from app.bff.sessions.session import Reason, Session
from app.bff.tokens.revocation import Revocation
from tests.bff.harness import (
    Browser,
    Clock,
    RunningApp,
    new_browser,
    running_app,
    sign_in,
    user_tokens_of_another_process,
)

MINUTE, DAY = 60, 24 * 3600
LIFETIME = 300  # of the provider's access tokens, in seconds


@pytest.fixture
def revocation(app: RunningApp) -> Revocation:
    return app.services.revocation


def dead(provider: Provider, session: Session) -> bool:
    return not provider.is_active(session.tokens.refresh_token)


# When the provider answers


async def test_the_end_of_a_session_revokes_it_at_once_and_leaves_the_outbox_empty(
    app: RunningApp, session: Session, provider: Provider, revocation: Revocation, clock: Clock
):
    await app.services.tokens.end(session.ref, Reason.OPERATOR)
    assert dead(provider, session)

    clock.advance(DAY / 2)
    await revocation.drain_due()
    assert provider.counts["revoke"] == 1


async def test_a_login_of_another_user_revokes_the_refresh_token_of_the_replaced_session(
    app: RunningApp, browser: Browser, session: Session, provider: Provider
):
    await browser.get(await browser.choose(await browser.start_login(prompt="login"), "bob"))

    assert dead(provider, session)
    assert not dead(provider, await app.session_of(browser))


async def test_ending_a_session_does_not_wait_for_a_slow_revocation_endpoint(
    app: RunningApp, session: Session, provider: Provider
):
    provider.holds["revoke"] = asyncio.Event()
    async with asyncio.timeout(4):  # the provider's own time-out is five
        await app.services.tokens.end(session.ref, Reason.PROVIDER)
    assert await app.services.sessions.get(session.ref) is None

    provider.holds["revoke"].set()
    await app.services.tokens.drain()
    assert dead(provider, session)


async def test_a_login_of_the_same_user_revokes_nothing_because_the_grant_may_be_shared(
    app: RunningApp, browser: Browser, session: Session, provider: Provider
):
    await browser.login("alice")

    assert await app.services.sessions.get(session.ref) is None
    assert provider.counts["revoke"] == 0


async def test_an_unsupported_revocation_is_not_retried(
    app: RunningApp, session: Session, provider: Provider, revocation: Revocation, clock: Clock
):
    refusal = json.dumps({"error": "unsupported_token_type"}).encode()  # RFC 7009 §2.2.1
    provider.fails["revoke"] = Failure(400, refusal)
    await app.services.tokens.end(session.ref, Reason.SIGNED_OUT)
    clock.advance(MINUTE)
    await revocation.drain_due()

    assert provider.counts["revoke"] == 1


async def test_a_provider_without_a_revocation_endpoint_is_not_called(
    provider: Provider, api: DemoApi, clock: Clock, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    provider.overrides["metadata"] = {"revocation_endpoint": None}
    async with running_app(provider, api, clock=clock) as app, new_browser(app) as browser:
        session = await sign_in(app, browser)
        await app.services.tokens.end(session.ref, Reason.SIGNED_OUT)

    assert "refresh token not revoked: the provider has no revocation endpoint" in caplog.messages
    assert provider.counts["revoke"] == 0
    assert not dead(provider, session)


# What the log says


UNSUPPORTED = Failure(400, b'{"error": "unsupported_token_type"}')
REFUSED, YET, NEVER = (
    "refresh token revocation refused",
    "refresh token not revoked yet",
    "refresh token never revoked",
)


@pytest.mark.parametrize(
    ("failure", "level", "message"),
    [
        pytest.param(UNSUPPORTED, "ERROR", REFUSED, id="refused for good"),
        pytest.param(
            Failure(401, b'{"error": "invalid_client"}'), "WARNING", YET, id="our client is refused"
        ),
        pytest.param(Failure(503), "WARNING", YET, id="503"),
    ],
)
async def test_a_failed_revocation_is_logged(
    app: RunningApp,
    session: Session,
    provider: Provider,
    caplog: pytest.LogCaptureFixture,
    failure: Failure,
    level: str,
    message: str,
):
    provider.fails["revoke"] = failure
    await app.services.tokens.end(session.ref, Reason.SIGNED_OUT)

    assert (level, message) in [(record.levelname, record.message) for record in caplog.records]
    assert "refresh token revoked" not in caplog.messages


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        pytest.param(UNSUPPORTED, REFUSED, id="refused for good"),
        pytest.param(Failure(401, b'{"error": "invalid_client"}'), NEVER, id="our client is refused"),
        pytest.param(Failure(503), NEVER, id="503"),
    ],
)
async def test_a_failed_revocation_without_the_outbox_is_logged_as_an_error(
    revocation: Revocation,
    session: Session,
    provider: Provider,
    caplog: pytest.LogCaptureFixture,
    failure: Failure,
    message: str,
):
    provider.fails["revoke"] = failure
    await revocation.revoke_best_effort(session)

    assert ("ERROR", message) in [(record.levelname, record.message) for record in caplog.records]


# When the provider does not answer


NO_ANSWER = [
    pytest.param(Failure(503), id="503"),
    pytest.param(Failure(500, b"<html>Oops</html>"), id="500 with a page"),
    pytest.param(Failure(429), id="429"),
    pytest.param(Failure(401, b'{"error": "invalid_client"}'), id="invalid_client"),
]


@pytest.mark.parametrize("answer", NO_ANSWER)
async def test_the_logout_succeeds_and_the_revocation_is_retried_after(
    browser: Browser,
    session: Session,
    provider: Provider,
    revocation: Revocation,
    clock: Clock,
    answer: Failure,
):
    provider.fails["revoke"] = answer
    assert (await browser.logout()).status_code == 302
    assert (await browser.fetch("/bff/user")).status_code == 401

    provider.fails.clear()
    clock.advance(MINUTE)
    await revocation.drain_due()
    assert dead(provider, session)


async def test_a_revocation_that_times_out_is_retried(provider: Provider, api: DemoApi, clock: Clock):
    async with (
        running_app(provider, api, clock=clock, provider_timeout_seconds=0.2) as app,
        new_browser(app) as browser,
    ):
        session = await sign_in(app, browser)
        provider.holds["revoke"] = asyncio.Event()
        await app.services.tokens.end(session.ref, Reason.SIGNED_OUT)
        assert not dead(provider, session)

        provider.holds.clear()
        clock.advance(MINUTE)
        await app.services.revocation.drain_due()
        assert dead(provider, session)


async def test_a_retry_waits_for_retry_after(
    app: RunningApp, session: Session, provider: Provider, revocation: Revocation, clock: Clock
):
    provider.fails["revoke"] = Failure(503, headers={"Retry-After": "30"})
    await app.services.tokens.end(session.ref, Reason.SIGNED_OUT)
    for seconds in (29, 1):
        clock.advance(seconds)
        await revocation.drain_due()

    assert provider.counts["revoke"] == 2


async def test_retries_become_rarer(
    app: RunningApp, session: Session, provider: Provider, revocation: Revocation, clock: Clock
):
    provider.fails["revoke"] = Failure(503)
    await app.services.tokens.end(session.ref, Reason.SIGNED_OUT)
    for _ in range(3600):
        clock.advance(1)
        await revocation.drain_due()

    assert 8 <= provider.counts["revoke"] <= 14


@pytest.mark.parametrize(("tries", "seconds"), [(0, 5), (1, 10), (2, 20), (6, 320), (7, 600), (999, 600)])
def test_the_pause_grows_with_the_tries(tries: int, seconds: int):
    assert revocation_seconds(tries) == seconds


async def test_after_a_day_retries_stop_and_an_error_is_logged(
    app: RunningApp,
    session: Session,
    provider: Provider,
    revocation: Revocation,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
):
    provider.fails["revoke"] = Failure(503)
    await app.services.tokens.end(session.ref, Reason.SIGNED_OUT)
    clock.advance(DAY - 5)
    await revocation.drain_due()
    provider.fails.clear()
    clock.advance(DAY)
    await revocation.drain_due()

    assert "refresh token never revoked" in caplog.text
    assert provider.counts["revoke"] == 2
    assert session.tokens.refresh_token not in caplog.text + str([vars(r) for r in caplog.records])


async def test_one_token_that_always_fails_does_not_block_the_others(
    app: RunningApp, session: Session, provider: Provider, revocation: Revocation, clock: Clock
):
    provider.fails["revoke"] = Failure(500)
    await app.services.tokens.end(session.ref, Reason.SIGNED_OUT)
    async with new_browser(app) as browser:
        another = await sign_in(app, browser)
        await app.services.tokens.end(another.ref, Reason.SIGNED_OUT)
    clock.advance(MINUTE)
    await revocation.drain_due()  # fails for the first, and leaves it at that
    provider.fails.clear()
    clock.advance(1)
    await revocation.drain_due()

    assert dead(provider, another)


# When we crash


async def test_the_revocation_of_a_dead_process_passes_to_this_one(
    app: RunningApp, session: Session, provider: Provider, revocation: Revocation, clock: Clock
):
    await revocation.enqueue(session)  # and then it died
    await revocation.drain_due()
    assert not dead(provider, session)  # it might be alive

    clock.advance(MINUTE)
    await revocation.drain_due()
    assert dead(provider, session)


class Dying(MemorySessions):
    """A store with which the process dies as soon as it is to delete a session."""

    async def delete(self, ref: str, *, reason: Reason) -> Session | None:
        raise StoreUnavailable


async def test_the_token_is_enqueued_before_the_session_is_deleted(
    app: RunningApp, session: Session, provider: Provider, revocation: Revocation, clock: Clock
):
    sessions = Dying(clock=clock)
    await sessions.create(session)
    with pytest.raises(StoreUnavailable):
        await user_tokens_of_another_process(app, clock, sessions=sessions).end(
            session.ref, Reason.SIGNED_OUT
        )

    clock.advance(MINUTE)
    await revocation.drain_due()
    assert dead(provider, session)


async def test_a_refresh_token_never_goes_to_another_provider(
    app: RunningApp, session: Session, provider: Provider, revocation: Revocation, clock: Clock
):
    now = clock()
    former = new_pending("https://former.example", "rt-1", expires_at=now + DAY)
    await app.services.outbox.put([former], due_at=now)
    await revocation.drain_due()

    assert provider.counts["revoke"] == 0
    assert await app.services.outbox.claim(until=now + DAY) is None


async def test_a_session_of_a_former_provider_is_not_refreshed_at_this_one(
    app: RunningApp, session: Session, provider: Provider, clock: Clock
):
    moved = replace(session, issuer="https://former.example", ref="moved")
    await app.services.sessions.create(moved)
    clock.advance(LIFETIME)

    with pytest.raises(ReauthenticationRequired):
        await app.services.tokens.get(moved)
    assert provider.counts["token:refresh_token"] == 0
