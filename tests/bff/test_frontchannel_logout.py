"""Front-channel logout: a frame of the provider ends the sessions of a `sid`, without a cookie."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from app.bff.dev.provider import Provider
from app.bff.sessions.session import Session
from tests.bff.harness import Browser, RunningApp, new_browser, sign_in

IN_A_FRAME = {"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site"}


@pytest.fixture
async def alice(app: RunningApp, browser: Browser) -> Session:
    return await sign_in(app, browser)


@pytest.fixture
async def frame(app: RunningApp) -> AsyncIterator[httpx2.AsyncClient]:
    """A frame on a page of the provider, to which no cookie of ours is sent."""
    async with httpx2.AsyncClient(base_url=app.base_url, headers=IN_A_FRAME) as http:
        yield http


def of(session: Session, **changed: Any) -> dict[str, str]:
    params = {"iss": session.issuer, "sid": session.sid, **changed}
    return {name: value for name, value in params.items() if value is not None}


async def is_signed_in(browser: Browser) -> bool:
    return (await browser.fetch("/bff/user")).status_code == 200


async def test_the_session_of_the_sid_ends_and_its_refresh_token_is_revoked(
    alice: Session, browser: Browser, frame: httpx2.AsyncClient, provider: Provider
):
    response = await frame.get("/bff/frontchannel", params=of(alice))

    assert response.status_code == 200
    assert not await is_signed_in(browser)
    assert not provider.is_active(str(alice.tokens.refresh_token))


async def test_sessions_of_other_sids_stay(
    app: RunningApp, alice: Session, browser: Browser, frame: httpx2.AsyncClient
):
    async with new_browser(app) as elsewhere:
        other = await sign_in(app, elsewhere)
        await frame.get("/bff/frontchannel", params=of(other))

    assert await is_signed_in(browser)


async def test_a_session_that_is_over_already_is_answered_alike(alice: Session, frame: httpx2.AsyncClient):
    answers = [await frame.get("/bff/frontchannel", params=of(alice)) for _ in range(2)]

    assert [(each.status_code, each.text) for each in answers] == [(200, answers[0].text)] * 2


async def test_pages_of_the_provider_alone_may_frame_it(
    alice: Session, frame: httpx2.AsyncClient, provider: Provider
):
    provider.overrides["metadata"] = {"end_session_endpoint": "https://logout.example/end?x"}
    headers = (await frame.get("/bff/frontchannel", params=of(alice))).headers

    assert headers["Content-Security-Policy"].startswith("default-src 'none'; frame-ancestors ")
    ancestors = headers["Content-Security-Policy"].rpartition("frame-ancestors ")[2].split()
    assert provider.issuer in ancestors
    assert "X-Frame-Options" not in headers
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"iss": "https://evil.example"}, id="another issuer"),
        pytest.param({"iss": None}, id="no issuer"),
        pytest.param({"sid": None}, id="no sid"),
        pytest.param({"sid": ""}, id="an empty sid"),
    ],
)
async def test_nothing_ends_for(
    changed: dict[str, Any], alice: Session, browser: Browser, frame: httpx2.AsyncClient
):
    response = await frame.get("/bff/frontchannel", params=of(alice, **changed))

    assert response.status_code == 400
    assert await is_signed_in(browser)
    assert response.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Sec-Purpose": "prefetch;prerender"}, 204, id="a prefetch"),
        pytest.param({"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"}, 403, id="an image"),
        pytest.param({"Sec-Fetch-Dest": "document"}, 403, id="a link"),
    ],
)
async def test_nothing_ends_by(
    headers: dict[str, str], status: int, alice: Session, browser: Browser, frame: httpx2.AsyncClient
):
    response = await frame.get("/bff/frontchannel", params=of(alice), headers=headers)

    assert response.status_code == status
    assert await is_signed_in(browser)
