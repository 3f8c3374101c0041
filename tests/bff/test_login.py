"""Login: who gets a session, and what is refused on the way."""

from __future__ import annotations

import json
from html import unescape
from urllib.parse import urlencode, urlsplit

import httpx2
import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Client, Failure, Provider
from app.bff.oidc.login_attempt import ATTEMPT_SECONDS
from app.bff.web.cookies import MAX_LOGIN_ATTEMPTS
from tests.bff.application.handlers import Home
from tests.bff.harness import (
    CLIENT_ID,
    CLIENT_SECRET,
    NAVIGATION_HEADERS,
    Browser,
    Clock,
    RunningApp,
    new_browser,
    query_params,
    raw_target,
    refresh_target,
    response_cookies,
    running_app,
)


def cookies_of(browser: Browser) -> list[str]:
    """The names of our cookies: the provider has one of its own."""
    return sorted(name for name in browser.cookie_names() if "bff" in name)


def assert_is_refused(response: httpx2.Response, status: int = 400, code: str = "login_failed") -> None:
    """A page with words for a person, and no session."""
    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("text/html")
    assert f"<code>{code}</code>" in response.text
    assert "bff" not in response_cookies(response)


async def test_a_user_signs_in_and_returns_to_the_page_of_the_return_url(browser: Browser):
    answer = await browser.login("alice", return_url="/account")

    assert refresh_target(answer.text) == "/account"
    assert "Alice Adams" in (await browser.get("/account")).text


# The way out


async def test_the_way_out_asks_for_a_code_with_everything_that_protects_it(
    app: RunningApp, provider: Provider, browser: Browser
):
    url = await browser.start_login()
    params = query_params(url)

    assert url.startswith(f"{provider.issuer}/authorize?")
    assert params.pop("state") != params.pop("nonce") != params.pop("code_challenge")
    assert params == {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": f"{app.base_url}/bff/callback",
        "scope": "openid profile email offline_access",
        "code_challenge_method": "S256",
    }


@pytest.mark.parametrize("name", ["state", "nonce", "code_challenge"])
async def test_every_attempt_has_its_own(name: str, browser: Browser):
    values = {query_params(await browser.start_login())[name] for _ in range(3)}

    assert len(values) == 3
    assert all(len(value) >= 43 for value in values)  # 256 bits


async def test_the_verifier_fits_the_challenge_and_is_as_long_as_rfc_7636_wants(
    provider: Provider, browser: Browser
):
    url = await browser.start_login()
    await browser.get(await browser.choose(url))
    verifier = provider.last_request["token"]["code_verifier"]

    assert 43 <= len(verifier) <= 128
    assert create_s256_code_challenge(verifier) == query_params(url)["code_challenge"]
    assert verifier not in url


async def test_the_scope_is_the_one_in_the_settings(provider: Provider, api: DemoApi, clock: Clock):
    async with (
        running_app(provider, api, clock=clock, scope="openid email") as app,
        new_browser(app) as browser,
    ):
        assert query_params(await browser.start_login())["scope"] == "openid email"


async def test_the_query_of_the_authorization_endpoint_stays_but_for_what_the_request_has_itself(
    provider: Provider, browser: Browser
):
    endpoint = f"{provider.issuer}/authorize?policy=a%2Fb&scope=theirs&empty="
    provider.overrides["metadata"] = {"authorization_endpoint": endpoint}
    url = await browser.start_login()

    assert url.startswith(f"{provider.issuer}/authorize?policy=a%2Fb&empty=&")
    assert query_params(url)["scope"] != "theirs"
    assert url.count("scope=") == 1


@pytest.mark.parametrize("prompt", ["none", "login", "consent", "select_account"])
async def test_a_prompt_that_the_provider_knows_is_passed_on(prompt: str, browser: Browser):
    assert query_params(await browser.start_login(prompt=prompt))["prompt"] == prompt


