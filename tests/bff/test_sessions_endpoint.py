"""`/bff/sessions`: where a user is signed in, and signing out there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.bff.dev.provider import Provider
from tests.bff.harness import Browser, Clock, RunningApp, new_browser, response_cookies, wait_until

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0"


@pytest.fixture
async def browser(browser: Browser, clock: Clock) -> Browser:
    """Alice at her desk."""
    browser.http.headers["User-Agent"] = FIREFOX
    await browser.login("alice")
    clock.advance(100)
    return browser


@pytest.fixture
async def phone(browser: Browser, app: RunningApp) -> AsyncIterator[Browser]:
    """Alice again, who has signed in somewhere else after that."""
    async with new_browser(app) as phone:
        await phone.login("alice")
        yield phone


async def listed(browser: Browser) -> list[dict[str, Any]]:
    return list((await browser.fetch("/bff/sessions")).json())


async def session_ref_of(browser: Browser) -> str:
    session = await browser.app.session_of(browser)
    assert session
    return session.ref


async def id_of(browser: Browser) -> str:
    [current] = [entry for entry in await listed(browser) if entry["current"]]
    return str(current["id"])


async def test_a_session_says_which_browser_it_is_and_how_long_it_has_been_there(
    browser: Browser, clock: Clock
):
    [entry] = await listed(browser)

    now = int(clock())
    assert entry.pop("id")
    assert entry == {
        "device": "Firefox on Linux",
        "created_at": now - 100,
        "last_used_at": now,
        "expires_at": now + 3600,
        "current": True,
    }


async def test_this_one_comes_first_and_then_the_one_that_was_last_used(
    browser: Browser, phone: Browser, app: RunningApp, clock: Clock
):
    async with new_browser(app) as tablet:
        clock.advance(100)
        await tablet.login("alice")
        here, *elsewhere = await listed(browser)

        assert [entry["current"] for entry in (here, *elsewhere)] == [True, False, False]
        assert [entry["id"] for entry in elsewhere] == [await id_of(tablet), await id_of(phone)]


async def test_nothing_in_the_list_opens_or_finds_a_session(app: RunningApp, browser: Browser):
    session = await app.session_of(browser)
    assert session
    shown = (await browser.fetch("/bff/sessions")).text

    for secret in (browser.cookie("bff"), session.ref, session.sid, session.tokens.access_token):
        assert str(secret) not in shown


async def test_the_sessions_of_others_are_not_shown(browser: Browser, app: RunningApp):
    async with new_browser(app) as bobs:
        await bobs.login("bob")

        assert len(await listed(bobs)) == len(await listed(browser)) == 1


async def test_a_session_elsewhere_is_ended_and_its_refresh_token_is_dead(
    app: RunningApp, browser: Browser, phone: Browser, provider: Provider
):
    session = await app.session_of(phone)
    assert session
    response = await browser.fetch(f"/bff/sessions/{await id_of(phone)}", "DELETE")

    assert (response.status_code, response.content) == (204, b"")
    assert (await phone.fetch("/bff/user")).status_code == 401
    assert not provider.is_active(str(session.tokens.refresh_token))
    assert (await browser.fetch("/bff/user")).status_code == 200


async def test_all_others_are_ended_at_once(app: RunningApp, browser: Browser, phone: Browser):
    async with new_browser(app) as bobs:
        await bobs.login("bob")
        assert (await browser.fetch("/bff/sessions", "DELETE")).status_code == 204

        assert [await app.session_of(each) is not None for each in (browser, phone, bobs)] == [
            True,
            False,
            True,
        ]


async def test_none_of_them_outlives_another_because_the_provider_is_slow(
    app: RunningApp, provider: Provider, browser: Browser, phone: Browser
):
    async with new_browser(app) as tablet:
        await tablet.login("alice")
        elsewhere = [await session_ref_of(phone), await session_ref_of(tablet)]
        revoking = provider.holds["revoke"] = asyncio.Event()
        ending = asyncio.create_task(browser.fetch("/bff/sessions", "DELETE"))
        await wait_until(lambda: provider.counts["revoke"] > 0)

        assert [await app.services.sessions.get(ref) for ref in elsewhere] == [None, None]
        revoking.set()
        assert (await ending).status_code == 204


async def test_this_one_can_be_ended_too_and_its_cookie_goes(app: RunningApp, browser: Browser):
    response = await browser.fetch(f"/bff/sessions/{await id_of(browser)}", "DELETE")

    assert response.status_code == 204
    assert response_cookies(response)["bff"].value == ""


async def test_what_is_ended_already_is_not_there(browser: Browser, phone: Browser):
    id_ = await id_of(phone)
    await browser.fetch(f"/bff/sessions/{id_}", "DELETE")
    again = await browser.fetch(f"/bff/sessions/{id_}", "DELETE")

    assert (again.status_code, again.json()["code"]) == (404, "not_found")


async def test_a_session_of_another_user_is_not_ended(app: RunningApp, browser: Browser):
    async with new_browser(app) as bobs:
        await bobs.login("bob")
        session = await app.session_of(bobs)
        assert session
        for id_ in (session.public_id, session.ref):
            assert (await browser.fetch(f"/bff/sessions/{id_}", "DELETE")).status_code == 404

        assert await app.session_of(bobs)


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("DELETE", ""), ("DELETE", "/0123456789abcdef")])
async def test_only_a_page_of_ours_with_a_session_may(
    method: str, path: str, browser: Browser, app: RunningApp
):
    forged = await browser.fetch(f"/bff/sessions{path}", method, csrf=False)
    assert (forged.status_code, forged.json()["code"]) == (403, "csrf_rejected")

    async with new_browser(app) as stranger:
        refused = await stranger.fetch(f"/bff/sessions{path}", method)
        assert (refused.status_code, refused.json()["code"]) == (401, "no_session")
