"""Answers of the token endpoint: tokens, a dead grant, our own mistake, or a provider to ask later."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.errors import AppError, ClientRejected, GrantRefused, ProviderUnavailable
from app.oidc.answers import Answer, retry_after_seconds, tokens_from
from app.sessions.session import LOGIN, TokenSet

NOW = 1_800_000_000.0
GOOD = {"access_token": "at-1", "token_type": "Bearer", "expires_in": 300}


def answer(document: Any = None, *, status: int = 200, body: bytes | None = None, **headers: str) -> TokenSet:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    received = Answer(status, sent, json.dumps(document).encode() if body is None else body, NOW)
    return tokens_from(received, target=LOGIN, token_type="Bearer")


def test_a_token_response_becomes_tokens_with_the_time_at_which_they_end():
    document = {**GOOD, "refresh_token": "rt-1", "id_token": "it-1", "scope": "openid"}

    assert answer(document) == TokenSet("at-1", NOW, NOW + 300, "rt-1", "it-1", "openid")


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER"])
def test_the_token_type_counts_in_any_letters(token_type):
    assert answer({**GOOD, "token_type": token_type}).access_token == "at-1"


def test_without_a_token_type_it_is_bearer():
    assert answer({"access_token": "at-1"}).access_token == "at-1"


@pytest.mark.parametrize("token_type", ["DPoP", "mac", "", None, ["Bearer"]])
def test_a_token_of_another_type_cannot_be_used(token_type):
    with pytest.raises(ProviderUnavailable, match="another type"):
        answer({**GOOD, "token_type": token_type})


@pytest.mark.parametrize(
    ("expires_in", "expires_at"),
    [
        pytest.param(300, NOW + 300, id="a number"),
        pytest.param("300", NOW + 300, id="a string"),
        pytest.param(0.5, NOW + 0.5, id="a fraction"),
        pytest.param(0, NOW, id="zero: over at once"),
        pytest.param(-5, NOW - 5, id="negative: over already"),
        pytest.param(None, None, id="null"),
        pytest.param("soon", None, id="a word"),
        pytest.param("", None, id="an empty string"),
        pytest.param([300], None, id="a list"),
        pytest.param(float("nan"), None, id="not a number"),
        pytest.param(float("inf"), None, id="infinite"),
        pytest.param("1e999", None, id="infinite, as a string"),
        pytest.param(10**400, None, id="more than a float holds"),
    ],
)
def test_how_long_the_access_token_lasts_is_read_from(expires_in, expires_at):
    assert answer({**GOOD, "expires_in": expires_in}).expires_at == expires_at


def test_a_provider_that_does_not_say_how_long_leaves_the_end_open():
    assert answer({"access_token": "at-1", "token_type": "Bearer"}).expires_at is None


@pytest.mark.parametrize("name", ["refresh_token", "id_token", "scope"])
@pytest.mark.parametrize("value", ["", None, 7, ["x"]])
def test_what_is_no_text_counts_as_missing(name, value):
    assert getattr(answer({**GOOD, name: value}), name) is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>Sign in to the proxy</html>", id="a page"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b"{}", id="an empty object"),
        pytest.param(b'{"access_token": null}', id="null as token"),
        pytest.param(b'{"access_token": ""}', id="an empty token"),
        pytest.param(b'{"access_token": 7}', id="a number as token"),
        pytest.param(b'{"access_token": "at-1"', id="half an answer"),
    ],
)
def test_success_without_tokens_is_a_provider_to_ask_later_when_the_body_is(body):
    with pytest.raises(ProviderUnavailable):
        answer(body=body)


@pytest.mark.parametrize("status", [400, 401, 200])
def test_invalid_grant_is_a_dead_grant(status):
    with pytest.raises(GrantRefused):
        answer({"error": "invalid_grant"}, status=status)


@pytest.mark.parametrize(
    "error",
    ["invalid_client", "unauthorized_client", "invalid_scope", "invalid_request", "unsupported_grant_type"],
)
@pytest.mark.parametrize("status", [400, 401, 403])
def test_other_errors_of_rfc_6749_are_our_own_mistake(status, error):
    with pytest.raises(ClientRejected, match=error):
        answer({"error": error}, status=status)


@pytest.mark.parametrize(
    ("status", "document"),
    [
        pytest.param(500, {"error": "invalid_grant"}, id="500 that blames the grant"),
        pytest.param(503, {"error": "invalid_grant"}, id="503 that blames the grant"),
        pytest.param(500, {"error": "invalid_client"}, id="500 that blames us"),
        pytest.param(502, GOOD, id="502 with tokens"),
        pytest.param(302, GOOD, id="a redirect"),
        pytest.param(404, {}, id="404"),
        pytest.param(400, {"error": "server_error"}, id="400 with another error"),
        pytest.param(400, {"error": ["invalid_grant"]}, id="400 with a list of errors"),
        pytest.param(400, {"error": {"code": "invalid_grant"}}, id="400 with an object as error"),
        pytest.param(200, {**GOOD, "error": "slow_down"}, id="200 with an error and tokens"),
        pytest.param(200, {**GOOD, "error": ""}, id="200 with an empty error and tokens"),
        pytest.param(200, {"error": "invalid_client"}, id="200 that blames us"),
    ],
)
def test_the_provider_is_to_be_asked_later_and_the_session_stays_after(status, document):
    with pytest.raises(ProviderUnavailable) as failure:
        answer(document, status=status)

    assert type(failure.value) is ProviderUnavailable


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_with_an_empty_body_does_not_end_the_session(status):
    with pytest.raises(ProviderUnavailable, match=str(status)):
        answer(body=b"", status=status)


def test_too_many_requests_says_when_to_try_again():
    with pytest.raises(ProviderUnavailable) as failure:
        answer({}, status=429, Retry_After="17")

    assert failure.value.retry_after_seconds == 17


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("17", 17),
        ("999999", 3600),
        ("9" * 5000, 3600),
        ("Fri, 15 Jan 2027 08:00:17 GMT", 17),
        ("Fri, 15 Jan 2027 07:59:59 GMT", 0),
        ("Fri, 31 Dec 2027 23:59:59 GMT", 3600),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("\N{ARABIC-INDIC DIGIT SEVEN}", None),
        ("\N{SUPERSCRIPT TWO}", None),
    ],
)
def test_retry_after_is_believed_up_to_an_hour_if_it_is_a_number_or_a_date(value, seconds):
    assert retry_after_seconds({"Retry-After": value}, now=NOW) == seconds


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_failure_never_repeats_what_the_provider_sent(status):
    document = {"error": "recognisable", "error_description": "recognisable", "access_token": "recognisable"}

    with pytest.raises(AppError) as failure:
        answer(document, status=status)

    assert "recognisable" not in str(failure.value)