async def test_a_prompt_is_passed_on_where_the_provider_lists_it_and_refused_where_it_does_not(
    provider: Provider, browser: Browser
):
    provider.overrides["metadata"] = {"prompt_values_supported": ["none", "create"]}
    refused = await browser.get("/bff/login?prompt=login")

    assert query_params(await browser.start_login(prompt="create"))["prompt"] == "create"
    assert_is_refused(refused, code="bad_request")
    assert not response_cookies(refused)


@pytest.mark.parametrize("sent", ["prompt=surprise", "prompt=", "prompt=login&prompt=none", "prompt=%ff"])
async def test_no_attempt_starts_for(sent: str, browser: Browser):
    response = await browser.get(f"/bff/login?{sent}")

    assert_is_refused(response, code="bad_request")
    assert not response_cookies(response)


async def test_the_attempt_waits_in_a_cookie_for_ten_minutes(browser: Browser):
    response = await browser.get("/bff/login?returnUrl=/account")
    [cookie] = response_cookies(response).values()

    assert response.status_code == 302  # never 307: RFC 9700 §4.12
    assert response.headers["Cache-Control"] == "no-store"
    assert cookie["httponly"] is True
    assert (cookie["samesite"], cookie["path"], cookie["domain"]) == ("Lax", "/", "")
    assert int(cookie["max-age"]) == ATTEMPT_SECONDS == 600


async def test_the_attempt_cookie_is_opaque(browser: Browser):
    url = await browser.start_login("/account")
    [name] = browser.cookie_names()
    sent = f"{name}={browser.cookie(name)}"

    assert not [
        value
        for value in (query_params(url)["state"], query_params(url)["nonce"], "/account")
        if value in sent
    ]


@pytest.mark.parametrize("purpose", ["prefetch", "prefetch;prerender"])
async def test_a_browser_that_only_guesses_starts_nothing(purpose: str, browser: Browser):
    response = await browser.get("/bff/login", Sec_Purpose=purpose)

    assert (response.status_code, response.content) == (204, b"")
    assert not response_cookies(response)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param("//evil.example", id="another host"),
        pytest.param("/\\evil.example", id="another host, to a browser"),
        pytest.param("\\\\evil.example", id="backslashes alone"),
        pytest.param("https://evil.example/", id="an absolute URL"),
        pytest.param("javascript:alert(1)", id="a script"),
        pytest.param("account", id="a relative path"),
        pytest.param("/\t/evil.example", id="a tab, which browsers drop"),
        pytest.param("/\r\nSet-Cookie: a=b", id="another header"),
        pytest.param("/\x00", id="a null byte"),
        pytest.param("/\x7f", id="a control character"),
        pytest.param("/%09/evil.example", id="an encoded tab"),
        pytest.param("/%2f/evil.example", id="an encoded slash"),
        pytest.param("/%5cevil.example", id="an encoded backslash"),
        pytest.param("/%252fevil.example", id="a slash encoded twice"),
        pytest.param("/" + "a" * 8192, id="longer than a return path may be"),
    ],
)
async def test_a_return_path_that_is_refused_is_the_home_page_and_one_log_line_without_it(
    sent: str, browser: Browser, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    answer = await browser.login(return_url=sent)

    assert refresh_target(answer.text) == "/"
    [refused] = [record for record in caplog.records if record.message == "return path refused"]
    assert vars(refused)["path"] == "/bff/login"
    assert sent not in str(vars(refused))


@pytest.mark.parametrize("sent", ["returnUrl=/a&returnUrl=/b", "returnUrl=%ff", "returnUrl=/a&returnUrl="])
async def test_so_is_one_that_is_there_twice_or_no_text(
    sent: str, browser: Browser, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    away = (await browser.get(f"/bff/login?{sent}")).headers["Location"]

    assert refresh_target((await browser.get(await browser.choose(away))).text) == "/"
    assert caplog.text.count("return path refused") == 1


@pytest.mark.parametrize("path", ["/", "/account?tab=2#end", "/a b", "/é", '/"><script>', "/a%20b?next=//x"])
async def test_a_path_on_this_site_comes_through_unchanged(path: str, browser: Browser):
    answer = await browser.login(return_url=path)

    assert unescape(refresh_target(answer.text)) == path


# A login that another site initiates (OIDC Core §4)


def initiated(app: RunningApp, provider: Provider, **params: str) -> dict[str, str]:
    target = {"target_link_uri": f"{app.base_url}/account?tab=2"}
    return {"iss": provider.issuer, "login_hint": "alice@example.com", **target, **params}


async def test_a_portal_starts_a_login_that_ends_at_its_target(
    app: RunningApp, provider: Provider, browser: Browser
):
    response = await browser.get(f"/bff/login?{urlencode(initiated(app, provider))}")
    url = response.headers["Location"]

    assert query_params(url)["login_hint"] == "alice@example.com"
    assert refresh_target((await browser.get(await browser.choose(url))).text) == "/account?tab=2"


async def test_a_portal_may_post_a_form(app: RunningApp, provider: Provider, browser: Browser):
    params = initiated(app, provider)
    headers = {**NAVIGATION_HEADERS, "Origin": "https://portal.example", "Sec-Fetch-Site": "cross-site"}
    response = await browser.http.post("/bff/login", data=params, headers=headers)

    assert response.status_code == 303
    assert not response_cookies(response)
    assert query_params(response.headers["Location"]) == params


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"iss": "https://evil.example"}, "bad_request"),
        ({"iss": ""}, "bad_request"),
    ],
)
async def test_no_attempt_starts_that_is_initiated_with(
    app: RunningApp, provider: Provider, browser: Browser, params: dict[str, str], code: str
):
    response = await browser.get("/bff/login?" + urlencode(initiated(app, provider, **params)))

    assert_is_refused(response, code=code)
    assert not response_cookies(response)


