"""Logout tokens: validation rule by rule; the claims they share with ID tokens are in test_claims."""

from __future__ import annotations

from typing import Any

import pytest

from app.bff.errors import MistimedToken, UntrustedToken
from app.bff.oidc.claims import LEEWAY_SECONDS
from app.bff.oidc.keys import SignedToken
from app.bff.oidc.logout_token import EVENT, OLDEST_SECONDS, LogoutToken, validate

NOW = 1_800_000_000
ISSUER = "https://provider.example"
GOOD: dict[str, Any] = {
    "iss": ISSUER,
    "aud": "app",
    "sub": "alice",
    "sid": "sid-1",
    "iat": NOW,
    "exp": NOW + 120,
    "jti": "jti-1",
    "events": {EVENT: {}},
}
NAMES = ("sub", "sid", "jti")
MISSING = object()


def validated(changed: dict[str, Any], *trusted: str, type_: Any = "logout+jwt") -> LogoutToken:
    claims = {name: value for name, value in {**GOOD, **changed}.items() if value is not MISSING}
    token = SignedToken("RS256", type_, claims)
    return validate(token, issuer=ISSUER, client_id="app", trusted_audiences=trusted, now=NOW)


@pytest.mark.parametrize(
    "type_", ["logout+jwt", "LOGOUT+JWT", "application/logout+jwt", "JWT", "jwt", "application/jwt", None]
)
def test_a_logout_token_may_have_the_type(type_):
    assert validated({}, type_=type_).subject == "alice"


@pytest.mark.parametrize(
    "type_", ["at+jwt", "dpop+jwt", "JOSE", "", "logout", "application/", "text/jwt", 7, ["JWT"], {}]
)
def test_a_token_is_refused_that_has_the_type(type_):
    with pytest.raises(UntrustedToken, match="type"):
        validated({}, type_=type_)


@pytest.mark.parametrize(
    ("changed", "subject", "sid"),
    [
        pytest.param({}, "alice", "sid-1", id="a session, and whose it is"),
        pytest.param({"sub": MISSING}, None, "sid-1", id="a session alone"),
        pytest.param({"sid": MISSING}, "alice", None, id="a user alone"),
    ],
)
def test_it_names_the_sessions_to_end(changed, subject, sid):
    logout = validated(changed)

    assert (logout.subject, logout.sid) == (subject, sid)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"aud": ["app"]}, id="has its one audience in a list"),
        pytest.param(
            {"events": {EVENT: {"why": "idle"}, "urn:other": 1}}, id="has further members of the event"
        ),
        pytest.param({"iat": NOW - OLDEST_SECONDS + 1}, id="is almost an hour old"),
        pytest.param({"iat": NOW + LEEWAY_SECONDS - 1}, id="comes from a clock that is a little fast"),
        pytest.param({"exp": NOW - LEEWAY_SECONDS + 1}, id="expired less than a minute ago"),
        pytest.param({"exp": 10**400}, id="is good for ever"),
        pytest.param({"unknown": 1}, id="says more than we know"),
    ],
)
def test_it_is_accepted_when_it(changed):
    assert validated(changed).sid == "sid-1"


