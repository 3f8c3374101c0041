"""Login attempts: the secrets of a request, validation of its response, and the sealed cookie."""

from __future__ import annotations

import dataclasses
import os
import re

import pytest

from app.bff.crypto import Vault
from app.bff.errors import LoginFailed
from app.bff.oidc.dpop import new_key
from app.bff.oidc.login_attempt import ATTEMPT_SECONDS, LoginAttempt
from app.bff.oidc.step_up import AuthenticationRequirements
from app.bff.web.return_paths import MAX_IN_COOKIE, part_for_cookie

NOW = 1_800_000_000.0
ISSUER = "https://provider.example"
VAULT = Vault([os.urandom(32)])
COOKIE = "bff-login-1"


@pytest.fixture
def attempt() -> LoginAttempt:
    return LoginAttempt.start(return_path="/orders", issuer=ISSUER, replaces="old-ref", now=NOW)


def right_answer(attempt: LoginAttempt) -> dict[str, str]:
    return {"state": attempt.state, "iss": ISSUER, "code": "c-1"}


def code(attempt: LoginAttempt, params: dict[str, str], *, announces_iss: bool = True, age: float = 0) -> str:
    return attempt.validate_response(params, announces_iss=announces_iss, now=NOW + age)


def test_every_attempt_has_fresh_secrets_of_at_least_256_bits():
    attempts = [LoginAttempt.start(return_path="/", issuer=ISSUER, replaces=None, now=NOW) for _ in range(50)]
    secrets = [secret for one in attempts for secret in (one.state, one.nonce, one.verifier)]

    assert len(set(secrets)) == 150
    assert min(map(len, secrets)) >= 43  # 256 bits in base64


def test_the_verifier_is_one_of_rfc_7636(attempt: LoginAttempt):
    assert re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", attempt.verifier)


def test_a_valid_response_gives_the_code(attempt: LoginAttempt):
    assert code(attempt, right_answer(attempt)) == "c-1"


def test_a_provider_that_does_not_announce_iss_may_leave_it_out(attempt: LoginAttempt):
    assert code(attempt, {"state": attempt.state, "code": "c-1"}, announces_iss=False) == "c-1"


def test_a_response_in_the_last_second_is_accepted(attempt: LoginAttempt):
    assert code(attempt, right_answer(attempt), age=ATTEMPT_SECONDS) == "c-1"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param({"state": "another"}, "another sign-in", id="another attempt"),
        pytest.param({"state": ""}, "another sign-in", id="an empty state"),
        pytest.param({"state": "Zoë"}, "another sign-in", id="a state in other letters"),
        pytest.param({"iss": "https://other.example"}, "not from our", id="another issuer"),
        pytest.param({"iss": ISSUER + "/"}, "not from our", id="an issuer with one slash more"),
        pytest.param({"iss": ""}, "not from our", id="an empty issuer"),
        pytest.param({"error": "access_denied"}, "cancelled", id="a cancelled sign-in"),
        pytest.param({"error": "login_required"}, "sign in again", id="a sign-in that must be repeated"),
        pytest.param({"error": "temporarily_unavailable"}, "busy", id="a busy provider"),
        pytest.param({"error": "<b>pay me</b>"}, r"^The sign-in service refused\.$", id="any other error"),
        pytest.param({"error": ""}, "refused", id="an empty error"),
        pytest.param({"code": ""}, "incomplete", id="an empty code"),
    ],
)
def test_a_response_is_refused_when_it_is_for_or_has(attempt: LoginAttempt, changed, reason):
    with pytest.raises(LoginFailed, match=reason):
        code(attempt, {**right_answer(attempt), **changed})


@pytest.mark.parametrize(
    ("missing", "reason"), [("state", "another sign-in"), ("iss", "not from our"), ("code", "incomplete")]
)
def test_a_response_is_refused_without(attempt: LoginAttempt, missing, reason):
    params = right_answer(attempt)
    del params[missing]

    with pytest.raises(LoginFailed, match=reason):
        code(attempt, params)


def test_iss_is_compared_when_present_even_if_not_announced(attempt: LoginAttempt):
    with pytest.raises(LoginFailed, match="not from our"):
        code(attempt, {**right_answer(attempt), "iss": "https://other.example"}, announces_iss=False)


def test_a_response_after_ten_minutes_is_refused(attempt: LoginAttempt):
    with pytest.raises(LoginFailed, match="too long"):
        code(attempt, right_answer(attempt), age=ATTEMPT_SECONDS + 1)


@pytest.mark.parametrize(
    ("right", "reason"),
    [
        pytest.param((), "another sign-in", id="state before anything else"),
        pytest.param(("state",), "too long", id="then its age"),
        pytest.param(("state", "age"), "not from our", id="then iss"),
        pytest.param(("state", "age", "iss"), "cancelled", id="then error"),
        pytest.param(("state", "age", "iss", "error"), "incomplete", id="and the code last"),
    ],
)
def test_of_a_response_with_several_errors_the_first_check_decides(attempt: LoginAttempt, right, reason):
    params = {
        "state": attempt.state if "state" in right else "another",
        "iss": ISSUER if "iss" in right else "https://other.example",
        **({} if "error" in right else {"error": "access_denied"}),
    }

    with pytest.raises(LoginFailed, match=reason):
        code(attempt, params, age=0 if "age" in right else ATTEMPT_SECONDS + 1)


def test_no_error_message_repeats_the_parameters(attempt: LoginAttempt):
    params = {
        "state": "recognisable",
        "iss": "recognisable",
        "error": "recognisable word",
        "code": "recognisable",
    }

    for right in ({}, {"state": attempt.state}, {"state": attempt.state, "iss": ISSUER}):
        with pytest.raises(LoginFailed) as refused:
            code(attempt, {**params, **right})
        assert "recognisable" not in str(refused.value)


