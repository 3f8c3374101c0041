"""Claims: which ID tokens, refreshed ID tokens and userinfo are accepted, rule by rule."""

from __future__ import annotations

from typing import Any

import pytest

from app.bff.errors import MistimedToken, UntrustedToken, UnusableToken
from app.bff.oidc.claims import (
    LEEWAY_SECONDS,
    at_hash,
    check_id_token,
    check_refreshed_id_token,
    check_userinfo,
)
from app.bff.oidc.keys import SignedToken

NOW = 1_800_000_000
ISSUER = "https://provider.example"
# An access token and its hash: OpenID Connect Core 1.0, appendix A.3 (RS256).
ACCESS_TOKEN, AT_HASH = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y", "77QmUPtjPfzWtF2AnpK9RQ"
GOOD: dict[str, Any] = {
    "iss": ISSUER,
    "aud": "app",
    "sub": "alice",
    "nonce": "n-1",
    "exp": NOW + 300,
    "iat": NOW,
    "at_hash": AT_HASH,
}
MISSING = object()


def a_token(changed: dict[str, Any]) -> SignedToken:
    claims = {name: value for name, value in {**GOOD, **changed}.items() if value is not MISSING}
    return SignedToken("RS256", "JWT", claims)


def check(changed: dict[str, Any], *trusted: str, now: float = NOW) -> None:
    check_id_token(
        a_token(changed),
        issuer=ISSUER,
        client_id="app",
        trusted_audiences=trusted,
        nonce="n-1",
        access_token=ACCESS_TOKEN,
        now=now,
    )


def check_refreshed(changed: dict[str, Any], *trusted: str, now: float = NOW, **earlier: Any) -> None:
    check_refreshed_id_token(
        a_token(changed),
        earlier={**GOOD, **earlier},
        client_id="app",
        trusted_audiences=trusted,
        now=now,
    )


ACCEPTED = [
    pytest.param({}, id="made for this login"),
    pytest.param({"aud": ["app"]}, id="meant for us, in a list"),
    pytest.param({"azp": "app"}, id="issued to us"),
    pytest.param({"exp": NOW - LEEWAY_SECONDS + 1}, id="expired less than a minute ago"),
    pytest.param({"exp": NOW + 0.5}, id="expiring at a fraction of a second"),
    pytest.param({"exp": 10**400}, id="good for ever"),
    pytest.param({"iat": NOW + LEEWAY_SECONDS - 1}, id="issued by a clock that is a little fast"),
    pytest.param({"nbf": NOW}, id="good from now on"),
    pytest.param({"unknown": {"to": "us"}}, id="saying more than we know"),
]
# What is wrong with an ID token, at login and at refresh.
REFUSED = [
    pytest.param({"iss": "https://other.example"}, "iss", id="another issuer's"),
    pytest.param({"iss": ISSUER + "/"}, "iss", id="of an issuer with one slash more"),
    pytest.param({"iss": ISSUER.upper()}, "iss", id="of the issuer in capitals"),
    pytest.param({"iss": MISSING}, "iss", id="of no issuer"),
    pytest.param({"iss": [ISSUER]}, "iss", id="of a list of issuers"),
    pytest.param({"aud": "someone-else"}, "aud", id="meant for someone else"),
    pytest.param({"aud": "app "}, "aud", id="meant for a client with a similar name"),
    pytest.param({"aud": "someone-else", "azp": "app"}, "aud", id="issued to us, meant for someone else"),
    pytest.param({"aud": []}, "aud", id="with an empty audience"),
    pytest.param({"aud": MISSING}, "aud", id="without audience"),
    pytest.param({"aud": {"app": 1}}, "aud", id="meant for an object"),
    pytest.param({"aud": ["app", "other"]}, "aud", id="meant for another client too"),
    pytest.param({"aud": ["app", "other"], "azp": "app"}, "aud", id="meant for another client too, azp ours"),
    pytest.param({"azp": "other"}, "azp", id="issued to someone else"),
    pytest.param({"azp": None}, "azp", id="issued to null"),
    pytest.param({"exp": NOW - LEEWAY_SECONDS}, "exp", id="expired a minute ago"),
    pytest.param({"exp": MISSING}, "exp", id="without end"),
    pytest.param({"exp": str(NOW + 300)}, "exp", id="expiring at a text"),
    pytest.param({"exp": True}, "exp", id="expiring at true"),
    pytest.param({"exp": float("nan")}, "exp", id="expiring at no number"),
    pytest.param({"iat": NOW + LEEWAY_SECONDS}, "iat", id="issued a minute from now"),
    pytest.param({"iat": MISSING}, "iat", id="issued at no time"),
    pytest.param({"iat": True}, "iat", id="issued at true"),
    pytest.param({"iat": "today"}, "iat", id="issued at a text"),
    pytest.param({"iat": float("nan")}, "iat", id="issued at no number"),
    pytest.param({"iat": 10**400}, "iat", id="issued at the end of days"),
    pytest.param({"nbf": NOW + LEEWAY_SECONDS}, "nbf", id="not good for another minute"),
    pytest.param({"nbf": "later"}, "nbf", id="good from a text on"),
    pytest.param({"sub": MISSING}, "sub", id="without a subject"),
    pytest.param({"sub": ""}, "sub", id="about an empty name"),
    pytest.param({"sub": 7}, "sub", id="about a number"),
    pytest.param({"sub": "alice\ud800"}, "sub", id="about a name with half a surrogate pair"),
    pytest.param({"sub": "a" * 1025}, "sub", id="about a name of more than a kilobyte"),
    pytest.param({"nonce": "n-1\ud800"}, "nonce", id="an answer with half a surrogate pair"),
    pytest.param({"nonce": "replayed"}, "nonce", id="an answer to another login"),
    pytest.param({"nonce": None}, "nonce", id="an answer to nothing"),
]