@pytest.mark.parametrize("target", ["https://evil.example/", "/account", "javascript:alert(1)"])
async def test_a_target_elsewhere_is_the_home_page(
    target: str, app: RunningApp, provider: Provider, browser: Browser, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    away = await browser.get("/bff/login?" + urlencode(initiated(app, provider, target_link_uri=target)))
    answer = await browser.get(await browser.choose(away.headers["Location"]))

    assert refresh_target(answer.text) == "/"
    assert caplog.text.count("return path refused") == 1


# Several tabs


async def test_several_tabs_finish_in_any_order(app: RunningApp, browser: Browser):
    tabs = {path: await browser.start_login(path) for path in ("/one", "/two", "/three")}

    for path in ("/two", "/three", "/one"):
        answer = await browser.get(await browser.choose(tabs[path]))
        assert refresh_target(answer.text) == path
    assert await app.session_of(browser)


async def test_one_tab_too_many_pushes_out_the_oldest(browser: Browser, clock: Clock):
    tabs = []
    for _ in range(MAX_LOGIN_ATTEMPTS + 1):
        tabs.append(await browser.start_login())
        clock.advance(1)

    assert len(browser.cookie_names()) == MAX_LOGIN_ATTEMPTS
    assert_is_refused(await browser.get(await browser.choose(tabs[0])))
    assert (await browser.get(await browser.choose(tabs[1]))).status_code == 200


# The way back: which answers count


async def test_the_callback_forgets_the_attempt(browser: Browser):
    await browser.login()

    assert cookies_of(browser) == ["bff"]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("", id="nothing"),
        pytest.param("code=code-x", id="a code without a state"),
        pytest.param("code=code-x&state=forged", id="a forged state"),
        pytest.param("code=code-x&state=", id="an empty state"),
        pytest.param("error=access_denied&state=forged", id="an error with a forged state"),
        pytest.param("error=access_denied", id="an error without a state"),
    ],
)
async def test_a_browser_with_an_attempt_is_not_signed_in_by(
    answer: str, provider: Provider, browser: Browser
):
    await browser.start_login()
    response = await browser.get(f"/bff/callback?{answer}")

    assert_is_refused(response)
    assert "remembers no such sign-in" in response.text  # `error` is not even read
    assert provider.counts["token"] == 0