def test_a_sealed_attempt_opens_unchanged_in_its_own_cookie(attempt: LoginAttempt):
    assert (
        LoginAttempt.opened(attempt.sealed(VAULT, cookie_name=COOKIE), VAULT, cookie_name=COOKIE) == attempt
    )


def test_it_does_not_open_in_a_cookie_of_another_name(attempt: LoginAttempt):
    with pytest.raises(LoginFailed):
        LoginAttempt.opened(attempt.sealed(VAULT, cookie_name=COOKIE), VAULT, cookie_name="bff-login-2")


def test_it_does_not_open_with_another_key(attempt: LoginAttempt):
    with pytest.raises(LoginFailed):
        LoginAttempt.opened(
            attempt.sealed(VAULT, cookie_name=COOKIE), Vault([os.urandom(32)]), cookie_name=COOKIE
        )


@pytest.mark.parametrize("cookie", ["", "x", "A" * 500, '{"state": "s"}', "\udce4"])
def test_a_cookie_that_was_not_sealed_with_the_key_is_no_attempt(cookie):
    with pytest.raises(LoginFailed, match="remembers no such sign-in"):
        LoginAttempt.opened(cookie, VAULT, cookie_name=COOKIE)


@pytest.mark.parametrize("changed", [{"added_later": 1}, {"state": None}], ids=["more", "fewer"])
def test_an_attempt_with_unknown_fields_of_another_release_is_refused(attempt: LoginAttempt, changed):
    fields = {**dataclasses.asdict(attempt), **changed}
    sealed = VAULT.seal_json(
        {name: value for name, value in fields.items() if value is not None}, place=COOKIE
    )

    with pytest.raises(LoginFailed, match="remembers no such sign-in"):
        LoginAttempt.opened(sealed, VAULT, cookie_name=COOKIE)


def test_the_dpop_key_is_sealed_in_the_attempt():  # RFC 9449 §10
    attempt = LoginAttempt.start(return_path="/", issuer=ISSUER, replaces=None, now=NOW, dpop_key=new_key())
    opened = LoginAttempt.opened(attempt.sealed(VAULT, cookie_name=COOKIE), VAULT, cookie_name=COOKIE)

    assert opened == attempt
    assert opened.dpop_key["d"]


def test_without_dpop_there_is_no_key(attempt: LoginAttempt):
    assert attempt.dpop_key is None


def test_an_attempt_of_a_release_without_dpop_opens(attempt: LoginAttempt):
    fields = dataclasses.asdict(attempt)
    del fields["dpop_key"]
    sealed = VAULT.seal_json(fields, place=COOKIE)

    assert LoginAttempt.opened(sealed, VAULT, cookie_name=COOKIE) == attempt


def test_an_attempt_without_parameters_opens_in_a_release_that_knows_none(attempt: LoginAttempt):
    sealed = VAULT.open_json(attempt.sealed(VAULT, cookie_name=COOKIE), place=COOKIE)

    assert not {"asked", "reports"} & set(sealed)


def test_the_names_in_a_sealed_attempt_are_those_of_earlier_releases(attempt: LoginAttempt):
    attempt = dataclasses.replace(attempt, request_params={"prompt": "none"}, notifies_opener=True)
    sealed = VAULT.open_json(attempt.sealed(VAULT, cookie_name=COOKIE), place=COOKIE)

    assert (sealed["asked"], sealed["reports"]) == ({"prompt": "none"}, True)
    assert not {"request_params", "notifies_opener"} & set(sealed)


def test_an_attempt_of_an_earlier_release_opens_with_its_parameters(attempt: LoginAttempt):
    fields = {name: value for name, value in dataclasses.asdict(attempt).items() if value}
    sealed = VAULT.seal_json({**fields, "asked": {"max_age": "60"}, "reports": True}, place=COOKIE)

    opened = LoginAttempt.opened(sealed, VAULT, cookie_name=COOKIE)

    assert opened == dataclasses.replace(attempt, request_params={"max_age": "60"}, notifies_opener=True)


@pytest.mark.parametrize("letter", ["x", "é", "€", "😀"])
@pytest.mark.parametrize("dpop_key", [None, new_key()], ids=["without a key", "with a key"])
def test_a_sealed_attempt_with_the_longest_return_path_fits_a_cookie(dpop_key, letter):
    longest = "/" + letter * ((MAX_IN_COOKIE - 1) // len(letter.encode()))
    attempt = LoginAttempt.start(
        return_path=part_for_cookie(longest),
        issuer="https://" + "i" * 100,
        replaces="f" * 64,
        now=NOW,
        dpop_key=dpop_key,
    )

    assert attempt.return_path == longest
    assert len(attempt.sealed(VAULT, cookie_name=COOKIE)) < 1500


def test_a_saved_return_path_changes_nothing_for_an_earlier_release(attempt: LoginAttempt):
    saved = dataclasses.replace(attempt, request_params={"max_age": "60"}, return_path_is_saved=True)
    sealed = saved.sealed(VAULT, cookie_name=COOKIE)
    content = VAULT.open_json(sealed, place=COOKIE)

    assert LoginAttempt.opened(sealed, VAULT, cookie_name=COOKIE) == saved
    known = {"state", "nonce", "verifier", "return_path", "issuer", "created_at", "replaces", "asked"}
    assert content.keys() <= known
    assert AuthenticationRequirements.from_params(content["asked"]) == saved.requirements


def test_a_repr_shows_no_secret(attempt: LoginAttempt):
    attempt = dataclasses.replace(attempt, dpop_key=new_key())

    for secret in (attempt.state, attempt.nonce, attempt.verifier, attempt.dpop_key["d"]):
        assert secret not in repr(attempt)