@pytest.mark.parametrize("changed", ACCEPTED)
def test_an_id_token_is_accepted_when_it_is(changed):
    assert check(changed) is None


@pytest.mark.parametrize(("changed", "claim"), REFUSED)
def test_an_id_token_is_refused_when_it_is(changed, claim):
    with pytest.raises(UntrustedToken, match=f"the claim {claim} "):
        check(changed)


@pytest.mark.parametrize(
    ("changed", "claim"),
    [
        pytest.param({"nonce": MISSING}, "nonce", id="nonce is missing"),
        pytest.param({"at_hash": "another"}, "at_hash", id="access token is another one"),
        pytest.param({"at_hash": None}, "at_hash", id="access token is none"),
        pytest.param({"at_hash": AT_HASH + "=="}, "at_hash", id="hash is padded"),
    ],
)
def test_at_login_an_id_token_is_also_refused_when_its(changed, claim):
    with pytest.raises(UntrustedToken, match=f"the claim {claim} "):
        check(changed)


def test_at_login_an_id_token_need_not_have_a_hash_of_the_access_token():
    assert check({"at_hash": MISSING}) is None


@pytest.mark.parametrize("changed", ACCEPTED)
def test_a_refreshed_id_token_is_accepted_when_it_is(changed):
    assert check_refreshed(changed) is None


@pytest.mark.parametrize(("changed", "claim"), REFUSED)
def test_a_refreshed_id_token_is_refused_when_it_is(changed, claim):
    with pytest.raises(UntrustedToken, match=f"the claim {claim} "):
        check_refreshed(changed)