@pytest.mark.parametrize("answer", ["state=a&state=b", "state=%ff", "code=a&code=b&state=c"])
async def test_an_answer_with_two_readings_is_not_read(answer: str, provider: Provider, browser: Browser):
    assert_is_refused(await browser.get(f"/bff/callback?{answer}"), code="bad_request")
    assert provider.counts["token"] == 0


async def test_a_callback_of_another_browsers_attempt_is_refused(
    app: RunningApp, provider: Provider, browser: Browser
):
    async with new_browser(app) as attacker:
        link = await attacker.choose(await attacker.start_login(), "bob")
    await browser.start_login()

    assert_is_refused(await browser.get(link))
    assert provider.counts["token"] == 0


async def test_an_answer_counts_once(provider: Provider, browser: Browser):
    link = await browser.choose(await browser.start_login())
    await browser.get(link)
    browser.delete_cookie("bff")

    assert_is_refused(await browser.get(link))
    assert provider.counts["token"] == 1


async def test_an_attempt_opens_in_its_own_cookie_only(provider: Provider, browser: Browser):
    await browser.start_login()
    [first] = cookies_of(browser)
    link = await browser.choose(await browser.start_login())
    [second] = set(cookies_of(browser)) - {first}

    assert_is_refused(await browser.get(link, Cookie=f"{second}={browser.cookie(first)}"))
    assert provider.counts["token"] == 0


@pytest.mark.parametrize("cut", [slice(None, -4), slice(4, None), slice(0, 0)])
async def test_a_damaged_attempt_is_refused(cut: slice, provider: Provider, browser: Browser):
    link = await browser.choose(await browser.start_login())
    [name] = cookies_of(browser)
    damaged = f"{browser.cookie(name)}"[cut]

    assert_is_refused(await browser.get(link, Cookie=f"{name}={damaged}"))
    assert provider.counts["token"] == 0


@pytest.mark.parametrize(
    "iss", [pytest.param("https://evil.example", id="wrong"), pytest.param(None, id="missing")]
)
async def test_the_code_stays_here_when_the_issuer_is(iss: str | None, provider: Provider, browser: Browser):
    provider.overrides["callback"] = {"iss": iss}
    link = await browser.choose(await browser.start_login())

    assert_is_refused(await browser.get(link))
    assert provider.counts["token"] == 0  # RFC 9207 §2.4


async def test_a_provider_that_announces_no_issuer_may_leave_it_out(provider: Provider, browser: Browser):
    provider.overrides["metadata"] = {"authorization_response_iss_parameter_supported": None}
    provider.overrides["callback"] = {"iss": None}

    await browser.login()


async def test_an_error_of_another_issuer_is_not_believed(provider: Provider, browser: Browser):
    provider.overrides["callback"] = {"iss": "https://evil.example", "code": None, "error": "access_denied"}
    response = await browser.get(await browser.choose(await browser.start_login()))

    assert_is_refused(response)
    assert "cancelled" not in response.text


async def test_a_person_who_declines_reads_so_and_may_try_again(browser: Browser):
    url = await browser.start_login("/account")
    back = await browser.http.post(url, data={"deny": "yes"})
    response = await browser.get(back.headers["Location"])

    assert_is_refused(response)
    assert "Signing in was cancelled." in response.text
    assert 'href="/bff/login?returnUrl=%2Faccount"' in response.text


