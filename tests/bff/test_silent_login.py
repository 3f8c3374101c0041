"""Silent login: a session without a page for a user with a session at the provider, else a message."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from app.bff.errors import StoreUnavailable
from app.bff.oidc.login_attempt import ATTEMPT_SECONDS
from app.bff.sessions.memory import MemorySessions
from app.bff.sessions.session import Session
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
    sign_in,
)

IN_A_FRAME = {"Sec_Fetch_Dest": "iframe", "Sec_Fetch_Site": "same-origin"}
IN_A_WINDOW = {"Sec_Fetch_Dest": "document", "Sec_Fetch_Site": "same-origin"}
SILENT = "/bff/login?prompt=none"


async def goes_silently(browser: Browser, url: str = SILENT, **place: str) -> httpx2.Response:
    """Do what a frame, or a window, does: follow every redirect; return what it shows in the end."""
    headers = place or IN_A_FRAME
    answer = await browser.get(url, **headers)
    while answer.has_redirect_location:
        answer = await browser.get(answer.headers["Location"], **headers)
    return answer


async def way_back(browser: Browser, url: str = SILENT, **place: str) -> str:
    """The callback URL that the provider sends a silent login to."""
    away = (await browser.get(url, **(place or IN_A_FRAME))).headers["Location"]
    back: str = (await browser.http.get(away)).headers["Location"]
    return back


def message_in(answer: httpx2.Response, app: RunningApp) -> dict[str, Any]:
    """What the page posts to the page that waits; to our own origin, and nowhere else."""
    assert answer.status_code == 200, answer.text
    [nonce] = re.findall(r"script-src 'nonce-([\w-]+)'", answer.headers["Content-Security-Policy"])
    posts = r'\(window.opener \?\? window.parent\).postMessage\((.*), "(.*)"\);'
    found = re.search(rf'<script nonce="{nonce}">\s*{posts}\s*</script>', answer.text)
    assert found, answer.text
    assert found[2] == app.base_url
    message: dict[str, Any] = json.loads(found[1])
    assert message.pop("source") == "bff-silent-login"
    return message


def no(error: str, *, with_session: bool = False) -> dict[str, Any]:
    return {"isLoggedIn": with_session, "error": error}


async def at_the_provider(browser: Browser, user: str = "alice") -> None:
    """Sign in at the provider, and have no session here."""
    await browser.login(user)
    browser.delete_cookie("bff")


# Yes or no


async def test_a_user_signed_in_at_the_provider_gets_a_session_and_no_page(app: RunningApp, browser: Browser):
    await at_the_provider(browser)
    answer = await goes_silently(browser)

    assert message_in(answer, app) == {"isLoggedIn": True}
    assert await app.session_of(browser)


async def test_a_user_without_a_provider_session_gets_login_required(app: RunningApp, browser: Browser):
    answer = await goes_silently(browser)

    assert message_in(answer, app) == no("login_required")
    assert "bff" not in response_cookies(answer)


@pytest.mark.parametrize("signed_in", [True, False])
async def test_with_a_return_path_it_ends_there_either_way(signed_in: bool, browser: Browser):
    if signed_in:
        await at_the_provider(browser)
    answer = await goes_silently(browser, f"{SILENT}&returnUrl=/orders?page=2", **IN_A_WINDOW)

    assert (answer.status_code, refresh_target(answer.text)) == (200, "/orders?page=2")
    assert bool(browser.cookie("bff")) is signed_in


@pytest.mark.parametrize("signed_in", [True, False])
@pytest.mark.parametrize(
    "path", ["/", "/orders?page=2", "//evil.example", "/" + 9000 * "a", "/a&returnUrl=/b", "/%ff"]
)
async def test_in_a_frame_it_ends_with_the_message_whatever_the_return_path(
    path: str, signed_in: bool, app: RunningApp, browser: Browser
):
    """The page that waits hears nothing from an application that is loaded into its frame."""
    if signed_in:
        await at_the_provider(browser)
    message = message_in(await goes_silently(browser, f"{SILENT}&returnUrl={path}"), app)

    assert message == ({"isLoggedIn": True} if signed_in else no("login_required"))


async def test_in_a_frame_a_login_that_another_site_initiates_ends_with_the_message(
    app: RunningApp, provider: Provider, browser: Browser
):
    target = f"&iss={provider.issuer}&target_link_uri={app.base_url}/orders"

    assert message_in(await goes_silently(browser, SILENT + target), app) == no("login_required")


async def test_in_a_window_a_return_path_that_is_refused_is_the_home_page(browser: Browser):
    answer = await goes_silently(browser, f"{SILENT}&returnUrl=//evil.example", **IN_A_WINDOW)

    assert refresh_target(answer.text) == "/"


@pytest.mark.parametrize("sent", ["", "?prompt=login", "?returnUrl=/orders", "?returnUrl=//evil.example"])
async def test_the_older_route_is_always_silent_and_always_ends_with_the_message(
    sent: str, app: RunningApp, provider: Provider, browser: Browser
):
    answer = await goes_silently(browser, f"/bff/silent-login{sent}")

    assert message_in(answer, app) == no("login_required")
    assert provider.last_request["authorize"]["prompt"] == "none"


async def test_other_login_parameters_are_passed_on(app: RunningApp, provider: Provider, browser: Browser):
    await at_the_provider(browser)
    answer = await goes_silently(browser, "/bff/silent-login?acr_values=mfa&max_age=60&hint=alice")

    assert message_in(answer, app) == no("login_required")  # she has signed in in another way
    requirements = {"acr_values": "mfa", "max_age": "60", "login_hint": "alice"}
    assert requirements.items() <= provider.last_request["authorize"].items()


# The session that there is


async def test_a_silent_login_goes_to_the_provider_although_there_is_a_session(
    app: RunningApp, provider: Provider, browser: Browser
):
    session = await sign_in(app, browser)
    answer = await goes_silently(browser)

    assert message_in(answer, app) == {"isLoggedIn": True}
    assert provider.counts["authorize"] == 3
    assert await app.services.sessions.get(session.ref) is None


async def test_it_may_be_another_user_by_now(app: RunningApp, provider: Provider, browser: Browser):
    session = await sign_in(app, browser)
    await browser.choose(await browser.start_login(prompt="login"), "bob")
    await goes_silently(browser)
    now = await app.session_of(browser)

    assert now
    assert now.subject == "bob"
    assert not provider.is_active(session.tokens.refresh_token or "")


async def test_a_silent_callback_without_its_strict_cookie_is_repeated_and_ends_the_session_of_another_tab(
    app: RunningApp, browser: Browser
):
    """Its frame has navigated by itself at the provider, and meanwhile Alice has signed in elsewhere."""
    await at_the_provider(browser, "bob")
    link = await way_back(browser)
    browser.delete_cookie("dev_provider_sid")
    alices = await sign_in(app, browser)
    arrived = await browser.navigate_from_other_site(link, dest="iframe")
    answer = await browser.get(refresh_target(arrived.text), **IN_A_FRAME)
    bobs = await app.session_of(browser)

    assert "frame-ancestors 'self'" in arrived.headers["Content-Security-Policy"]
    assert message_in(answer, app) == {"isLoggedIn": True}
    assert bobs
    assert (bobs.subject, await app.services.sessions.get(alices.ref)) == ("bob", None)


async def test_a_silent_login_in_a_frame_of_another_site_is_not_repeated(browser: Browser):
    elsewhere = {"Sec_Fetch_Dest": "iframe", "Sec_Fetch_Site": "cross-site"}

    assert 'http-equiv="refresh"' not in (await browser.get(SILENT, **elsewhere)).text


@pytest.mark.parametrize("path", ["", "&returnUrl=/orders"])
async def test_a_silent_login_that_fails_leaves_the_session_alone(
    path: str, app: RunningApp, provider: Provider, browser: Browser
):
    session = await sign_in(app, browser)
    browser.delete_cookie("dev_provider_sid")
    await goes_silently(browser, SILENT + path)

    assert await app.session_of(browser) == session
    assert provider.is_active(session.tokens.refresh_token or "")


FAILURES = [
    pytest.param("/bff/login?prompt=none", "login_required", id="a provider without its session"),
    pytest.param("/bff/silent-login", "login_required", id="the older route"),
    pytest.param("/bff/login?prompt=none&returnUrl=/x", "login_required", id="a return path"),
    pytest.param("/bff/login?prompt=none&max_age=soon", "bad_request", id="parameters that make no sense"),
    pytest.param("/bff/login?prompt=none&prompt=none", "bad_request", id="a repeated parameter"),
    pytest.param("/bff/callback?state=forged&code=x", "login_failed", id="an answer to nothing"),
    pytest.param("/bff/callback?state=a&state=b", "bad_request", id="an answer with two states"),
]


@pytest.mark.parametrize(("url", "error"), FAILURES)
async def test_a_silent_login_that_fails_says_as_duende_does_that_a_session_lives(
    url: str, error: str, app: RunningApp, browser: Browser
):
    session = await sign_in(app, browser)
    browser.delete_cookie("dev_provider_sid")

    assert message_in(await goes_silently(browser, url), app) == no(error, with_session=True)
    assert await app.session_of(browser) == session


@pytest.mark.parametrize("url", [SILENT, "/bff/callback?state=forged"])
async def test_it_says_so_although_the_providers_redirect_lacks_the_strict_cookie(
    url: str, app: RunningApp, browser: Browser
):
    await sign_in(app, browser)
    browser.delete_cookie("dev_provider_sid")
    back = await way_back(browser) if url == SILENT else url
    arrived = await browser.navigate_from_other_site(back, dest="iframe")
    answer = await browser.get(refresh_target(arrived.text), **IN_A_FRAME)

    assert message_in(answer, app)["isLoggedIn"] is True


async def test_it_says_that_there_is_none_once_the_session_has_ended(
    app: RunningApp, browser: Browser, clock: Clock
):
    await sign_in(app, browser)
    browser.delete_cookie("dev_provider_sid")
    clock.advance(app.services.settings.session_idle_seconds + 1)

    assert message_in(await goes_silently(browser), app) == no("login_required")


# Whatever goes wrong


LIES = [
    pytest.param({"error": "access_denied", "code": None}, "access_denied", id="an error"),
    pytest.param({"error": "<script>", "code": None}, "login_failed", id="an error that is no code"),
    pytest.param({"code": None}, "login_failed", id="no code"),
    pytest.param({"code": "code-forged"}, "login_failed", id="a code that is dead"),
    pytest.param({"iss": "https://evil.example"}, "login_failed", id="another issuer"),
]


@pytest.mark.parametrize(("lie", "error"), LIES)
async def test_an_answer_of_the_provider_ends_with_the_message_that_has(
    lie: dict[str, object], error: str, app: RunningApp, provider: Provider, browser: Browser
):
    await at_the_provider(browser)
    provider.overrides["callback"] = lie

    assert message_in(await goes_silently(browser), app) == no(error)
    moved_on = await goes_silently(browser, f"{SILENT}&returnUrl=/x", **IN_A_WINDOW)
    assert refresh_target(moved_on.text) == "/x"
    assert await app.session_of(browser) is None


@pytest.mark.parametrize("endpoint", ["token", "jwks", "userinfo"])
async def test_a_provider_that_stumbles_ends_with_the_message(
    endpoint: str, provider: Provider, api: DemoApi, clock: Clock
):
    async with running_app(provider, api, clock=clock) as app, new_browser(app) as browser:
        await browser.choose(await browser.start_login())
        provider.fails[endpoint] = Failure(503)

        assert message_in(await goes_silently(browser), app) == no("provider_unavailable")


async def test_a_provider_that_is_down_ends_with_the_message(
    app: RunningApp, provider: Provider, browser: Browser
):
    await provider.stop()

    assert message_in(await browser.get(SILENT, **IN_A_FRAME), app) == no("provider_unavailable")
    moved_on = await browser.get(f"{SILENT}&returnUrl=/x")
    assert refresh_target(moved_on.text) == "/x"


async def test_an_id_token_that_is_not_believed_ends_with_the_message(
    app: RunningApp, provider: Provider, browser: Browser, caplog: pytest.LogCaptureFixture
):
    await at_the_provider(browser)
    provider.signs_with_unpublished_key = True

    assert message_in(await goes_silently(browser), app) == no("login_failed")
    assert "login refused" in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param("&max_age=soon", id="a max_age that is no number"),
        pytest.param("&hint=a&hint=b", id="two hints"),
        pytest.param("&prompt=none", id="the prompt twice"),
        pytest.param("&x=%ff", id="no text"),
    ],
)
async def test_a_request_that_makes_no_sense_ends_with_the_message(
    wrong: str, app: RunningApp, browser: Browser
):
    message = message_in(await browser.get(SILENT + wrong, **IN_A_FRAME), app)

    assert message == no("bad_request")


async def test_a_provider_that_cannot_do_it_silently_ends_with_the_message(
    app: RunningApp, provider: Provider, browser: Browser
):
    provider.overrides["metadata"] = {"prompt_values_supported": ["login"]}

    assert message_in(await browser.get(SILENT, **IN_A_FRAME), app) == no("bad_request")


@pytest.mark.parametrize("path", ["", "&returnUrl=/x"])
async def test_an_answer_that_took_too_long_ends_where_it_should(
    path: str, app: RunningApp, browser: Browser, clock: Clock
):
    await at_the_provider(browser)
    place = IN_A_WINDOW if path else IN_A_FRAME
    link = await way_back(browser, SILENT + path, **place)
    clock.advance(ATTEMPT_SECONDS + 1)
    answer = await browser.get(link, **place)

    assert "bff" not in response_cookies(answer)
    if path:
        assert refresh_target(answer.text) == "/x"
    else:
        assert message_in(answer, app) == no("login_failed")


@pytest.mark.parametrize("signed_in", [True, False])
@pytest.mark.parametrize(
    ("link", "error"),
    [
        ("/bff/callback", "login_failed"),
        ("/bff/callback?state=forged&code=x", "login_failed"),
        ("/bff/callback?state=a&state=b", "bad_request"),
    ],
)
async def test_in_a_frame_an_answer_to_nothing_ends_with_the_message(
    link: str, error: str, signed_in: bool, app: RunningApp, browser: Browser
):
    if signed_in:
        await browser.login()
    message = message_in(await browser.get(link, **IN_A_FRAME), app)

    assert message == no(error, with_session=signed_in)


async def test_in_a_frame_a_damaged_attempt_ends_with_the_message(app: RunningApp, browser: Browser):
    await at_the_provider(browser)
    link = await way_back(browser)
    [name] = [name for name in browser.cookie_names() if "login" in name]

    assert message_in(await browser.get(link, **IN_A_FRAME, Cookie=f"{name}=x"), app) == no("login_failed")


class Unreadable(MemorySessions):
    async def get(self, ref: str) -> Session | None:
        raise StoreUnavailable


class Unwritable(MemorySessions):
    async def create(self, session: Session) -> None:
        raise StoreUnavailable


@pytest.mark.parametrize("path", ["", "&returnUrl=/x"])
@pytest.mark.parametrize("store", [Unreadable, Unwritable])
async def test_a_store_that_is_down_ends_where_it_should(
    store: type[MemorySessions], path: str, app: RunningApp, browser: Browser, clock: Clock
):
    await browser.login()
    place = IN_A_WINDOW if path else IN_A_FRAME
    link = await way_back(browser, SILENT + path, **place)
    app.tornado.settings["services"] = replace(app.services, sessions=store(clock=clock))
    answer = await browser.get(link, **place)

    assert "bff" not in response_cookies(answer)
    if path:
        assert refresh_target(answer.text) == "/x"
    else:
        assert message_in(answer, app) == no("store_unavailable")


async def test_a_store_that_is_down_on_the_way_out_ends_with_the_message(
    app: RunningApp, browser: Browser, clock: Clock
):
    await browser.login()
    app.tornado.settings["services"] = replace(app.services, sessions=Unreadable(clock=clock))

    assert message_in(await browser.get(SILENT, **IN_A_FRAME), app) == no("store_unavailable")


async def test_a_bug_of_ours_ends_with_the_message_and_is_logged(
    app: RunningApp, browser: Browser, caplog: pytest.LogCaptureFixture
):
    await at_the_provider(browser)
    link = await way_back(browser)
    app.tornado.settings["services"] = replace(app.services, lifetime=None)

    assert message_in(await browser.get(link, **IN_A_FRAME), app) == no("internal_error")
    assert "request failed" in caplog.text


async def test_a_failure_is_logged_like_any_other(browser: Browser, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    await goes_silently(browser)

    [refused] = [record for record in caplog.records if record.message == "request refused"]
    assert vars(refused)["code"] == "login_failed"


async def test_without_a_frame_an_answer_to_nothing_is_a_page_as_ever(browser: Browser):
    answer = await browser.get("/bff/callback?state=forged")

    assert (answer.status_code, answer.headers["X-Frame-Options"]) == (400, "DENY")
    assert "postMessage" not in answer.text


async def test_in_a_frame_a_login_that_is_not_silent_fails_with_a_page_that_the_frame_does_not_show(
    provider: Provider, browser: Browser
):
    provider.overrides["callback"] = {"code": None}
    link = await browser.choose(await browser.start_login())
    answer = await browser.get(link, **IN_A_FRAME)

    assert (answer.status_code, answer.headers["X-Frame-Options"]) == (400, "DENY")


@pytest.mark.parametrize(
    ("path", "code"), [("/bff/silent-login", "method_not_allowed"), (SILENT, "csrf_rejected")]
)
async def test_only_a_get_is_silent(path: str, code: str, browser: Browser):
    assert (await browser.fetch(path, "POST")).json()["code"] == code


# Who may have it in a frame


def framing(answer: httpx2.Response) -> tuple[str, str]:
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    return answer.headers["X-Frame-Options"], policy["frame-ancestors"]


async def test_every_step_may_be_in_a_frame_of_our_own_origin_only(app: RunningApp, browser: Browser):
    await at_the_provider(browser)
    out = await browser.get(SILENT, **IN_A_FRAME)
    back = await browser.get((await browser.http.get(out.headers["Location"])).headers["Location"])
    older = await browser.get("/bff/silent-login", **IN_A_FRAME)
    failed = await browser.get(f"{SILENT}&max_age=x", **IN_A_FRAME)

    assert message_in(back, app) == {"isLoggedIn": True}
    assert [framing(answer) for answer in (out, back, older, failed)] == [("SAMEORIGIN", "'self'")] * 4


@pytest.mark.parametrize("path", ["/bff/login", "/bff/login?prompt=login", "/", "/bff/callback", "/nowhere"])
async def test_nothing_else_may_be_in_a_frame(path: str, browser: Browser):
    assert framing(await browser.get(path)) == ("DENY", "'none'")


async def test_our_pages_may_have_a_frame_that_passes_through_the_provider(
    provider: Provider, browser: Browser
):
    assert (
        f"; frame-src 'self' {provider.issuer};"
        in (await browser.get("/")).headers["Content-Security-Policy"]
    )


async def test_also_where_its_login_page_is_on_another_host_than_its_issuer(
    provider: Provider, browser: Browser
):
    provider.overrides["metadata"] = {"authorization_endpoint": "https://login.example/authorize"}
    await browser.get("/bff/login")

    assert (
        "; frame-src 'self' https://login.example;"
        in (await browser.get("/")).headers["Content-Security-Policy"]
    )


async def test_a_silent_login_asks_as_ourselves(browser: Browser):
    params = query_params((await browser.get(SILENT)).headers["Location"])

    assert (params["client_id"], params["prompt"]) == (CLIENT_ID, "none")
