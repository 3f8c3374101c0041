"""Work outside a request: a job that keeps a session's ref, and nothing else."""

from __future__ import annotations

import pytest

from app.bff.dev.provider import Provider
from app.bff.errors import NoSession
from app.bff.services import Services
from app.bff.sessions.session import Session
from tests.bff.harness import Browser, Clock, RunningApp

LIFETIME = 300  # of the provider's access tokens, in seconds
IDLE = 3600  # how long an unused session lasts


@pytest.fixture
def services(app: RunningApp) -> Services:
    return app.services


async def test_a_job_gets_the_users_current_token(services: Services, session: Session, provider: Provider):
    assert await services.tokens.for_session(session.ref) == session.tokens.access_token
    assert provider.counts["token:refresh_token"] == 0


async def test_hours_later_it_gets_one_that_is_good_then(
    services: Services, session: Session, provider: Provider, clock: Clock
):
    for _ in range(5):
        clock.advance(LIFETIME)
        assert provider.is_active(await services.tokens.for_session(session.ref))

    assert provider.counts["token:refresh_token"] == 5


async def test_after_a_logout_there_is_none_although_the_access_token_would_still_be_good(
    services: Services, browser: Browser, session: Session, provider: Provider
):
    await browser.logout()

    with pytest.raises(NoSession):
        await services.tokens.for_session(session.ref)


async def test_a_job_does_not_keep_the_session_alive(services: Services, session: Session, clock: Clock):
    for _ in range(11):
        clock.advance(IDLE / 12)
        await services.tokens.for_session(session.ref)
    clock.advance(IDLE / 12)

    with pytest.raises(NoSession):
        await services.tokens.for_session(session.ref)


async def test_it_can_ask_for_a_scope_and_a_resource(
    services: Services, session: Session, provider: Provider
):
    await services.tokens.for_session(session.ref, scope="openid", resource="https://orders.example")

    token_request = provider.last_request["token"]
    assert (token_request["scope"], token_request["resource"]) == ("openid", "https://orders.example")


async def test_a_ref_opens_nothing_in_a_browser(app: RunningApp, browser: Browser, session: Session):
    browser.delete_cookie(app.services.cookies.session_name)
    cookie = {"Cookie": f"{app.services.cookies.session_name}={session.ref}"}

    assert (await browser.fetch("/bff/user", headers=cookie)).status_code == 401


async def test_a_named_client_works_for_a_job_too(services: Services, session: Session, provider: Provider):
    client = services.clients.create("apiClient", await services.sessions.get(session.ref))
    async with client.get("echo") as response:
        assert (await response.json())["user"] == "alice"
