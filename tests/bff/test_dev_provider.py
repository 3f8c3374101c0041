"""The development provider and its API: what a developer and the other tests may rely on."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from urllib.parse import quote_plus

import httpx2 as httpx
import pytest
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import OctKey

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Client, Failure, Provider
from tests.bff.harness import Clock, wait_until
from tests.bff.provider_harness import (
    APP,
    BASIC,
    CALLBACK,
    SIGNED_OUT,
    VERIFIER,
    Browser,
    authorize_params,
    basic,
    browser_at,
    callback_params,
)


@pytest.fixture
async def browser(provider: Provider) -> AsyncIterator[Browser]:
    async with browser_at(provider) as browser:
        yield browser


# What it publishes


async def test_the_metadata_says_where_everything_is(provider: Provider, browser: Browser) -> None:
    metadata = (await browser.http.get("/.well-known/openid-configuration")).json()

    assert metadata["issuer"] == provider.issuer
    assert metadata["token_endpoint"] == f"{provider.issuer}/token"
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert metadata["authorization_response_iss_parameter_supported"] is True


async def test_the_jwks_has_no_private_part(browser: Browser) -> None:
    keys = (await browser.http.get("/jwks")).json()["keys"]

    assert [key["alg"] for key in keys] == ["RS256", "ES256"]
    assert not any("d" in key for key in keys)


# Signing in


async def test_the_login_page_offers_alice_bob_and_deny(browser: Browser) -> None:
    page = await browser.authorize()

    assert page.status_code == 200
    assert "<title>Development provider</title>" in page.text
    assert '<button name="sub" value="alice">Continue as Alice Adams</button>' in page.text
    assert '<button name="sub" value="bob">Continue as Bob Brown</button>' in page.text
    assert 'name="deny"' in page.text


async def test_a_login_hint_does_not_skip_the_page(browser: Browser) -> None:
    assert (await browser.authorize(login_hint="alice")).status_code == 200


async def test_signing_in_sends_code_state_and_issuer_back(provider: Provider, browser: Browser) -> None:
    back = await browser.sign_in("alice")

    assert back.pop("code").startswith("code-")
    assert back == {"state": "the-state", "iss": provider.issuer}


async def test_deny_sends_access_denied_back(provider: Provider, browser: Browser) -> None:
    answer = await browser.http.post("/authorize", params=authorize_params({}), data={"deny": "yes"})

    back = callback_params(answer)
    assert (back["error"], back["state"], back["iss"]) == ("access_denied", "the-state", provider.issuer)
    assert "code" not in back


async def test_a_browser_that_has_signed_in_sees_no_login_page(browser: Browser) -> None:
    await browser.sign_in("alice")

    assert "code" in callback_params(await browser.authorize())


async def test_the_session_cookie_is_out_of_reach_for_scripts(browser: Browser) -> None:
    answer = await browser.http.post("/authorize", params=authorize_params({}), data={"sub": "alice"})

    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("dev_provider_sid=")
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Lax")


async def test_prompt_login_asks_again(browser: Browser) -> None:
    await browser.sign_in("alice")

    assert (await browser.authorize(prompt="login")).status_code == 200


async def test_prompt_none_without_a_session_is_login_required(browser: Browser) -> None:
    back = callback_params(await browser.authorize(prompt="none"))

    assert (back["error"], back["state"]) == ("login_required", "the-state")


async def test_prompt_none_with_a_session_goes_straight_back(browser: Browser) -> None:
    await browser.sign_in("alice")

    assert "code" in callback_params(await browser.authorize(prompt="none"))


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"client_id": "unknown"}, id="client that is not registered"),
        pytest.param({"redirect_uri": "https://evil.example/"}, id="redirect URI of another client"),
    ],
)
async def test_nothing_is_sent_to_a(changed: dict[str, str], browser: Browser) -> None:
    shown = await browser.authorize(**changed)
    answered = await browser.http.post("/authorize", params=authorize_params(changed), data={"sub": "alice"})

    assert (shown.status_code, answered.status_code) == (400, 400)
    assert "Location" not in answered.headers


async def test_an_unknown_response_type_is_an_error_that_goes_back(browser: Browser) -> None:
    back = callback_params(await browser.authorize(response_type="token"))

    assert (back["error"], back["state"]) == ("unsupported_response_type", "the-state")


@pytest.mark.parametrize("method", ["plain", ""])
async def test_pkce_with_s256_is_required(method: str, browser: Browser) -> None:
    back = callback_params(await browser.authorize(code_challenge_method=method))

    assert back["error"] == "invalid_request"


# The code


async def test_a_code_is_exchanged_for_three_tokens(browser: Browser) -> None:
    back = await browser.sign_in("alice")
    answer = await browser.redeem(back["code"])

    tokens = answer.json()
    assert answer.headers["Cache-Control"] == "no-store"
    assert tokens["access_token"].startswith("at-")
    assert tokens["refresh_token"].startswith("rt-")
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 300)


async def test_the_id_token_says_who_signed_in(provider: Provider, browser: Browser, clock: Clock) -> None:
    tokens = await browser.tokens(sub="bob")
    token = jwt.decode(tokens["id_token"], await browser.keys(), ["RS256"])

    now, claims = int(clock.now), token.claims
    half = hashlib.sha256(tokens["access_token"].encode()).digest()[:16]
    assert claims.pop("sid")
    assert claims.pop("at_hash") == base64.urlsafe_b64encode(half).decode().rstrip("=")
    assert claims == {
        "iss": provider.issuer,
        "sub": "bob",
        "aud": "app",
        "iat": now,
        "exp": now + 300,
        "auth_time": now,
        "nonce": "the-nonce",
        "name": "Bob Brown",
        "groups": ["staff"],
        "realm_access": {"roles": ["user"]},
        "email": "bob@example.com",
        "email_verified": True,
    }


async def test_the_wrong_verifier_is_invalid_grant(browser: Browser) -> None:
    back = await browser.sign_in()
    answer = await browser.redeem(back["code"], verifier="x" * 43)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_a_code_used_twice_is_invalid_grant_and_ends_its_tokens(
    provider: Provider, browser: Browser
) -> None:
    back = await browser.sign_in()
    tokens = (await browser.redeem(back["code"])).json()
    answer = await browser.redeem(back["code"])

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert not provider.is_active(tokens["access_token"])
    assert not provider.is_active(tokens["refresh_token"])


async def test_a_code_belongs_to_one_client(provider: Provider, browser: Browser) -> None:
    provider.clients["other"] = Client("other", "secret", (CALLBACK,))
    back = await browser.sign_in()

    form = {"code": back["code"], "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    answer = await browser.token("authorization_code", basic("other", "secret"), **form)

    assert answer.json()["error"] == "invalid_grant"


async def test_a_code_is_good_for_a_minute(browser: Browser, clock: Clock) -> None:
    back = await browser.sign_in()
    clock.now += 60

    assert (await browser.redeem(back["code"])).json()["error"] == "invalid_grant"


async def test_without_offline_access_there_is_no_refresh_token(browser: Browser) -> None:
    assert "refresh_token" not in await browser.tokens(scope="openid")


async def test_without_openid_there_is_no_id_token(browser: Browser) -> None:
    assert (await browser.authorize(scope="api")).status_code == 200
    assert "id_token" not in await browser.tokens(scope="api")


# Who the client is


@pytest.mark.parametrize("secret", ["a:b", "100%41", "a+b", "a b", "ü"])
async def test_the_secret_of_client_secret_basic_is_form_urlencoded(
    secret: str, provider: Provider, browser: Browser
) -> None:
    provider.clients["the app"] = Client("the app", secret, (CALLBACK,))

    raw = await browser.token("client_credentials", basic("the app", secret))
    encoded = await browser.token("client_credentials", basic("the+app", quote_plus(secret)))

    assert (raw.status_code, raw.json()["error"]) == (401, "invalid_client")
    assert encoded.status_code == 200


async def test_client_secret_post_is_understood(browser: Browser) -> None:
    form = {"client_id": "app", "client_secret": APP.client_secret}

    assert (await browser.token("client_credentials", "", **form)).status_code == 200


async def test_the_wrong_secret_is_invalid_client(browser: Browser) -> None:
    answer = await browser.token("client_credentials", basic("app", "wrong"))

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


async def test_an_unknown_grant_type_is_an_oauth_error(browser: Browser) -> None:
    answer = await browser.token("password", username="alice")

    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")


async def test_client_credentials_belong_to_no_user(provider: Provider, browser: Browser) -> None:
    tokens = (await browser.token("client_credentials", scope="orders")).json()

    record = provider.access_token(tokens["access_token"])
    assert record is not None
    assert (record.sub, record.client_id, record.scope) == (None, "app", "orders")
    assert "refresh_token" not in tokens
    assert (await browser.userinfo(tokens["access_token"])).status_code == 403


# Access tokens


async def test_userinfo_tells_what_the_scope_allows(browser: Browser) -> None:
    tokens = await browser.tokens(scope="openid profile")

    claims = (await browser.userinfo(tokens["access_token"])).json()
    roles = {"groups": ["staff", "admins"], "realm_access": {"roles": ["user", "admin"]}}
    assert claims == {"sub": "alice", "name": "Alice Adams", **roles}


async def test_an_access_token_ends_when_it_expires(
    provider: Provider, browser: Browser, clock: Clock
) -> None:
    provider.access_token_seconds = 60
    tokens = await browser.tokens()
    record = provider.access_token(tokens["access_token"])
    assert record is not None
    clock.now = record.expires_at

    answer = await browser.userinfo(tokens["access_token"])

    assert tokens["expires_in"] == 60
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')


@pytest.mark.parametrize("sent", ["3600", 0, 1.5])
async def test_expires_in_is_sent_as_a_test_wants_it(
    sent: object, provider: Provider, browser: Browser
) -> None:
    provider.expires_in = sent

    assert (await browser.tokens())["expires_in"] == sent


async def test_expires_in_can_be_left_out(provider: Provider, browser: Browser) -> None:
    provider.expires_in = None

    assert "expires_in" not in await browser.tokens()


# Refresh tokens


async def test_a_refresh_gives_new_tokens_and_the_old_refresh_token_is_spent(
    provider: Provider, browser: Browser
) -> None:
    old = await browser.tokens()
    new = (await browser.refresh(old["refresh_token"])).json()

    assert provider.is_active(new["access_token"])
    assert provider.is_active(new["refresh_token"])
    assert not provider.is_active(old["refresh_token"])
    assert provider.is_active(old["access_token"])


async def test_a_spent_refresh_token_ends_the_whole_family(provider: Provider, browser: Browser) -> None:
    old = await browser.tokens()
    new = (await browser.refresh(old["refresh_token"])).json()
    answer = await browser.refresh(old["refresh_token"])

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert not provider.is_active(new["refresh_token"])
    assert not provider.is_active(new["access_token"])
    assert not provider.is_active(old["access_token"])


async def test_another_login_is_another_family(provider: Provider, browser: Browser) -> None:
    old, other = await browser.tokens(), await browser.tokens()
    await browser.refresh(old["refresh_token"])
    await browser.refresh(old["refresh_token"])

    assert provider.is_active(other["refresh_token"])


async def test_a_reusable_refresh_token_stays_good_and_is_not_repeated(
    provider: Provider, browser: Browser
) -> None:
    provider.rotates = False
    tokens = await browser.tokens()

    answers = [await browser.refresh(tokens["refresh_token"]) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert not any("refresh_token" in answer.json() for answer in answers)


async def test_a_refreshed_id_token_has_the_same_subject_and_no_nonce(browser: Browser) -> None:
    tokens = await browser.tokens()
    refreshed = (await browser.refresh(tokens["refresh_token"])).json()

    keys = await browser.keys()
    first, second = (jwt.decode(answer["id_token"], keys).claims for answer in (tokens, refreshed))
    assert (first["sub"], first["sid"]) == (second["sub"], second["sid"])
    assert "nonce" not in second


async def test_a_refresh_can_bring_no_id_token(provider: Provider, browser: Browser) -> None:
    provider.refresh_returns_id_token = False
    tokens = await browser.tokens()

    assert "id_token" in tokens
    assert "id_token" not in (await browser.refresh(tokens["refresh_token"])).json()


async def test_refresh_tokens_can_be_withheld(provider: Provider, browser: Browser) -> None:
    provider.issues_refresh_token = False

    assert "refresh_token" not in await browser.tokens()


async def test_a_narrower_scope_holds_for_one_refresh(provider: Provider, browser: Browser) -> None:
    first = (await browser.tokens())["refresh_token"]
    narrow = (await browser.token("refresh_token", refresh_token=first, scope="openid")).json()
    wide = (await browser.refresh(narrow["refresh_token"])).json()

    assert (narrow["scope"], wide["scope"]) == ("openid", "openid profile email offline_access")


async def test_a_refresh_token_belongs_to_one_client(provider: Provider, browser: Browser) -> None:
    provider.clients["other"] = Client("other", "secret", (CALLBACK,))
    refresh_token = (await browser.tokens())["refresh_token"]

    answer = await browser.token("refresh_token", basic("other", "secret"), refresh_token=refresh_token)

    assert answer.json()["error"] == "invalid_grant"


async def test_the_provider_can_end_all_grants(provider: Provider, browser: Browser) -> None:
    tokens = await browser.tokens()
    provider.end_all_grants()

    assert (await browser.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
    assert provider.is_active(tokens["access_token"])


# Revocation and introspection


async def revoke(browser: Browser, token: str) -> httpx.Response:
    return await browser.http.post("/revoke", data={"token": token}, headers={"Authorization": BASIC})


async def test_revoking_the_refresh_token_ends_the_access_token_too(
    provider: Provider, browser: Browser
) -> None:
    tokens = await browser.tokens()

    assert (await revoke(browser, tokens["refresh_token"])).status_code == 200
    assert not provider.is_active(tokens["refresh_token"])
    assert not provider.is_active(tokens["access_token"])


async def test_revoking_the_access_token_ends_only_that(provider: Provider, browser: Browser) -> None:
    tokens = await browser.tokens()
    await revoke(browser, tokens["access_token"])

    assert not provider.is_active(tokens["access_token"])
    assert provider.is_active(tokens["refresh_token"])


async def test_revoking_an_unknown_token_is_no_error(browser: Browser) -> None:
    assert (await revoke(browser, "rt-unknown")).status_code == 200


async def test_revocation_wants_to_know_the_client(provider: Provider, browser: Browser) -> None:
    tokens = await browser.tokens()
    answer = await browser.http.post("/revoke", data={"token": tokens["refresh_token"]})

    assert answer.json()["error"] == "invalid_client"
    assert provider.is_active(tokens["refresh_token"])


async def test_introspection_describes_a_living_token(browser: Browser, clock: Clock) -> None:
    tokens = await browser.tokens(scope="openid")
    introspection = await browser.introspect(tokens["access_token"])

    assert (introspection["active"], introspection["sub"], introspection["client_id"]) == (
        True,
        "alice",
        "app",
    )
    assert (introspection["scope"], introspection["exp"]) == ("openid", int(clock.now) + 300)


async def test_introspection_says_nothing_about_a_dead_token(browser: Browser) -> None:
    tokens = await browser.tokens()
    await revoke(browser, tokens["access_token"])

    assert await browser.introspect(tokens["access_token"]) == {"active": False}


# Signing out


async def sign_out(browser: Browser, **query: str) -> httpx.Response:
    return await browser.http.get("/logout", params=query)


async def test_signing_out_ends_the_session_at_the_provider(browser: Browser) -> None:
    await browser.sign_in()
    page = await sign_out(browser)

    assert "You are signed out" in page.text
    assert (await browser.authorize()).status_code == 200


async def test_after_signing_out_an_old_cookie_has_no_session(browser: Browser) -> None:
    await browser.sign_in()
    stolen = browser.http.cookies["dev_provider_sid"]
    await sign_out(browser)
    browser.http.cookies.set("dev_provider_sid", stolen)

    assert (await browser.authorize()).status_code == 200


async def test_a_session_whose_grant_was_revoked_cannot_be_signed_out_as_at_keycloak(
    provider: Provider, browser: Browser
) -> None:
    provider.sessions_end_with_their_grants = True
    tokens = await browser.tokens()
    await revoke(browser, tokens["refresh_token"])
    answer = await sign_out(browser, id_token_hint=tokens["id_token"], post_logout_redirect_uri=SIGNED_OUT)

    assert answer.status_code == 400
    assert "session_expired" in answer.text
    assert (await browser.authorize()).status_code == 303  # signed in, without a page


async def test_signing_out_does_not_end_the_tokens(provider: Provider, browser: Browser) -> None:
    tokens = await browser.tokens()
    await sign_out(browser, id_token_hint=tokens["id_token"])

    assert provider.is_active(tokens["refresh_token"])


async def test_a_client_that_gives_a_hint_gets_the_browser_back(browser: Browser) -> None:
    tokens = await browser.tokens()
    answer = await sign_out(
        browser, id_token_hint=tokens["id_token"], post_logout_redirect_uri=SIGNED_OUT, state="s&1"
    )

    assert callback_params(answer, to=SIGNED_OUT) == {"state": "s&1"}


async def test_a_client_that_gives_its_id_gets_the_browser_back(browser: Browser) -> None:
    answer = await sign_out(browser, client_id="app", post_logout_redirect_uri=SIGNED_OUT)

    assert callback_params(answer, to=SIGNED_OUT) == {}


@pytest.mark.parametrize(
    "query",
    [
        pytest.param({"post_logout_redirect_uri": SIGNED_OUT}, id="says who it is"),
        pytest.param(
            {"client_id": "app", "post_logout_redirect_uri": "https://evil.example/"},
            id="has registered the redirect URI",
        ),
    ],
)
async def test_the_browser_is_not_redirected_back_unless_the_client(
    query: dict[str, str], browser: Browser
) -> None:
    answer = await sign_out(browser, **query)

    assert (answer.status_code, answer.headers.get("Location")) == (200, None)


async def test_a_hint_that_was_not_issued_here_is_refused(browser: Browser) -> None:
    await browser.sign_in()
    answer = await sign_out(browser, id_token_hint="x.y.z", post_logout_redirect_uri=SIGNED_OUT)

    assert answer.status_code == 400
    assert "code" in callback_params(await browser.authorize())


# Lies


def part(id_token: str, number: int) -> dict[str, object]:
    """The header (0) or the claims (1), believed without looking at the signature."""
    decoded: dict[str, object] = json.loads(base64.urlsafe_b64decode(id_token.split(".")[number] + "=="))
    return decoded


async def test_a_claim_of_the_id_token_can_be_changed_or_removed(
    provider: Provider, browser: Browser
) -> None:
    provider.overrides["id_token"] = {"iss": "https://evil.example", "nonce": None}
    tokens = await browser.tokens()

    claims = jwt.decode(tokens["id_token"], await browser.keys()).claims
    assert claims["iss"] == "https://evil.example"
    assert "nonce" not in claims


async def test_the_id_token_can_have_no_kid(provider: Provider, browser: Browser) -> None:
    provider.overrides["id_token_header"] = {"kid": None}
    tokens = await browser.tokens()

    assert part(tokens["id_token"], 0) == {"alg": "RS256", "typ": "JWT"}


async def test_userinfo_can_be_of_another_user(provider: Provider, browser: Browser) -> None:
    provider.overrides["userinfo"] = {"sub": "mallory"}
    tokens = await browser.tokens()

    assert (await browser.userinfo(tokens["access_token"])).json()["sub"] == "mallory"


async def test_the_metadata_can_be_wrong(provider: Provider, browser: Browser) -> None:
    provider.overrides["metadata"] = {"issuer": "https://evil.example", "revocation_endpoint": None}
    metadata = (await browser.http.get("/.well-known/openid-configuration")).json()

    assert metadata["issuer"] == "https://evil.example"
    assert "revocation_endpoint" not in metadata


async def test_the_redirect_back_can_be_wrong(provider: Provider, browser: Browser) -> None:
    provider.overrides["callback"] = {"state": None, "iss": "https://evil.example"}
    back = await browser.sign_in()

    assert back.keys() == {"code", "iss"}
    assert back["iss"] == "https://evil.example"


# Signatures


async def test_it_can_sign_with_es256(provider: Provider, browser: Browser) -> None:
    provider.signing_alg = "ES256"
    tokens = await browser.tokens()

    assert jwt.decode(tokens["id_token"], await browser.keys(), ["ES256"]).claims["sub"] == "alice"


async def test_it_can_sign_with_the_client_secret(provider: Provider, browser: Browser) -> None:
    provider.signing_alg = "HS256"
    tokens = await browser.tokens()

    token = jwt.decode(tokens["id_token"], OctKey.import_key(APP.client_secret), ["HS256"])
    assert token.claims["sub"] == "alice"


async def test_it_can_leave_the_id_token_unsigned(provider: Provider, browser: Browser) -> None:
    provider.signing_alg = "none"
    tokens = await browser.tokens()

    assert part(tokens["id_token"], 0) == {"alg": "none"}
    assert part(tokens["id_token"], 1)["sub"] == "alice"
    assert tokens["id_token"].endswith(".")


async def test_it_can_sign_with_an_unpublished_key(provider: Provider, browser: Browser) -> None:
    provider.signs_with_unpublished_key = True
    tokens = await browser.tokens()

    with pytest.raises(BadSignatureError):
        jwt.decode(tokens["id_token"], await browser.keys())


async def test_rotated_keys_have_a_new_kid_and_the_old_ones_are_gone(
    provider: Provider, browser: Browser
) -> None:
    before = await browser.keys()
    provider.rotate_keys()
    after = await browser.keys()

    assert not {key.kid for key in before} & {key.kid for key in after}
    tokens = await browser.tokens()
    assert jwt.decode(tokens["id_token"], after).claims["sub"] == "alice"


async def test_broken_keys_can_stand_before_the_good_one(provider: Provider, browser: Browser) -> None:
    provider.publishes_malformed_keys = True
    keys = (await browser.http.get("/jwks")).json()["keys"]

    assert keys[0]["kty"] == "unheard-of"
    assert "not an object" in keys
    assert keys[-2]["alg"] == "RS256"


# Holding, failing, counting


async def test_a_held_request_is_counted_but_not_processed(provider: Provider, browser: Browser) -> None:
    old = await browser.tokens()
    hold = provider.holds["token"] = asyncio.Event()
    waiting = asyncio.create_task(browser.refresh(old["refresh_token"]))
    await wait_until(lambda: provider.counts["token:refresh_token"] == 1)

    assert provider.is_active(old["refresh_token"])
    hold.set()
    assert (await waiting).status_code == 200
    assert not provider.is_active(old["refresh_token"])


async def test_a_held_answer_has_been_processed(provider: Provider, browser: Browser) -> None:
    old = await browser.tokens()
    hold = provider.holds_answer["token"] = asyncio.Event()
    waiting = asyncio.create_task(browser.refresh(old["refresh_token"]))
    await wait_until(lambda: not provider.is_active(old["refresh_token"]))

    hold.set()
    assert (await waiting).status_code == 200


async def test_a_held_answer_is_lost_when_the_provider_stops(provider: Provider, browser: Browser) -> None:
    old = await browser.tokens()
    provider.holds_answer["token"] = asyncio.Event()
    waiting = asyncio.create_task(browser.refresh(old["refresh_token"]))
    await wait_until(lambda: not provider.is_active(old["refresh_token"]))
    await provider.stop()

    with pytest.raises(httpx.TransportError):
        await waiting


async def test_a_failure_is_answered_instead_of_processing(provider: Provider, browser: Browser) -> None:
    old = await browser.tokens()
    provider.fails["token"] = Failure(status=429, body=b"later", headers={"Retry-After": "7"})
    answer = await browser.refresh(old["refresh_token"])

    assert (answer.status_code, answer.content, answer.headers["Retry-After"]) == (429, b"later", "7")
    assert provider.is_active(old["refresh_token"])


async def test_every_request_is_counted(provider: Provider, browser: Browser) -> None:
    tokens = await browser.tokens()
    await browser.refresh(tokens["refresh_token"])
    await browser.userinfo(tokens["access_token"])

    assert (provider.counts["authorize"], provider.counts["userinfo"]) == (1, 1)
    assert (provider.counts["token"], provider.counts["token:refresh_token"]) == (2, 1)
    assert provider.counts["revoke"] == 0


async def test_the_last_request_is_remembered(provider: Provider, browser: Browser) -> None:
    await browser.authorize(prompt="login")
    await revoke(browser, "rt-1")

    assert provider.last_request["authorize"]["prompt"] == "login"
    assert provider.last_request["revoke"] == {"token": "rt-1"}


async def test_a_client_that_gives_up_waiting_stops_nothing(provider: Provider, browser: Browser) -> None:
    old = await browser.tokens()
    hold = provider.holds["token"] = asyncio.Event()
    waiting = asyncio.create_task(browser.refresh(old["refresh_token"]))
    await wait_until(lambda: provider.counts["token:refresh_token"] == 1)
    waiting.cancel()
    hold.set()

    await wait_until(lambda: not provider.is_active(old["refresh_token"]))


async def test_a_held_request_is_dropped_when_the_provider_stops(
    provider: Provider, browser: Browser
) -> None:
    old = await browser.tokens()
    hold = provider.holds["token"] = asyncio.Event()
    waiting = asyncio.create_task(browser.refresh(old["refresh_token"]))
    await wait_until(lambda: provider.counts["token:refresh_token"] == 1)
    await provider.stop()

    with pytest.raises(httpx.TransportError):
        await waiting
    hold.set()
    await provider.start(provider.port)
    assert (await browser.refresh(old["refresh_token"])).status_code == 200


async def test_it_can_come_back_on_the_same_port(provider: Provider, browser: Browser) -> None:
    tokens = await browser.tokens()
    await provider.stop()
    with pytest.raises(httpx.ConnectError):
        await browser.userinfo(tokens["access_token"])
    await provider.start(provider.port)

    assert (await browser.userinfo(tokens["access_token"])).status_code == 200


# The API that its tokens open


@pytest.fixture
async def caller(api: DemoApi, browser: Browser) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody with Alice's access token."""
    token = (await browser.tokens())["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=api.base_url, headers=headers) as caller:
        yield caller


async def test_the_echo_repeats_everything_but_the_token(caller: httpx.AsyncClient) -> None:
    answer = await caller.put("echo/a/b?x=1&x=2", content="hello")

    echo = answer.json()
    assert (echo["method"], echo["path"], echo["query"]) == ("PUT", "/api/echo/a/b", "x=1&x=2")
    assert (echo["body"], echo["user"]) == ("hello", "alice")
    assert ["Authorization", "Bearer …"] in echo["headers"]
    assert "at-" not in answer.text


async def test_the_last_request_has_the_token(api: DemoApi, caller: httpx.AsyncClient) -> None:
    await caller.get("echo")

    assert api.last_request is not None
    assert ("Authorization", caller.headers["Authorization"]) in api.last_request.headers


@pytest.mark.parametrize("authorization", ["", "Bearer at-unknown", "Basic YTpi"])
async def test_without_a_good_token_there_is_401(authorization: str, caller: httpx.AsyncClient) -> None:
    answer = await caller.get("echo", headers={"Authorization": authorization})

    assert (answer.status_code, answer.json()) == (401, {"error": "invalid_token"})
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


async def test_a_living_token_can_be_rejected(api: DemoApi, caller: httpx.AsyncClient) -> None:
    api.rejects.add(caller.headers["Authorization"].removeprefix("Bearer "))

    assert (await caller.get("echo")).status_code == 401
    assert api.counts["echo"] == 1


async def test_a_user_keeps_a_list(caller: httpx.AsyncClient) -> None:
    added = await caller.post("todos", json={"title": "Water the plants"})
    gone = await caller.delete("todos/1")

    assert (added.status_code, gone.status_code) == (201, 204)
    assert [todo["id"] for todo in (await caller.get("todos")).json()] == [2, added.json()["id"]]


@pytest.mark.parametrize("body", ["", "{", "[]", '"title"', '{"title": 1}', '{"title": " "}'])
async def test_a_to_do_without_a_title_is_refused(body: str, caller: httpx.AsyncClient) -> None:
    assert (await caller.post("todos", content=body)).status_code == 400


async def test_the_api_can_redirect_and_answer_with_any_status(caller: httpx.AsyncClient) -> None:
    redirect = await caller.get("redirect", params={"to": "https://other.example/"})
    teapot = await caller.get("status/418")

    assert (redirect.status_code, redirect.headers["Location"]) == (302, "https://other.example/")
    assert (teapot.status_code, teapot.json()) == (418, {})
