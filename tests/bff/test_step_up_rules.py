"""AuthenticationRequirements: the parameters that a page may request, and when claims meet them. Pure."""

from __future__ import annotations

from typing import Any

import pytest

from app.bff.errors import BadRequest, LoginFailed
from app.bff.oidc.claims import LEEWAY_SECONDS, check_authentication, unmet_requirement
from app.bff.oidc.step_up import AuthenticationRequirements, login_parameters

NOW = 1_800_000_000
MFA = AuthenticationRequirements(acr=("mfa", "urn:example:gold"))
FIVE_MINUTES = AuthenticationRequirements(max_age=300)
AT_ONCE = AuthenticationRequirements(max_age=0)
ASKED_AT = NOW - 500.5  # when the browser was sent to the provider


# What a page may ask


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        pytest.param({"returnUrl": "/", "color": "red"}, {}, id="nothing"),
        pytest.param({"hint": "bob"}, {"login_hint": "bob"}, id="a hint by its short name"),
        pytest.param({"hint": "bob", "login_hint": "al"}, {"login_hint": "al"}, id="a hint by both"),
        pytest.param({"login_hint": "Zoë <z@example.com>"}, {"login_hint": "Zoë <z@example.com>"}, id="Zoë"),
        pytest.param({"acr_values": "mfa pwd"}, {"acr_values": "mfa pwd"}, id="two ways"),
        pytest.param({"max_age": "0"}, {"max_age": "0"}, id="that it is now"),
        pytest.param({"prompt": "login"}, {"prompt": "login"}, id="a login page"),
    ],
)
def test_a_page_may_request(params, expected):
    assert login_parameters(params) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_age", ""),
        ("max_age", "-1"),
        ("max_age", "1.5"),
        ("max_age", "1e3"),
        ("max_age", "\u0661"),
        ("max_age", "300\n"),
        ("max_age", "9" * 10),
        ("acr_values", ""),
        ("acr_values", " mfa"),
        ("acr_values", "mfa  pwd"),
        ("acr_values", 'mfa"'),
        ("acr_values", "mfa\r\nX: y"),
        ("acr_values", "mfé"),
        ("acr_values", "a" * 501),
        ("login_hint", ""),
        ("login_hint", "a\x00b"),
        ("login_hint", "a\nb"),
        ("login_hint", "a\x85b"),
        ("login_hint", "a" * 301),
        ("hint", "a\nb"),
    ],
)
def test_a_page_cannot_request(name, value):
    with pytest.raises(BadRequest, match=f"{'login_hint' if name == 'hint' else name} must be"):
        login_parameters({name: value})


@pytest.mark.parametrize("acr", ["two words", 'quoted"', "back\\slash", "", "new\nline"])
def test_a_handler_cannot_require_an_acr_like(acr):
    with pytest.raises(ValueError, match="acr_values must be"):
        AuthenticationRequirements(acr=(acr,))


def test_a_handler_cannot_require_a_negative_max_age():
    with pytest.raises(ValueError, match="max_age must be"):
        AuthenticationRequirements(max_age=-1)


@pytest.mark.parametrize(
    ("requirements", "params"),
    [
        (AuthenticationRequirements(), {}),
        (MFA, {"acr_values": "mfa urn:example:gold"}),
        (AT_ONCE, {"max_age": 0}),
        (AuthenticationRequirements(("pwd",), 60), {"acr_values": "pwd", "max_age": 60}),
    ],
)
def test_requirements_are_parameters_and_back(requirements, params):
    assert requirements.params == params
    assert (
        AuthenticationRequirements.from_params({name: str(value) for name, value in params.items()})
        == requirements
    )


# Whether claims meet the requirements


@pytest.mark.parametrize(
    ("requirements", "claims"),
    [
        pytest.param(AuthenticationRequirements(), {}, id="nothing is demanded"),
        pytest.param(MFA, {"acr": "mfa"}, id="the first way"),
        pytest.param(MFA, {"acr": "urn:example:gold"}, id="another way that will do"),
        pytest.param(FIVE_MINUTES, {"auth_time": NOW}, id="just now"),
        pytest.param(FIVE_MINUTES, {"auth_time": NOW - 300 - LEEWAY_SECONDS}, id="at the last moment"),
        pytest.param(FIVE_MINUTES, {"auth_time": NOW - 0.5}, id="at a fraction of a second"),
        pytest.param(FIVE_MINUTES, {"auth_time": NOW + LEEWAY_SECONDS - 1}, id="by a clock that is fast"),
        pytest.param(AT_ONCE, {"auth_time": NOW - LEEWAY_SECONDS}, id="now, and then the page was loaded"),
        pytest.param(
            AuthenticationRequirements(("mfa",), 9), {"acr": "mfa", "auth_time": NOW - 9}, id="both"
        ),
    ],
)
def test_the_requirements_are_met_when(requirements, claims):
    assert unmet_requirement(requirements, claims, now=NOW) is None
    assert check_authentication(claims, requirements, auth_time_floor=None, now=NOW) is None