# How each claim can be wrong. At login all of it is refused. At refresh a token ends the session if it does
# not name the same issuer, user and client, and is left aside (UnusableToken) for all else.
NO_NAME = [MISSING, None, "", 7, True, [], {}, ["alice"], "other"]
NO_TIME = [MISSING, None, "", "soon", [], {}, True, float("nan")]
WRONG = {
    "iss": NO_NAME,
    "sub": NO_NAME,
    "aud": [*NO_NAME, ["other"], ["app", "other"], ["app", 7], ["app", None], {"app": 1}],
    "azp": [None, "", 7, True, [], {}, ["app"], "other"],
    "nonce": [None, "", 7, True, [], {}, ["n-1"], "other"],
    "exp": [*NO_TIME, 0, -1, 1, NOW - LEEWAY_SECONDS, float("-inf")],
    "iat": [*NO_TIME, 10**400, NOW + LEEWAY_SECONDS, float("inf")],
    "nbf": [*NO_TIME[1:], 10**400, NOW + LEEWAY_SECONDS, float("inf")],
}
CASES = [
    pytest.param(name, value, id=f"{name}={'missing' if value is MISSING else repr(value)[:20]}")
    for name, values in WRONG.items()
    for value in values
    if (name, value) != ("sub", "other")  # at login any user is right
]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_at_login_every_wrong_claim_is_refused(name, value):
    with pytest.raises(UntrustedToken, match=f"the claim {name} is invalid"):
        check({name: value})


@pytest.mark.parametrize(("name", "value"), CASES)
def test_at_refresh_only_another_issuer_user_or_client_speaks_of_another_login(name, value):
    ends_the_session = name in ("iss", "sub", "aud") or (name, value) == ("azp", "other")
    with pytest.raises(UntrustedToken, match=f"the claim {name} is invalid") as refused:
        check_refreshed({name: value})

    assert isinstance(refused.value, UnusableToken) != ends_the_session


@pytest.mark.parametrize("name", ["at_hash", "auth_time", "acr", "amr", "sid", "jti", "c_hash", "email"])
@pytest.mark.parametrize("value", [MISSING, None, "", 7, [], {}, "other"])
def test_at_refresh_no_other_claim_matters(name, value):
    assert check_refreshed({name: value}, **{name: "earlier"}) is None


@pytest.mark.parametrize("wrong", [{"sub": "bob"}, {"aud": "other"}, {"iss": "https://other.example"}])
def test_at_refresh_who_it_is_for_matters_more_than_times_and_nonce(wrong):
    with pytest.raises(UntrustedToken) as refused:
        check_refreshed({**wrong, "exp": 1, "nonce": ""})

    assert not isinstance(refused.value, UnusableToken)


# Clocks


@pytest.mark.parametrize("check_it", [check, check_refreshed], ids=["login", "refresh"])
@pytest.mark.parametrize(
    ("changed", "ahead", "said"),
    [
        pytest.param({"iat": NOW - 600, "exp": NOW - 300}, 600, "600 s ahead of", id="ten minutes ahead"),
        pytest.param(
            {"iat": NOW + 90, "exp": NOW + 390}, -90, "90 s behind", id="a minute and a half behind"
        ),
        pytest.param({"nbf": NOW + 90}, 0, "0 s ahead of", id="right, and the token not yet valid"),
        pytest.param({"iat": 10**400}, NOW - 10**12, "s behind", id="behind by more than a float holds"),
        pytest.param({"iat": -(10**400), "exp": 1}, NOW, "s ahead of", id="ahead by more than a float holds"),
    ],
)
def test_wrong_times_say_by_how_much_our_clock_is(changed, ahead, said, check_it):
    with pytest.raises(MistimedToken, match=f"our clock is .*{said} the time when it was issued") as refused:
        check_it(changed)

    assert refused.value.seconds_ahead == ahead


@pytest.mark.parametrize("wrong", [{"nonce": "other"}, {"sub": ""}, {"at_hash": "other"}, {"azp": "other"}])
def test_at_login_the_clock_is_blamed_only_if_all_else_is_right(wrong):
    with pytest.raises(UntrustedToken) as refused:
        check({**wrong, "iat": NOW + 600})

    assert not isinstance(refused.value, MistimedToken)


# Further audiences (BFF_TRUSTED_AUDIENCES)


@pytest.mark.parametrize("check_it", [check, check_refreshed], ids=["login", "refresh"])
@pytest.mark.parametrize(
    "audience", [["app", "project"], ["project", "app"], ["app", "project", "api"], ["app"]]
)
def test_a_trusted_audience_may_stand_beside_the_client(audience, check_it):
    assert check_it({"aud": audience, "azp": "app"}, "project", "api") is None