async def test_the_provider_s_own_words_are_not_repeated(provider: Provider, browser: Browser):
    words = "Call 555-0100 and tell them your password"
    provider.overrides["callback"] = {"code": None, "error": words, "error_description": words}
    response = await browser.get(await browser.choose(await browser.start_login()))

    assert_is_refused(response)
    assert "555" not in response.text


async def test_an_answer_without_a_code_is_incomplete(provider: Provider, browser: Browser):
    provider.overrides["callback"] = {"code": None}

    assert_is_refused(await browser.get(await browser.choose(await browser.start_login())))
    assert provider.counts["token"] == 0


async def test_after_ten_minutes_an_attempt_is_too_old(provider: Provider, browser: Browser, clock: Clock):
    url = await browser.start_login()
    clock.advance(ATTEMPT_SECONDS + 1)
    response = await browser.get(await browser.choose(url))

    assert_is_refused(response)
    assert "took too long" in response.text
    assert provider.counts["token"] == 0


async def test_a_repeated_callback_of_a_signed_in_user_redirects_home(browser: Browser):
    link = await browser.choose(await browser.start_login("/account"))
    await browser.get(link)
    again = await browser.get(link)

    assert (again.status_code, again.headers["Location"]) == (302, "/")
    assert browser.cookie("bff")


# What the provider says: believed, or not


@pytest.mark.parametrize(
    ("about", "lie"),
    [
        pytest.param("id_token", {"iss": "https://evil.example"}, id="another issuer"),
        pytest.param("id_token", {"iss": None}, id="no issuer"),
        pytest.param("id_token", {"aud": "another-client"}, id="for another audience"),
        pytest.param("id_token", {"aud": [CLIENT_ID, "another-client"]}, id="meant for two, and no azp"),
        pytest.param("id_token", {"aud": None}, id="without an audience"),
        pytest.param("id_token", {"azp": "another-client"}, id="issued to another client"),
        pytest.param("id_token", {"nonce": "of-another-login"}, id="the nonce of another login"),
        pytest.param("id_token", {"nonce": None}, id="no nonce"),
        pytest.param("id_token", {"exp": 1}, id="expired"),
        pytest.param("id_token", {"exp": None}, id="never expires"),
        pytest.param("id_token", {"exp": True}, id="an expiry that is no number"),
        pytest.param("id_token", {"iat": 2**40}, id="issued in the future"),
        pytest.param("id_token", {"nbf": 2**40}, id="not valid yet"),
        pytest.param("id_token", {"sub": None}, id="without a subject"),
        pytest.param("id_token", {"sub": 7}, id="a subject that is no text"),
        pytest.param("id_token", {"at_hash": "AAAA"}, id="goes with another access token"),
        pytest.param("id_token_header", {"kid": "unheard-of"}, id="signed with a key unheard of"),
        pytest.param("userinfo", {"sub": "bob"}, id="userinfo of another user"),
        pytest.param("userinfo", {"sub": None}, id="userinfo without a subject"),
    ],
)
async def test_a_login_is_refused_when_its_id_token_is(
    about: str, lie: dict[str, object], provider: Provider, browser: Browser
):
    provider.overrides[about] = lie

    assert_is_refused(await browser.get(await browser.choose(await browser.start_login())))
    assert browser.cookie("bff") is None


@pytest.mark.parametrize(
    ("lever", "value"),
    [
        pytest.param("signing_alg", "none", id="not signed"),
        pytest.param("signing_alg", "HS256", id="signed with the client secret"),
        pytest.param("signs_with_unpublished_key", True, id="signed with an unpublished key"),
    ],
)
async def test_a_login_is_refused_when_its_id_token_is_badly_signed(
    lever: str, value: object, provider: Provider, browser: Browser
):
    setattr(provider, lever, value)

    assert_is_refused(await browser.get(await browser.choose(await browser.start_login())))
    assert browser.cookie("bff") is None