SHORT = [
    pytest.param(MFA, {}, "acr", id="acr is missing"),
    pytest.param(MFA, {"acr": "pwd"}, "acr", id="acr is another"),
    pytest.param(MFA, {"acr": "MFA"}, "acr", id="acr is in capitals"),
    pytest.param(MFA, {"acr": ["mfa"]}, "acr", id="acr is a list"),
    pytest.param(MFA, {"acr": "mfa urn:example:gold"}, "acr", id="acr repeats the question"),
    pytest.param(MFA, {"acr": ""}, "acr", id="acr is empty"),
    pytest.param(FIVE_MINUTES, {}, "auth_time", id="auth_time is missing"),
    pytest.param(
        FIVE_MINUTES, {"auth_time": NOW - 301 - LEEWAY_SECONDS}, "auth_time", id="it is too long ago"
    ),
    pytest.param(AT_ONCE, {"auth_time": NOW - 1 - LEEWAY_SECONDS}, "auth_time", id="it is not now"),
    pytest.param(FIVE_MINUTES, {"auth_time": NOW + LEEWAY_SECONDS}, "auth_time", id="it has yet to happen"),
    pytest.param(FIVE_MINUTES, {"auth_time": 10**400}, "auth_time", id="it is at the end of days"),
    pytest.param(FIVE_MINUTES, {"auth_time": str(NOW)}, "auth_time", id="auth_time is a text"),
    pytest.param(FIVE_MINUTES, {"auth_time": True}, "auth_time", id="auth_time is true"),
    pytest.param(
        AuthenticationRequirements(max_age=10**9 - 1),
        {"auth_time": float("nan")},
        "auth_time",
        id="it is no number",
    ),
    pytest.param(FIVE_MINUTES, {"auth_time": None}, "auth_time", id="auth_time is null"),
    pytest.param(
        AuthenticationRequirements(("mfa",), 9), {"acr": "mfa"}, "auth_time", id="only acr is right"
    ),
    pytest.param(
        AuthenticationRequirements(("mfa",), 9), {"auth_time": NOW}, "acr", id="only auth_time is right"
    ),
]


@pytest.mark.parametrize(("requirements", "claims", "claim"), SHORT)
def test_the_requirements_are_not_met_when(requirements, claims, claim):
    assert unmet_requirement(requirements, claims, now=NOW) == claim


@pytest.mark.parametrize(("requirements", "claims", "claim"), SHORT)
def test_a_login_fails_when(requirements, claims, claim):
    words = {"acr": "another way of signing in", "auth_time": "sign in once more"}[claim]

    with pytest.raises(LoginFailed, match=words):
        check_authentication(claims, requirements, auth_time_floor=None, now=NOW)


def test_a_new_login_that_looks_too_old_blames_the_clock():
    ahead = {"iat": NOW - 600, "auth_time": NOW - 600}

    with pytest.raises(LoginFailed, match="clock of this site is 600 seconds ahead"):
        check_authentication(ahead, FIVE_MINUTES, auth_time_floor=None, now=NOW)


def check_anew(**claims: Any) -> None:
    check_authentication(claims, AuthenticationRequirements(), auth_time_floor=ASKED_AT, now=NOW)


@pytest.mark.parametrize("auth_time", [NOW, ASKED_AT, ASKED_AT - LEEWAY_SECONDS])
def test_a_login_with_prompt_login_and_a_new_auth_time_succeeds(auth_time):
    check_anew(auth_time=auth_time)


def test_a_login_with_prompt_login_needs_no_auth_time():
    check_anew()


@pytest.mark.parametrize("auth_time", [ASKED_AT - LEEWAY_SECONDS - 1, 0, None, "now", NOW + LEEWAY_SECONDS])
def test_a_login_with_prompt_login_fails_with_an_auth_time_of(auth_time):
    with pytest.raises(LoginFailed, match="sign in once more"):
        check_anew(auth_time=auth_time)
