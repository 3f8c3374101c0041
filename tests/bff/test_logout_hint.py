"""The ID token at a logout: posted where a URL is too short for it, and known for a while afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import httpx2
import pytest
from playwright.async_api import expect
from pymongo import MongoClient

from app.bff.crypto import Vault
from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Provider
from app.bff.oidc.browser_requests import LogoutRequest
from app.bff.sessions.interfaces import TOMBSTONE_SECONDS, SessionStore
from app.bff.sessions.mongo.connection import connect
from app.bff.sessions.mongo.sessions import MongoSessions
from app.bff.sessions.session import LogoutHint, Reason, Session
from tests.bff.browser_users import running_chromium, running_site
from tests.bff.certified_provider import parse_form
from tests.bff.harness import (
    KEY,
    Browser,
    Clock,
    RunningApp,
    new_browser,
    query_params,
    response_cookies,
    running_app,
)
from tests.bff.test_session_store import a_session, clock, store  # noqa: F401  (fixtures)

LONG = {"groups": [f"group-{number:03}-{'g' * 40}" for number in range(120)]}
IDLE_SECONDS = 3600


@pytest.fixture
async def groups(provider: Provider, browser: Browser) -> Browser:
    """A browser in which alice is signed in, who is in 120 groups."""
    provider.overrides["id_token"] = LONG
    await browser.login()
    return browser


async def id_token_of(browser: Browser) -> str:
    session = await browser.app.session_of(browser)
    assert session
    assert session.tokens.id_token
    return session.tokens.id_token


def policy_of(page: httpx2.Response) -> dict[str, str]:
    parts = (part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    return {name: " ".join(values) for name, *values in parts}


def link_there(page: httpx2.Response) -> str:
    """Where the page that says that only the session here has ended leads."""
    assert page.status_code == 200
    assert "You are signed out here" in page.text
    return unescape(re.findall(r'class="button" href="([^"]+)"', page.text)[0])


# Beyond the length of a URL


async def test_an_id_token_that_is_too_long_for_a_url_is_posted(groups: Browser, provider: Provider):
    id_token = await id_token_of(groups)
    page = await groups.logout()
    action, fields = parse_form(page.text)

    assert (page.status_code, action) == (200, f"{provider.issuer}/logout")
    assert fields["id_token_hint"] == id_token
    assert fields.keys() == {"client_id", "id_token_hint", "post_logout_redirect_uri", "state"}
    back = await groups.http.post(action, data=fields)
    assert (await groups.get(back.headers["Location"])).headers["Location"] == "/"
    assert provider.counts["revoke"] == 1


async def test_only_the_page_that_posts_may_post_to_the_provider(groups: Browser, provider: Provider):
    other = await groups.get("/bff/logout?sid=wrong")
    page = await groups.logout()

    assert policy_of(page)["form-action"] == f"'self' {provider.issuer} https:"
    assert policy_of(other)["form-action"] == "'self'"


async def test_no_other_window_reads_the_page_that_posts(groups: Browser):
    page = await groups.logout()

    assert page.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert (page.headers["X-Frame-Options"], page.headers["Cache-Control"]) == ("DENY", "no-store")
    assert page.headers["Referrer-Policy"] == "strict-origin"  # with less, `Origin: null` would be sent


async def test_a_click_on_the_link_once_more_posts_the_same(groups: Browser):
    link, id_token = await groups.logout_url(), await id_token_of(groups)
    pages = [await groups.get(link) for _ in range(2)]

    assert [parse_form(page.text)[1]["id_token_hint"] for page in pages] == [id_token, id_token]


async def test_javascript_signs_out_with_a_long_id_token(groups: Browser, provider: Provider):
    id_token = await id_token_of(groups)
    answer = await groups.fetch("/bff/logout?returnUrl=/orders", "POST")
    assert len(answer.headers["Set-Cookie"]) < 4096
    action, fields = parse_form((await groups.get(answer.json()["url"])).text)

    assert fields["id_token_hint"] == id_token
    back = await groups.http.post(action, data=fields)
    assert (await groups.get(back.headers["Location"])).headers["Location"] == "/orders"
    assert provider.counts["revoke"] == 1


@pytest.mark.parametrize(
    "sent",
    [
        {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "same-origin"},
        {"Accept": "*/*"},
    ],
    ids=["by fetch()", "in a frame", "by an old browser's fetch()"],
)
async def test_no_script_gets_the_page_that_posts(sent: dict[str, str], groups: Browser):
    id_token = await id_token_of(groups)
    answers = [await groups.fetch("/bff/logout", "POST"), await groups.http.get("/bff/logout", headers=sent)]

    assert [id_token in answer.text for answer in answers] == [False, False]
    assert "id_token_hint" not in query_params(link_there(answers[1]))


def test_no_parameter_of_the_endpoint_is_sent_twice():
    request = LogoutRequest("https://p.example/out?tenant=a&state=x", {"state": "s"}, 2000 * "x")

    assert request.action == "https://p.example/out?tenant=a"
    assert request.url is None
    assert request.unhinted_url == "https://p.example/out?tenant=a&state=s"


@pytest.mark.parametrize("way", ["by the link", "by JavaScript"])
async def test_a_browser_signs_out_with_a_long_id_token(way: str, clock: Clock):  # noqa: F811
    async with running_site(clock) as site, running_chromium() as chromium:
        site.provider.overrides["id_token"] = LONG
        page = await chromium.new_page()
        await page.goto(f"{site.url}/bff/login?returnUrl=/account")
        await page.get_by_role("button", name=re.compile("Alice")).click()
        await expect(page.locator("#sign-out")).to_be_visible()  # not on the page that only moves on
        if way == "by the link":
            await page.locator("#sign-out").click()
        else:
            await page.evaluate("import('/static/bff/bff.js').then(({logout}) => { logout('/'); })")
        await expect(page.locator(".who")).to_have_text("Sign in")

        assert "id_token_hint" in site.provider.last_request["end_session"]
        await page.goto(f"{site.url}/bff/login")
        assert await page.get_by_role("button", name=re.compile("Alice")).count() == 1  # it asks again
        assert site.provider.counts["revoke"] == 1


# After the session


async def test_the_link_of_a_session_that_has_timed_out_still_carries_the_id_token(
    browser: Browser,
    clock: Clock,  # noqa: F811
):
    await browser.login()
    link, id_token = await browser.logout_url(), await id_token_of(browser)
    clock.advance(IDLE_SECONDS + TOMBSTONE_SECONDS - 1)

    assert query_params((await browser.get(link)).headers["Location"])["id_token_hint"] == id_token


async def test_after_a_while_the_browser_ends_on_a_page_of_ours(browser: Browser, clock: Clock):  # noqa: F811
    await browser.login()
    link = await browser.logout_url()
    clock.advance(IDLE_SECONDS + TOMBSTONE_SECONDS)
    page = await browser.get(f"{link}&returnUrl=/orders")

    assert response_cookies(page)["bff"].value == ""
    assert query_params(link_there(page)).keys() == {"client_id", "post_logout_redirect_uri", "state"}
    back = await browser.http.get(link_there(page))
    assert (await browser.get(back.headers["Location"])).headers["Location"] == "/orders"


async def test_javascript_after_the_time_out_signs_out_with_the_id_token(browser: Browser, clock: Clock):  # noqa: F811
    await browser.login()
    id_token = await id_token_of(browser)
    clock.advance(IDLE_SECONDS)
    onwards = await browser.get((await browser.fetch("/bff/logout", "POST")).json()["url"])

    assert query_params(onwards.headers["Location"])["id_token_hint"] == id_token


async def test_javascript_long_after_the_time_out_ends_on_a_page_of_ours(browser: Browser, clock: Clock):  # noqa: F811
    await browser.login()
    clock.advance(IDLE_SECONDS + TOMBSTONE_SECONDS)
    onwards = await browser.get((await browser.fetch("/bff/logout", "POST")).json()["url"])

    assert "id_token_hint" not in query_params(link_there(onwards))


@pytest.mark.parametrize("lacks", ["the cookie", "the sid"])
async def test_the_id_token_is_for_the_browser_and_the_link_of_the_session(
    lacks: str,
    browser: Browser,
    clock: Clock,  # noqa: F811
):
    await browser.login()
    link = await browser.logout_url() if lacks == "the cookie" else "/bff/logout?sid=guessed"
    clock.advance(IDLE_SECONDS)
    if lacks == "the cookie":
        browser.delete_cookie("bff")

    assert "id_token_hint" not in query_params(link_there(await browser.get(link)))


async def test_a_cookie_of_an_earlier_release_leads_on(app: RunningApp, browser: Browser):
    name, url = app.services.cookies.logout_name, "https://provider.example/out?id_token_hint=x"
    saved = {"state": "s", "return_path": "/", "revocations": "", "provider_url": url}
    cookie = app.services.vault.seal_json(saved, place=name)
    answer = await browser.get("/bff/logout", Cookie=f"{name}={cookie}")

    assert answer.headers["Location"] == url


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_another_process_knows_the_id_token_from_the_database(
    driver: str,
    provider: Provider,
    api: DemoApi,
    mongod: Mongod,
    clock: Clock,  # noqa: F811
):
    provider.overrides["id_token"] = LONG
    stored = {"session_store": f"{mongod.uri}/test-logout-hint", "mongodb_driver": driver}
    async with (
        running_app(provider, api, clock=clock, **stored) as other,
        running_app(provider, api, clock=clock, **stored) as app,
        new_browser(app) as browser,
    ):
        await browser.login()
        id_token = await id_token_of(browser)
        await browser.fetch("/bff/logout", "POST")
        page = await browser.get(f"{other.base_url}/bff/logout")

    assert parse_form(page.text)[1]["id_token_hint"] == id_token


# What a store keeps


async def test_a_store_keeps_the_hint_of_a_session_that_has_ended(store: SessionStore, clock: Clock):  # noqa: F811
    session = a_session(clock, claims={"aud": "app"})
    await store.create(session)
    assert await store.logout_hint(session.ref) is None
    await store.delete(session.ref, reason=Reason.PROVIDER)

    clock.advance(TOMBSTONE_SECONDS - 1)
    assert await store.logout_hint(session.ref) == LogoutHint(session.issuer, "app", "sid-1", "id-1")
    clock.advance(1)
    assert await store.logout_hint(session.ref) is None


async def test_a_store_keeps_the_hint_of_a_session_that_has_expired(store: SessionStore, clock: Clock):  # noqa: F811
    session = a_session(clock)
    await store.create(session)
    clock.advance(IDLE_SECONDS + TOMBSTONE_SECONDS - 1)
    await store.create(a_session(clock))  # a store may purge at any moment
    assert await store.logout_hint(session.ref) == session.logout_hint
    assert await store.get(session.ref) is None

    clock.advance(1)
    await store.create(a_session(clock))
    assert await store.logout_hint(session.ref) is None
    assert await store.logout_hint("unknown") is None


@pytest.fixture
def records(mongod: Mongod) -> Iterator[Any]:
    with MongoClient[Any](mongod.uri) as client:
        yield client["test-logout-hints"]["sessions"]


def mongo_sessions(records: Any, mongod: Mongod, clock: Clock, key: bytes = KEY) -> MongoSessions:  # noqa: F811
    uri = f"{mongod.uri}/{records.database.name}"
    return MongoSessions(connect(uri, driver="pymongo"), Vault([key]), clock=clock)


@pytest.fixture
def ended(clock: Clock) -> Session:  # noqa: F811
    return a_session(clock)


async def test_in_the_database_the_hint_is_sealed_for_its_own_record(
    records: Any,
    mongod: Mongod,
    clock: Clock,  # noqa: F811
    ended: Session,
):
    sessions, other = mongo_sessions(records, mongod, clock), a_session(clock)
    for session in (ended, other):
        await sessions.create(session)
        await sessions.delete(session.ref, reason=Reason.SIGNED_OUT)
    tombstone = records.find_one({"_id": ended.ref})
    records.update_one({"_id": other.ref}, {"$set": {"hint": tombstone["hint"]}})

    assert b"id-1" not in tombstone["hint"]
    assert await sessions.logout_hint(ended.ref)
    assert await sessions.logout_hint(other.ref) is None
    await sessions.close()
    with_another_key = mongo_sessions(records, mongod, clock, 32 * b"k")
    assert await with_another_key.logout_hint(ended.ref) is None
    await with_another_key.close()


async def test_a_tombstone_of_an_earlier_release_has_no_hint(
    records: Any,
    mongod: Mongod,
    clock: Clock,  # noqa: F811
    ended: Session,
):
    records.insert_one({"_id": ended.ref, "ended": "signed_out"})

    sessions = mongo_sessions(records, mongod, clock)
    assert await sessions.logout_hint(ended.ref) is None
    await sessions.close()


async def test_an_earlier_release_and_this_one_create_their_indexes_beside_each_other(
    records: Any,
    mongod: Mongod,
    clock: Clock,  # noqa: F811
):
    sessions = mongo_sessions(records, mongod, clock)
    for _ in range(2):
        records.create_index("expires_at", expireAfterSeconds=0)  # as an earlier release does
        await sessions.open()
        indexes = records.index_information()

        assert indexes["expires_at_-1"]["expireAfterSeconds"] == TOMBSTONE_SECONDS
        assert "expires_at_1" not in indexes
    await sessions.close()