@pytest.mark.parametrize("id_token", [None, "", "x.y", "e30.e30.", "eyJhbGciOiJub25lIn0.W10.", 7])
async def test_a_login_is_refused_when_its_id_token_is_none_at_all(
    id_token: object, provider: Provider, browser: Browser
):
    link = await browser.choose(await browser.start_login())
    answer = {"access_token": "at-x", "token_type": "Bearer", "id_token": id_token}
    provider.fails["token"] = Failure(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    assert_is_refused(await browser.get(link))
    assert provider.counts["userinfo"] == 0


async def test_a_minute_of_difference_between_the_clocks_is_forgiven(
    provider: Provider, browser: Browser, clock: Clock
):
    provider.overrides["id_token"] = {"exp": int(clock.now) - 50, "iat": int(clock.now) + 50}

    await browser.login()


async def test_keys_rotated_since_the_last_fetch_are_fetched_again(
    provider: Provider, browser: Browser, clock: Clock
):
    await browser.login()
    provider.rotate_keys()
    clock.advance(31)  # more than the cooldown
    await browser.login()

    assert provider.counts["jwks"] == 2


async def test_es256_is_as_good_as_rs256_where_rs256_is_not_announced(provider: Provider, browser: Browser):
    provider.overrides["metadata"] = {"id_token_signing_alg_values_supported": ["ES256", "HS256", "none"]}
    provider.signing_alg = "ES256"

    await browser.login()


async def test_a_code_that_the_provider_refuses_ends_the_attempt(
    provider: Provider, browser: Browser, clock: Clock
):
    link = await browser.choose(await browser.start_login())
    clock.advance(61)  # the provider's codes live for a minute

    assert_is_refused(await browser.get(link))
    assert provider.counts["token"] == 1


# The provider is away


async def test_a_provider_that_was_never_there_is_no_error_of_ours(provider: Provider, browser: Browser):
    await provider.stop()
    response = await browser.get("/bff/login")

    assert_is_refused(response, 503, "provider_unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert not response_cookies(response)


@pytest.mark.parametrize("endpoint", ["token", "jwks", "userinfo"])
async def test_a_provider_that_stumbles_on_the_way_back_is_no_error_of_ours(
    endpoint: str, provider: Provider, browser: Browser
):
    link = await browser.choose(await browser.start_login())
    provider.fails[endpoint] = Failure(503)
    response = await browser.get(link)

    assert_is_refused(response, 503, "provider_unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert browser.cookie("bff") is None


async def test_a_provider_that_goes_away_on_the_way_back_is_no_error_of_ours(
    provider: Provider, browser: Browser
):
    link = await browser.choose(await browser.start_login())
    await provider.stop()

    assert_is_refused(await browser.get(link), 503, "provider_unavailable")


async def test_after_a_failure_the_next_attempt_works(provider: Provider, browser: Browser):
    link = await browser.choose(await browser.start_login())
    provider.fails["token"] = Failure(500)
    await browser.get(link)
    provider.fails.clear()

    await browser.login()


async def test_a_secret_that_the_provider_refuses_is_not_the_person_s_fault(
    provider: Provider, browser: Browser
):
    link = await browser.choose(await browser.start_login())
    known = provider.clients[CLIENT_ID]
    provider.clients[CLIENT_ID] = Client(CLIENT_ID, "changed", known.redirect_uris)

    assert_is_refused(await browser.get(link), 503, "provider_unavailable")


# The session


async def test_every_login_has_a_new_session_and_the_old_one_is_gone(app: RunningApp, browser: Browser):
    await browser.login("alice")
    first = await app.session_of(browser)
    await browser.login("alice")
    second = await app.session_of(browser)

    assert first
    assert second
    assert first.ref != second.ref
    assert await app.services.sessions.get(first.ref) is None


async def test_the_old_session_goes_although_its_cookie_does_not_come_back_from_the_provider(
    app: RunningApp, provider: Provider, browser: Browser
):
    await browser.login("alice")
    old = await app.session_of(browser)
    link = await browser.choose(await browser.start_login(prompt="login"), "bob")
    await return_from_provider(browser, link)

    assert old
    assert old.tokens.refresh_token
    assert await app.services.sessions.get(old.ref) is None
    assert not provider.is_active(old.tokens.refresh_token)


async def test_a_planted_session_id_is_not_adopted(app: RunningApp, browser: Browser):
    browser.http.cookies.set("bff", "planted", domain="localhost.local", path="/")
    link = await browser.choose(await browser.start_login())
    answer = await browser.get(link)
    session_id = response_cookies(answer)["bff"].value

    assert session_id != "planted"
    assert len(session_id) >= 43  # 256 bits
    assert len({session_id, response_cookies(await browser.login())["bff"].value}) == 2


async def test_the_session_cookie_is_for_this_browser_and_this_site_alone(browser: Browser):
    answer = await browser.login()
    cookie = response_cookies(answer)["bff"]

    assert cookie["httponly"] is True
    assert (cookie["samesite"], cookie["path"], cookie["domain"]) == ("Strict", "/", "")
    assert (cookie["max-age"], cookie["expires"]) == ("", "")  # it ends with the browser at the latest
    assert answer.headers["Cache-Control"] == "no-store"


async def test_on_https_all_cookies_are_bound_to_this_host(provider: Provider, api: DemoApi, clock: Clock):
    async with (
        running_app(provider, api, clock=clock, base_url="https://app.example") as app,
        new_browser(app) as browser,
    ):
        provider.clients[CLIENT_ID] = Client(CLIENT_ID, CLIENT_SECRET, ("https://app.example/bff/callback",))
        started = await browser.get("/bff/login")
        [(name, attempt)] = response_cookies(started).items()
        link = urlsplit(await browser.choose(started.headers["Location"]))
        answer = await browser.get(f"{link.path}?{link.query}", Cookie=f"{name}={attempt.value}")
        session = response_cookies(answer)["__Host-bff"]

    assert name.startswith("__Host-bff-login-")
    assert attempt["secure"] is session["secure"] is True
    assert (attempt["path"], session["path"], attempt["domain"], session["domain"]) == ("/", "/", "", "")
    assert response_cookies(answer)[name].value == ""


# SameSite=Strict without a flash of the signed-out page


async def test_the_callback_answers_with_a_page_of_ours_that_moves_on(browser: Browser):
    link = await browser.choose(await browser.start_login("/account"))
    answer = await return_from_provider(browser, link)

    assert answer.status_code == 200
    assert refresh_target(answer.text) == "/account"


async def test_the_callback_is_repeated_with_strict_cookies_however_long_the_code_is(
    app: RunningApp, browser: Browser
):
    link = f"{await browser.choose(await browser.start_login())}&more={'x' * 3000}"
    answer = await browser.navigate_from_other_site(link)

    assert app.base_url + refresh_target(answer.text) == link
    assert "set-cookie" not in answer.headers


async def return_from_provider(browser: Browser, link: str) -> httpx2.Response:
    """Arrive at the callback without `SameSite=Strict` cookies, and repeat that as our page does."""
    arrived = await browser.navigate_from_other_site(link)
    return await browser.get(refresh_target(arrived.text), Sec_Fetch_Site="same-origin")


async def test_a_person_who_follows_a_link_from_elsewhere_is_still_signed_in(browser: Browser):
    await browser.login()
    answer = await browser.navigate_from_other_site("/account?tab=2")
    there = await browser.get(refresh_target(answer.text), Sec_Fetch_Site="same-origin")

    assert refresh_target(answer.text) == "/account?tab=2"
    assert not response_cookies(answer)
    assert "Alice Adams" in there.text


async def test_a_signed_out_user_who_follows_a_link_is_bounced_once_and_then_redirected_to_the_login(
    browser: Browser,
):
    answer = await browser.navigate_from_other_site("/account")
    there = await browser.get(refresh_target(answer.text), Sec_Fetch_Site="same-origin")

    assert there.status_code == 302
    assert there.headers["Location"] == "/bff/login?returnUrl=%2Faccount"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Sec_Fetch_Site": "none"}, id="types the address"),
        pytest.param({"Sec_Fetch_Site": "same-origin"}, id="is here already"),
        pytest.param({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "iframe"}, id="looks at a frame"),
        pytest.param({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}, id="sees an image"),
    ],
)
async def test_a_request_is_not_bounced_that(headers: dict[str, str], browser: Browser):
    assert 'http-equiv="refresh"' not in (await browser.get("/", **headers)).text


@pytest.mark.parametrize(
    "target", ["//evil.example/", "/\\evil.example/", "//evil.example/%2e%2e", "/%09/evil"]
)
async def test_a_bounce_never_leads_to_another_site(target: str, app: RunningApp, browser: Browser):
    app.tornado.add_handlers(r".*", [(r"/.+", Home)])
    answer = await browser.navigate_from_other_site("/", **raw_target(target))

    assert refresh_target(answer.text) == "/"


async def test_with_lax_cookies_no_navigation_is_bounced(provider: Provider, api: DemoApi, clock: Clock):
    async with (
        running_app(provider, api, clock=clock, cookie_samesite="lax") as app,
        new_browser(app) as browser,
    ):
        cookie = response_cookies(await browser.login())["bff"]
        there = await browser.navigate_from_other_site("/account")

    assert cookie["samesite"] == "Lax"
    assert "Alice Adams" in there.text


async def test_of_two_logins_at_once_the_second_ends_the_session_of_the_first(
    app: RunningApp, browser: Browser
):
    first, second = await browser.start_login(), await browser.start_login()
    callbacks = [await browser.choose(first, "alice")]
    browser.delete_cookie("dev_provider_sid")
    callbacks.append(await browser.choose(second, "bob"))
    refs = []
    for callback in callbacks:
        await return_from_provider(browser, callback)
        session = await app.session_of(browser)
        assert session
        refs.append(session.ref)

    assert [await app.services.sessions.get(ref) is not None for ref in refs] == [False, True]


@pytest.mark.parametrize(
    ("destination", "mode", "site", "status"),
    [
        ("document", "navigate", "cross-site", 302),
        ("iframe", "navigate", "same-origin", 302),
        ("iframe", "navigate", "same-site", 403),
        ("iframe", "navigate", "cross-site", 403),
        ("image", "no-cors", "same-origin", 403),
        ("image", "no-cors", "same-site", 403),
        ("script", "no-cors", "cross-site", 403),
        ("empty", "cors", "same-origin", 403),
        ("object", "navigate", "same-site", 403),
    ],
)
async def test_a_login_is_started_by_navigations_and_our_own_frames_only(
    destination: str, mode: str, site: str, status: int, browser: Browser
):
    sent = {"Sec-Fetch-Dest": destination, "Sec-Fetch-Mode": mode, "Sec-Fetch-Site": site}
    answer = await browser.http.get("/bff/login", headers=sent)

    assert answer.status_code == status or (status == 302 and "refresh" in answer.text)
    assert (status == 302) or "set-cookie" not in answer.headers


async def test_logins_that_bring_no_refresh_token_are_logged_once_with_advice(
    provider: Provider, browser: Browser, caplog: pytest.LogCaptureFixture
):
    provider.issues_refresh_token = False
    for user in ("alice", "bob"):
        await browser.login(user)

    [record] = [each for each in caplog.records if each.message == "login brought no refresh token"]
    assert "grant type refresh_token" in vars(record)["advice"]


async def test_a_login_with_a_refresh_token_needs_no_advice(
    browser: Browser, caplog: pytest.LogCaptureFixture
):
    await browser.login()

    assert "login brought no refresh token" not in caplog.messages