@pytest.mark.parametrize(
    ("changed", "claim"),
    [
        *(pytest.param({name: "x\ud800"}, name, id=f"half a surrogate pair in {name}") for name in NAMES),
        pytest.param({"iss": "https://other.example"}, "iss", id="another issuer's"),
        pytest.param({"iss": ISSUER + "/"}, "iss", id="of an issuer with one slash more"),
        pytest.param({"aud": "other"}, "aud", id="meant for another client"),
        pytest.param({"aud": ["app", "other"]}, "aud", id="meant for another client too"),
        pytest.param({"aud": MISSING}, "aud", id="without an audience"),
        pytest.param({"iat": MISSING}, "iat", id="issued at no time"),
        pytest.param({"iat": str(NOW)}, "iat", id="issued at a text"),
        pytest.param({"iat": True}, "iat", id="issued at true"),
        pytest.param({"iat": float("nan")}, "iat", id="issued at no number"),
        pytest.param({"iat": NOW + LEEWAY_SECONDS}, "iat", id="issued a minute from now"),
        pytest.param({"iat": NOW - OLDEST_SECONDS}, "iat", id="issued an hour ago"),
        pytest.param({"exp": MISSING}, "exp", id="without end"),
        pytest.param({"exp": None}, "exp", id="expiring at null"),
        pytest.param({"exp": NOW - LEEWAY_SECONDS}, "exp", id="expired a minute ago"),
        pytest.param({"jti": MISSING}, "jti", id="without an id"),
        pytest.param({"jti": ""}, "jti", id="with an empty id"),
        pytest.param({"jti": 7}, "jti", id="with a number for an id"),
        pytest.param({"events": MISSING}, "events", id="about no event"),
        pytest.param({"events": {}}, "events", id="about an empty event"),
        pytest.param({"events": {"urn:other": {}}}, "events", id="about another event"),
        pytest.param({"events": [EVENT]}, "events", id="about a list of events"),
        pytest.param({"events": EVENT}, "events", id="about the name of the event"),
        pytest.param({"events": {EVENT: None}}, "events", id="about an event that is null"),
        pytest.param({"events": {EVENT: []}}, "events", id="about an event that is a list"),
        pytest.param({"nonce": "n-1"}, "nonce", id="with a nonce"),
        pytest.param({"nonce": None}, "nonce", id="with a nonce that is null"),
        pytest.param({"sub": MISSING, "sid": MISSING}, "sub", id="without a subject"),
        pytest.param({"sub": "", "sid": MISSING}, "sub", id="about an empty name"),
        pytest.param({"sub": 7}, "sub", id="about a number"),
        pytest.param({"sub": None}, "sub", id="about null"),
        pytest.param({"sid": ""}, "sid", id="about an empty session"),
        pytest.param({"sid": ["sid-1"]}, "sid", id="about a list of sessions"),
    ],
)
def test_it_is_refused_when_it_is(changed, claim):
    with pytest.raises(UntrustedToken, match=f"the claim {claim} "):
        validated(changed)


NO_STRING = [None, "", 7, True, [], {}, ["alice"]]
NO_TIME = [MISSING, None, "", "soon", [], {}, True, float("nan")]
WRONG = {
    "iss": [MISSING, *NO_STRING, "other"],
    "aud": [MISSING, *NO_STRING, "other", ["app", "other"], ["app", 7]],
    "azp": [*NO_STRING, "other"],
    "iat": NO_TIME,
    "exp": NO_TIME,
    "nbf": NO_TIME[1:],
    "jti": [MISSING, *NO_STRING],
    "events": [MISSING, *NO_STRING],
    "sub": NO_STRING,
    "sid": NO_STRING,
    "nonce": [*NO_STRING, "n-1"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, each) for name, values in WRONG.items() for each in values]
)
def test_every_wrong_claim_is_refused(name, value):
    with pytest.raises(UntrustedToken, match=f"the claim {name} is invalid"):
        validated({name: value})


def test_a_wrong_clock_is_named():
    with pytest.raises(MistimedToken, match="our clock is 90 s behind"):
        validated({"iat": NOW + 90})


@pytest.mark.parametrize("azp", [MISSING, "app"])  # Back-Channel Logout §2.4 has no azp
def test_a_trusted_audience_may_stand_beside_the_client(azp):
    assert validated({"aud": ["app", "project"], "azp": azp}, "project").subject == "alice"


@pytest.mark.parametrize(
    "changed",
    [{"aud": "project"}, {"aud": ["app", "project", "other"]}, {"aud": ["app", "project"], "azp": "project"}],
)
def test_a_trusted_audience_is_refused(changed):
    with pytest.raises(UntrustedToken):
        validated(changed, "project")


def test_an_id_token_is_no_logout_token():
    with pytest.raises(UntrustedToken):
        validated({"events": MISSING, "jti": MISSING, "nonce": "n-1"}, type_="JWT")


# Remembering


def test_its_replay_key_is_unique_and_hides_the_jti():
    keys = {validated({"jti": jti}).key for jti in ("jti-1", "jti-2")}

    assert len(keys) == 2
    assert "jti" not in "".join(keys)
    assert validated({"jti": "jti-1", "sub": "bob"}).key in keys


@pytest.mark.parametrize(
    ("changed", "seconds"),
    [
        ({"exp": NOW + 120}, 120 + LEEWAY_SECONDS),
        ({"exp": NOW + 10 * OLDEST_SECONDS}, OLDEST_SECONDS),
        ({"exp": 10**400}, OLDEST_SECONDS),
        ({"exp": float("inf"), "iat": NOW - 10}, OLDEST_SECONDS - 10),
    ],
)
def test_it_is_remembered_for_as_long_as_any_process_might_accept_it(changed, seconds):
    assert validated(changed).replay_until == NOW + seconds + LEEWAY_SECONDS


def test_neither_user_nor_session_shows_in_its_repr():
    assert not {"alice", "sid-1"} & set(repr(validated({})).replace("'", " ").split())