@pytest.mark.parametrize("check_it", [check, check_refreshed], ids=["login", "refresh"])
@pytest.mark.parametrize(
    ("changed", "claim"),
    [
        pytest.param({"aud": ["project"], "azp": "app"}, "aud", id="instead of the client"),
        pytest.param({"aud": "project", "azp": "app"}, "aud", id="instead of the client, as a string"),
        pytest.param({"aud": ["app", "project", "other"], "azp": "app"}, "aud", id="beside one that is not"),
        pytest.param({"aud": ["app", "project"]}, "azp", id="without azp"),
        pytest.param({"aud": ["app", "project"], "azp": None}, "azp", id="with azp null"),
        pytest.param({"aud": ["app", "project"], "azp": "project"}, "azp", id="with another azp"),
    ],
)
def test_a_trusted_audience_is_refused(changed, claim, check_it):
    with pytest.raises(UntrustedToken, match=f"the claim {claim} is invalid"):
        check_it(changed, "project")


@pytest.mark.parametrize(
    ("earlier", "claim"),
    [
        pytest.param({"iss": "https://before.example"}, "iss", id="issuer"),
        pytest.param({"sub": "bob"}, "sub", id="subject"),
        pytest.param({"nonce": "n-0"}, "nonce", id="nonce"),
    ],
)
def test_a_refreshed_id_token_is_refused_when_the_earlier_one_had_another(earlier, claim):
    with pytest.raises(UntrustedToken, match=f"the claim {claim} "):
        check_refreshed({}, **earlier)


@pytest.mark.parametrize(
    ("changed", "earlier"),
    [
        pytest.param({"nonce": MISSING}, {}, id="has no nonce any more"),
        pytest.param({"iat": NOW - 9000}, {"iat": NOW - 9000}, id="is as old as the first"),
        pytest.param({"auth_time": NOW}, {"auth_time": 0}, id="has another auth_time"),
        pytest.param({"aud": ["app"]}, {"aud": "app"}, id="has its one audience in a list"),
        pytest.param({"at_hash": "of the new access token"}, {}, id="has another hash"),
    ],
)
def test_a_refreshed_id_token_is_accepted_even_if_it(changed, earlier):
    assert check_refreshed(changed, **earlier) is None


def test_userinfo_about_the_same_subject_is_accepted():
    assert check_userinfo({"sub": "alice", "name": "Alice"}, subject="alice") is None


@pytest.mark.parametrize("userinfo", [{"sub": "bob"}, {}, {"sub": None}, {"sub": ["alice"]}])
def test_userinfo_about_another_subject_is_refused(userinfo):
    with pytest.raises(UntrustedToken, match="the claim sub "):
        check_userinfo(userinfo, subject="alice")


def test_the_hash_of_an_access_token_is_the_one_in_openid_connect_core():
    assert at_hash(ACCESS_TOKEN, "RS256") == AT_HASH


@pytest.mark.parametrize(
    ("algorithm", "known"),
    [
        ("PS256", AT_HASH),
        ("ES256", AT_HASH),
        ("RS384", "jtAeDp945y1dDqU3nkIVGNZP1HjH_MFs"),
        ("ES512", "q7nS86GgvvFaZkzALLWqJYaJIKw2wCDAVfCAsm5CrBM"),
        ("EdDSA", "q7nS86GgvvFaZkzALLWqJYaJIKw2wCDAVfCAsm5CrBM"),
        ("Ed25519", "q7nS86GgvvFaZkzALLWqJYaJIKw2wCDAVfCAsm5CrBM"),
    ],
)
def test_the_hash_has_the_length_of_the_algorithm(algorithm, known):
    assert at_hash(ACCESS_TOKEN, algorithm) == known


@pytest.mark.parametrize("name", ["iss", "aud", "azp", "sub", "nonce", "at_hash", "exp"])
def test_a_refusal_never_repeats_the_value_of_a_claim(name):
    with pytest.raises(UntrustedToken) as refused:
        check({name: ["recognisable"]})

    assert "recognisable" not in str(refused.value)
