"""Logout: what ends, here and at the provider, and what does not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from html import unescape
from typing import Any

import httpx2
import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Failure, Provider
from app.bff.paths import LOGOUT_PATH
from app.bff.sessions.session import Reason, Session, TokenSet, session_ref
from tests.bff.harness import (
    CLIENT_ID,
    Browser,
    Clock,
    RunningApp,
    new_browser,
    query_params,
    refresh_target,
    response_cookies,
    running_app,
    wait_until,
)


@pytest.fixture
async def browser(browser: Browser) -> AsyncIterator[Browser]:
    """A browser in which Alice is signed in."""
    await browser.login("alice")
    return browser


async def refresh_token_of(browser: Browser) -> str:
    session = await browser.app.session_of(browser)
    assert session
    return str(session.tokens.refresh_token)


async def is_signed_in(browser: Browser, session_id: str | None) -> bool:
    response = await browser.http.get("/bff/user", headers={"X-CSRF": "1", "Cookie": f"bff={session_id}"})
    assert response.status_code in (200, 401)
    return response.status_code == 200


def assert_ended_here(response: httpx2.Response, goes_to: str) -> None:
    assert (response.status_code, response.headers["Location"]) == (302, goes_to)
    assert response_cookies(response)["bff"].value == ""


# Both ends


async def test_after_logout_the_old_cookie_opens_nothing(browser: Browser):
    stolen = browser.cookie("bff")
    assert await is_signed_in(browser, stolen)

    await browser.logout()

    assert browser.cookie("bff") is None
    assert not await is_signed_in(browser, stolen)


async def test_the_browser_goes_on_to_the_provider_with_all_it_needs_there(
    app: RunningApp, provider: Provider, browser: Browser
):
    session = await app.session_of(browser)
    response = await browser.logout()
    params = query_params(response.headers["Location"])

    assert session
    assert response.headers["Location"].startswith(f"{provider.issuer}/logout?")
    assert len(params.pop("state")) >= 43
    assert params == {
        "client_id": CLIENT_ID,
        "id_token_hint": session.tokens.id_token,
        "post_logout_redirect_uri": f"{app.base_url}/bff/logout/callback",
    }


async def test_the_next_login_asks_at_the_provider_again(browser: Browser):
    await browser.http.get((await browser.logout()).headers["Location"])
    page = await browser.http.get(await browser.start_login())

    assert page.status_code == 200  # its login page, and no way straight back


@pytest.mark.parametrize("by", ["by its link", "by JavaScript"])
@pytest.mark.parametrize(
    ("setting", "cleared"),
    [({}, '"cache"'), ({"clear_storage_on_logout": True}, '"cache", "storage"')],
    ids=["by default", "with the setting"],
)
async def test_the_browser_clears_its_cache_and_its_storage_only_by_a_setting(
    by: str, setting: dict[str, bool], cleared: str, provider: Provider, api: DemoApi, clock: Clock
):
    async with running_app(provider, api, clock=clock, **setting) as app, new_browser(app) as browser:
        await browser.login()
        response = await LOGOUTS[by](browser)

    assert response.headers["Clear-Site-Data"] == cleared
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"  # the URL has the sid


async def test_the_refresh_token_is_revoked_once_the_provider_has_sent_the_browser_back(
    provider: Provider, browser: Browser
):
    refresh_token = await refresh_token_of(browser)
    out = await browser.logout()
    back = (await browser.http.get(out.headers["Location"])).headers["Location"]
    assert provider.is_active(refresh_token)
    await browser.navigate_from_other_site(back)

    assert not provider.is_active(refresh_token)
    assert provider.last_request["revoke"] == {"token": refresh_token, "token_type_hint": "refresh_token"}


async def test_the_refresh_token_of_a_browser_that_does_not_come_back_is_revoked_after_a_minute(
    app: RunningApp, provider: Provider, browser: Browser, clock: Clock
):
    refresh_token = await refresh_token_of(browser)
    await browser.logout()
    active = []
    for seconds in (59, 1):
        clock.advance(seconds)
        await app.services.revocation.drain_due()
        active.append(provider.is_active(refresh_token))

    assert active == [True, False]


LOGOUTS = {
    "by its link": lambda browser: browser.logout(),
    "by JavaScript": lambda browser: browser.fetch("/bff/logout", "POST"),
}


@pytest.mark.parametrize("by", LOGOUTS)
async def test_a_provider_whose_session_ends_with_its_refresh_token_is_logged_out_first(
    by: str, provider: Provider, browser: Browser
):
    provider.sessions_end_with_their_grants = True
    answer = await LOGOUTS[by](browser)
    if by == "by JavaScript":
        answer = await browser.get(answer.json()["url"])
    there = await browser.http.get(answer.headers["Location"])

    assert there.status_code == 303
    assert (await browser.http.get(await browser.start_login())).status_code == 200  # it asks who it is
    await browser.navigate_from_other_site(there.headers["Location"])
    assert provider.counts["revoke"] == 1


async def test_a_refresh_in_flight_revokes_nothing_before_the_provider_is_logged_out(
    app: RunningApp, provider: Provider, browser: Browser, clock: Clock
):
    provider.sessions_end_with_their_grants = True
    held = provider.holds_answer["token"] = asyncio.Event()
    clock.advance(300)
    call = asyncio.create_task(browser.fetch("/api/echo"))
    await wait_until(lambda: provider.counts["token:refresh_token"] == 1)
    out = await browser.logout()
    held.set()

    assert (await call).status_code == 401
    assert (await browser.http.get(out.headers["Location"])).status_code == 303
    clock.advance(60)
    await app.services.revocation.drain_due()
    assert provider.counts["revoke"] == 2  # what the session had, and what the refresh brought


async def test_a_login_that_starts_before_the_browser_came_back_does_not_share_what_is_revoked_later(
    app: RunningApp, provider: Provider, browser: Browser, clock: Clock
):
    refresh_token = await refresh_token_of(browser)
    await browser.logout()
    await browser.get("/bff/login?prompt=none")
    assert provider.is_active(refresh_token)  # another tab may look whether the user is signed in
    callback = await browser.start_login()
    assert not provider.is_active(refresh_token)

    await browser.get(await browser.choose(callback))
    clock.advance(60)
    await app.services.revocation.drain_due()
    assert provider.counts["revoke"] == 1


async def test_a_second_click_on_the_link_forgets_no_revocation(provider: Provider, browser: Browser):
    refresh_token = await refresh_token_of(browser)
    link = await browser.logout_url()
    await browser.get(link)
    back = (await browser.http.get((await browser.get(link)).headers["Location"])).headers["Location"]
    await browser.navigate_from_other_site(back)

    assert not provider.is_active(refresh_token)


async def test_the_refresh_token_is_revoked_at_once_where_the_provider_has_no_logout_page(
    provider: Provider, api: DemoApi, clock: Clock
):
    provider.overrides["metadata"] = {"end_session_endpoint": None}
    async with running_app(provider, api, clock=clock) as app, new_browser(app) as browser:
        await browser.login()
        refresh_token = await refresh_token_of(browser)
        assert_ended_here(await browser.logout(), "/")

    assert not provider.is_active(refresh_token)


async def test_a_way_back_that_we_did_not_start_revokes_nothing(provider: Provider, browser: Browser):
    await browser.logout()
    await browser.navigate_from_other_site("/bff/logout/callback?state=forged")

    assert provider.counts["revoke"] == 0


async def test_the_refresh_token_lives_on_where_the_setting_says_so(
    provider: Provider, api: DemoApi, clock: Clock
):
    settings = {"revoke_refresh_token_on_logout": False}
    async with running_app(provider, api, clock=clock, **settings) as app, new_browser(app) as browser:
        await browser.login()
        refresh_token = await refresh_token_of(browser)
        await browser.logout()

    assert provider.is_active(refresh_token)
    assert provider.counts["revoke"] == 0


async def test_the_session_of_another_browser_stays(app: RunningApp, browser: Browser):
    async with new_browser(app) as laptop:
        await laptop.login("alice")
        await browser.logout()

        assert await is_signed_in(laptop, laptop.cookie("bff"))


# Who may ask


@pytest.mark.parametrize("query", ["", "?sid=", "?sid=guessed", "?sid=%C3%A9", "?sid=a&sid=b"])
async def test_without_the_right_sid_nothing_is_ended(
    query: str, app: RunningApp, provider: Provider, browser: Browser
):
    session = await app.session_of(browser)
    response = await browser.get(f"/bff/logout{query}")

    assert session
    assert response.status_code == 400
    assert "bff" not in response_cookies(response)
    assert await app.session_of(browser) == session
    assert provider.counts["revoke"] == 0


@pytest.mark.parametrize("fetch_metadata", [True, False], ids=["a browser of today", "an old browser"])
async def test_a_link_on_another_site_ends_no_session(fetch_metadata: bool, browser: Browser):
    link = "/bff/logout?sid=guessed"
    if fetch_metadata:
        arrived = await browser.navigate_from_other_site(link)
        assert arrived.status_code == 400
    else:  # it has sent no cookie, and says nothing else either
        arrived = await browser.http.get(link, headers={"Cookie": "", "Accept": "text/html"})

    assert "bff" not in response_cookies(arrived)


async def test_the_refusal_states_the_reason_and_does_not_reveal_the_sid(app: RunningApp, browser: Browser):
    session = await app.session_of(browser)
    response = await browser.http.get("/bff/logout?sid=guessed", headers={"Sec-Fetch-Mode": "cors"})
    page = await browser.get("/bff/logout?sid=guessed")

    assert session
    assert response.json()["code"] == "wrong_sid"
    assert "<code>wrong_sid</code>" in page.text
    assert session.sid not in response.text


async def test_the_sid_of_another_session_ends_nothing(app: RunningApp, browser: Browser):
    async with new_browser(app) as attacker:
        await attacker.login("bob")
        link = await attacker.logout_url()

    assert (await browser.get(link)).status_code == 400
    assert await app.session_of(browser)


async def test_a_provider_without_sids_does_not_weaken_the_link(
    app: RunningApp, provider: Provider, browser: Browser
):
    provider.overrides["id_token"] = {"sid": None}
    await browser.login()
    session = await app.session_of(browser)

    assert session
    assert len(session.sid) >= 16
    assert (await browser.get("/bff/logout?sid=")).status_code == 400
    assert (await browser.logout()).status_code == 302


OWN_LINK = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
WITHOUT_SID = {
    "a link of our own page": (OWN_LINK, 302),
    "a link of another site": ({**OWN_LINK, "Sec-Fetch-Site": "cross-site"}, 400),
    "a link of a sibling host": ({**OWN_LINK, "Sec-Fetch-Site": "same-site"}, 400),
    "an address that was typed": ({**OWN_LINK, "Sec-Fetch-Site": "none"}, 400),
    "an image of our own page": ({**OWN_LINK, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 400),
    "a frame of our own page": ({**OWN_LINK, "Sec-Fetch-Dest": "iframe"}, 400),
    "a browser without Fetch Metadata": ({"Accept": "text/html"}, 400),
}


@pytest.mark.parametrize("started_by", WITHOUT_SID)
async def test_where_the_provider_sends_no_sid_a_link_without_one_does_on_our_own_pages(
    started_by: str, app: RunningApp, provider: Provider, browser: Browser
):
    headers, status = WITHOUT_SID[started_by]
    provider.overrides["id_token"] = {"sid": None}
    await browser.login()
    answer = await browser.http.get("/bff/logout", headers=headers)

    assert answer.status_code == status
    assert (await app.session_of(browser) is None) == (status == 302)


async def test_where_the_provider_sends_a_sid_our_own_pages_need_it_too(app: RunningApp, browser: Browser):
    answer = await browser.http.get("/bff/logout", headers=OWN_LINK)

    assert answer.status_code == 400
    assert await app.session_of(browser)


@pytest.mark.parametrize("way", [{}, {"prompt": "none"}], ids=["login", "silent login"])
@pytest.mark.parametrize("path", ["/bff/logout", "/bff/logout?returnUrl=/", "/BFF/Logout/", "/bff/%6Cogout"])
async def test_no_login_that_another_site_has_started_ends_at_a_logout(
    path: str, way: dict[str, str], browser: Browser
):
    await browser.http.get(await browser.start_login(path, **way))  # the provider knows her still
    back = await browser.get(await browser.choose(await browser.start_login(path, **way)))

    assert refresh_target(back.text) == "/"


async def test_a_session_that_is_over_is_ended_at_the_provider_all_the_same(
    app: RunningApp, browser: Browser
):
    link = await browser.logout_url()
    session = await app.session_of(browser)
    assert session
    await app.services.tokens.end(session.ref, Reason.PROVIDER)

    response = await browser.get(f"{link}&returnUrl=/orders")

    assert response.headers["Location"].startswith(f"{app.services.provider.issuer}/")
    assert query_params(response.headers["Location"])["id_token_hint"] == session.tokens.id_token
    assert browser.cookie("bff") is None
    assert (await browser.get(await browser.choose(response.headers["Location"]))).headers[
        "Location"
    ] == "/orders"


async def test_without_a_session_the_browser_is_redirected_to_the_return_path(browser: Browser):
    browser.delete_cookie("bff")
    response = await browser.get("/bff/logout?returnUrl=/account")

    assert (response.status_code, response.headers["Location"]) == (302, "/account")
    assert not response_cookies(response)


@pytest.mark.parametrize(
    "path", ["//evil.example", "/%5Cevil.example", "https%3A%2F%2Fevil.example", "/%09/evil"]
)
async def test_a_return_path_that_is_refused_is_the_home_page(
    path: str, app: RunningApp, browser: Browser, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    out = await browser.get(f"{await browser.logout_url()}&returnUrl={path}")
    back = await browser.http.get(out.headers["Location"])
    response = await browser.navigate_from_other_site(back.headers["Location"])

    assert response.headers["Location"] == "/"
    assert await app.session_of(browser) is None
    assert caplog.text.count("return path refused") == 1


async def test_javascript_whose_return_path_is_refused_is_sent_home(browser: Browser):
    browser.delete_cookie("bff")

    assert (await browser.fetch("/bff/logout?returnUrl=//evil.example", "POST")).json() == {"url": "/"}


# Back from the provider


async def test_the_provider_redirects_the_browser_to_the_return_url(browser: Browser):
    out = await browser.get(f"{await browser.logout_url()}&returnUrl=/account%3Ftab%3D2")
    back = await browser.http.get(out.headers["Location"])
    response = await browser.navigate_from_other_site(back.headers["Location"])

    assert (response.status_code, response.headers["Location"]) == (302, "/account?tab=2")
    assert response_cookies(response)["bff-logout"].value == ""


@pytest.mark.parametrize("state", ["", "state=", "state=forged", "state=%C3%A9"])
async def test_a_way_back_that_we_did_not_start_leads_home(state: str, browser: Browser):
    await browser.get(f"{await browser.logout_url()}&returnUrl=/account")
    response = await browser.navigate_from_other_site(f"/bff/logout/callback?{state}")

    assert (response.status_code, response.headers["Location"]) == (302, "/")


@pytest.mark.parametrize("cookie", [None, "garbage", "é"])
async def test_a_way_back_without_our_cookie_leads_home(cookie: str | None, browser: Browser):
    headers = {"Cookie": f"bff-logout={cookie}".encode()} if cookie else {}
    browser.http.cookies.clear()
    response = await browser.http.get("/bff/logout/callback?state=x", headers=headers)

    assert (response.status_code, response.headers["Location"]) == (302, "/")


async def test_the_way_back_ends_no_session(app: RunningApp, browser: Browser):
    await browser.get("/bff/logout/callback?state=forged")

    assert await app.session_of(browser)


async def test_the_return_path_waits_sealed_in_a_cookie_for_ten_minutes(browser: Browser):
    response = await browser.get(f"{await browser.logout_url()}&returnUrl=/account")
    cookie = response_cookies(response)["bff-logout"]

    assert "account" not in cookie.value
    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (True, "Lax", "600")


# A provider that cannot do its part


async def test_a_provider_without_a_logout_page_stops_nothing(
    provider: Provider, browser: Browser, clock: Clock
):
    provider.overrides["metadata"] = {"end_session_endpoint": None}
    clock.advance(3601)  # what was published an hour ago is fetched again
    await browser.login()

    assert_ended_here(await browser.get(f"{await browser.logout_url()}&returnUrl=/account"), "/account")


async def test_a_provider_that_revokes_nothing_stops_nothing(
    provider: Provider, browser: Browser, clock: Clock
):
    provider.overrides["metadata"] = {"revocation_endpoint": None}
    clock.advance(3601)
    await browser.login()
    before = provider.counts["revoke"]
    response = await browser.logout()

    assert response_cookies(response)["bff"].value == ""
    assert provider.counts["revoke"] == before


@pytest.mark.parametrize(
    "failure", [Failure(503, headers={"Retry-After": "9"}), Failure(500), Failure(400), Failure(401)]
)
async def test_a_revocation_that_fails_stops_nothing(
    failure: Failure, app: RunningApp, provider: Provider, browser: Browser
):
    session_id = browser.cookie("bff")
    provider.fails["revoke"] = failure
    response = await browser.logout()

    assert response.headers["Location"].startswith(f"{provider.issuer}/logout?")
    assert not await is_signed_in(browser, session_id)


async def test_a_provider_that_is_away_stops_nothing(provider: Provider, browser: Browser):
    session_id = browser.cookie("bff")
    link = await browser.logout_url()
    await provider.stop()
    response = await browser.get(link)

    assert response.status_code == 302
    assert not await is_signed_in(browser, session_id)


async def test_a_provider_that_this_process_has_never_reached_stops_nothing(
    app: RunningApp, provider: Provider, clock: Clock
):
    tokens = TokenSet("at-x", received_at=clock.now, refresh_token="rt-x", id_token="it-x")
    ends = {"created_at": clock.now, "renewed_at": clock.now, "expires_at": clock.now + 60}
    session = Session(session_ref("id"), provider.issuer, "alice", "sid", {"sub": "alice"}, tokens, **ends)
    await app.services.sessions.create(session)
    await provider.stop()

    async with new_browser(app) as browser:
        response = await browser.get(f"{LOGOUT_PATH}?sid=sid&returnUrl=/account", Cookie="bff=id")
    assert_ended_here(response, "/account")
    assert await app.services.sessions.get(session.ref) is None


async def test_two_tabs_that_signed_in_at_the_same_time_are_signed_out_together(
    app: RunningApp, provider: Provider
):
    async with new_browser(app) as tabs:
        urls = [await tabs.start_login(), await tabs.start_login()]
        callbacks = [await tabs.choose(url) for url in urls]
        sessions = []
        for callback in callbacks:
            tabs.delete_cookie("bff")  # Strict, and the browser has no Fetch Metadata: not repeated
            await tabs.get(callback)
            sessions.append(await app.session_of(tabs))
        await tabs.logout()

        assert len({session.ref for session in sessions if session}) == 2
        assert [await app.services.sessions.get(session.ref) for session in sessions if session] == [
            None,
            None,
        ]


# By a page's JavaScript


async def test_javascript_ends_the_session_here_and_then_navigates_to_the_provider(
    app: RunningApp, browser: Browser, provider: Provider
):
    stolen, refresh_token = browser.cookie("bff"), await refresh_token_of(browser)
    response = await browser.fetch("/bff/logout?returnUrl=/orders", "POST")

    assert (response.status_code, response.json()) == (200, {"url": LOGOUT_PATH})
    assert not await is_signed_in(browser, stolen)

    onwards = await browser.get(response.json()["url"])
    assert "id_token_hint" in query_params(onwards.headers["Location"])
    back = await browser.get(await browser.choose(onwards.headers["Location"]))
    assert back.headers["Location"] == "/orders"
    assert not provider.is_active(refresh_token)


async def test_no_script_sees_the_id_token(app: RunningApp, browser: Browser):
    session = await app.session_of(browser)
    assert session
    assert session.tokens.id_token
    response = await browser.fetch("/bff/logout", "POST")

    assert session.tokens.id_token not in f"{response.headers} {response.text}"
    assert response_cookies(response)["bff-logout"]["httponly"]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="without X-CSRF"),
        pytest.param({"X-CSRF": "1", "Sec-Fetch-Site": "cross-site"}, id="by another site"),
        pytest.param({"X-CSRF": "1", "Origin": "https://evil.example"}, id="by another origin"),
    ],
)
async def test_nothing_is_ended_by_javascript(headers: dict[str, str], browser: Browser):
    response = await browser.http.post("/bff/logout", headers=headers)

    assert response.status_code == 403
    assert await is_signed_in(browser, browser.cookie("bff"))


async def test_javascript_without_a_session_is_sent_on(browser: Browser):
    await browser.fetch("/bff/logout", "POST")
    browser.delete_cookie("bff-logout")

    assert (await browser.fetch("/bff/logout?returnUrl=/orders", "POST")).json() == {"url": "/orders"}


async def test_javascript_is_sent_on_where_the_provider_has_no_logout_page(
    provider: Provider, api: DemoApi, clock: Clock
):
    provider.overrides["metadata"] = {"end_session_endpoint": None}
    async with running_app(provider, api, clock=clock) as app, new_browser(app) as browser:
        await browser.login("alice")

        assert (await browser.fetch("/bff/logout?returnUrl=/orders", "POST")).json() == {"url": "/orders"}


async def test_javascript_whose_session_is_over_ends_it_at_the_provider_all_the_same(
    app: RunningApp, browser: Browser
):
    session = await app.session_of(browser)
    assert session
    await app.services.tokens.end(session.ref, Reason.OPERATOR)
    response = await browser.fetch("/bff/logout", "POST")

    onwards = await browser.get(response.json()["url"])
    assert onwards.headers["Location"].startswith(app.services.provider.issuer)
    assert query_params(onwards.headers["Location"])["id_token_hint"] == session.tokens.id_token


async def test_what_no_cookie_can_hold_is_looked_up_again(app: RunningApp, browser: Browser):
    long = "/" + 1000 * "a"
    session = await app.session_of(browser)
    assert session
    tokens = replace(session.tokens, id_token=1700 * "x")
    await app.services.sessions.save(replace(session, tokens=tokens))
    response = await browser.fetch(f"/bff/logout?returnUrl={long}", "POST")

    assert len(response.headers["Set-Cookie"]) < 4096
    onwards = await browser.get(response.json()["url"])
    assert query_params(onwards.headers["Location"])["id_token_hint"] == 1700 * "x"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_site_that_knows_the_sid_signs_nobody_out(site: str, app: RunningApp, browser: Browser):
    link = await browser.logout_url()
    answer = await browser.get(link, Sec_Fetch_Site=site)
    sent = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": site}
    without_cookie = await browser.http.get(link, headers={**sent, "Cookie": ""})

    assert (answer.status_code, without_cookie.status_code) == (400, 400)
    assert "http-equiv" not in without_cookie.text
    assert await app.session_of(browser)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"issuer": "https://former.example"}, id="another provider"),
        pytest.param({"claims": {"sub": "alice", "aud": "former"}}, id="another client"),
    ],
)
async def test_no_id_token_is_sent_that_was_issued_by_or_for(
    changed: dict[str, Any], app: RunningApp, browser: Browser
):
    session = await app.session_of(browser)
    assert session
    await app.services.sessions.delete(session.ref, reason=Reason.EXPIRED)
    await app.services.sessions.create(replace(session, **changed))
    page = await browser.logout()
    link = unescape(re.findall(r'class="button" href="([^"]+)"', page.text)[0])

    assert (page.status_code, query_params(link).keys()) == (
        200,
        {"client_id", "post_logout_redirect_uri", "state"},
    )
    assert (await browser.http.get(link)).status_code == 303


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_the_way_back_leads_to_whichever_process_and_is_revoked_by_it(
    driver: str, provider: Provider, api: DemoApi, mongod: Mongod, clock: Clock
):
    store = {"session_store": f"{mongod.uri}/test-logout", "mongodb_driver": driver}
    async with (
        running_app(provider, api, clock=clock, **store) as other,
        running_app(provider, api, clock=clock, **store) as app,
        new_browser(app) as browser,
    ):
        await browser.login()
        refresh_token = await refresh_token_of(browser)
        state = query_params((await browser.logout()).headers["Location"])["state"]
        await other.services.revocation.drain_due()
        assert provider.is_active(refresh_token)
        await browser.get(f"{other.base_url}/bff/logout/callback?state={state}")

        assert not provider.is_active(refresh_token)
        clock.advance(61)
        await app.services.revocation.drain_due()
        assert provider.counts["revoke"] == 1
