"""Responses of the provider: tokens, an invalid grant, a rejected client, or an unavailable provider."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from app.bff.errors import AppError, ClientRejected, GrantRefused, InteractionRequired, ProviderUnavailable
from app.bff.oidc.error_codes import CLIENT_ERRORS, TEMPORARY_ERRORS, USER_ERRORS
from app.bff.oidc.http import parse_json_object
from app.bff.oidc.responses import (
    EndpointResponse,
    check_revoked,
    parse_exchange_response,
    parse_pushed_response,
    parse_token_response,
    retry_after_seconds,
)
from app.bff.sessions.session import LOGIN, Target, TokenSet

NOW = 1_800_000_000.0
SENT = NOW - 4  # when the request was sent
GOOD = {"access_token": "at-1", "token_type": "Bearer", "expires_in": 300}


def received(
    document: Any = None, *, status: int = 200, body: bytes | None = None, **headers: str
) -> EndpointResponse:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    content = json.dumps(document).encode() if body is None else body
    return EndpointResponse(status, sent, parse_json_object(content), sent_at=SENT, received_at=NOW)


def answer(document: Any = None, **how: Any) -> TokenSet:
    return parse_token_response(received(document, **how), target=LOGIN, token_type="Bearer")


def test_a_token_response_becomes_tokens_with_their_expiry():
    document = {**GOOD, "refresh_token": "rt-1", "id_token": "it-1", "scope": "openid"}

    assert answer(document) == TokenSet("at-1", NOW, SENT + 300, "rt-1", "it-1", "openid")


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER"])
def test_the_token_type_is_compared_without_case(token_type):
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
        pytest.param(300, SENT + 300, id="a number"),
        pytest.param("300", SENT + 300, id="a string"),
        pytest.param(0.5, SENT + 0.5, id="a fraction"),
        pytest.param(0, SENT, id="zero: over at once"),
        pytest.param(-5, SENT - 5, id="negative: over already"),
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
def test_the_lifetime_counts_from_the_request_and_is_read_from(expires_in, expires_at):
    assert answer({**GOOD, "expires_in": expires_in}).expires_at == expires_at


def test_without_expires_in_there_is_no_expiry():
    assert answer({"access_token": "at-1", "token_type": "Bearer"}).expires_at is None


@pytest.mark.parametrize("name", ["refresh_token", "id_token", "scope"])
@pytest.mark.parametrize("value", ["", None, 7, ["x"], "a\r\nb", "a\x00", "ключ", "\ud800"])
def test_a_member_that_is_no_printable_string_counts_as_missing(name, value):
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
        pytest.param(rb'{"access_token": "a\r\nX-Evil: 1"}', id="a token of two lines"),
        pytest.param(rb'{"access_token": "\ud800"}', id="a token in half a letter"),
        pytest.param('{"access_token": "ключ"}'.encode(), id="a token in other letters"),
        pytest.param(b'{"access_token": "at-1"', id="half an answer"),
    ],
)
def test_success_without_tokens_means_provider_unavailable_when_the_body_is(body):
    with pytest.raises(ProviderUnavailable):
        answer(body=body)


@pytest.mark.parametrize("status", [400, 401, 200])
def test_invalid_grant_means_grant_refused(status):
    with pytest.raises(GrantRefused):
        answer({"error": "invalid_grant"}, status=status)


@pytest.mark.parametrize(
    "error",
    ["invalid_client", "unauthorized_client", "invalid_scope", "invalid_request", "unsupported_grant_type"],
)
@pytest.mark.parametrize("status", [400, 401, 403])
def test_other_errors_of_rfc_6749_mean_client_rejected(status, error):
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
        pytest.param(404, {"error": "invalid_grant"}, id="404, so another server's"),
        pytest.param(429, {"error": "invalid_grant"}, id="429 that blames the grant"),
        pytest.param(302, {"error": "invalid_grant"}, id="a redirect that blames the grant"),
    ],
)
def test_the_provider_is_unavailable_after(status, document):
    with pytest.raises(ProviderUnavailable) as failure:
        answer(document, status=status)

    assert type(failure.value) is ProviderUnavailable


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_with_an_empty_body_does_not_end_the_session(status):
    with pytest.raises(ProviderUnavailable, match=str(status)):
        answer(body=b"", status=status)


@pytest.mark.parametrize("status", [200, 400, 401, 403])
@pytest.mark.parametrize("error", sorted(USER_ERRORS))
def test_an_error_that_the_user_can_mend_means_interaction_required(error, status):
    with pytest.raises(InteractionRequired, match=f"answered {error}$"):
        answer({"error": error}, status=status)


@pytest.mark.parametrize("error", ["user_blocked", "AADSTS50173"])
def test_an_unknown_error_means_interaction_required(error):
    with pytest.raises(InteractionRequired, match=f"answered {error}$"):
        answer({"error": error}, status=400)


@pytest.mark.parametrize("error", ["invalid grant", "Bad Request", "\ud800"])
def test_an_error_that_is_no_code_means_interaction_required_and_is_not_named(error):
    with pytest.raises(InteractionRequired, match="an error of its own"):
        answer({"error": error}, status=400)


@pytest.mark.parametrize("status", [200, 400, 401, 403])
@pytest.mark.parametrize("error", sorted(CLIENT_ERRORS))
def test_an_error_of_the_client_or_its_request_means_client_rejected(error, status):
    with pytest.raises(ClientRejected, match=f"answered {error}$"):
        answer({"error": error}, status=status)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, error) for status in (400, 403) for error in sorted(TEMPORARY_ERRORS)),
        *((status, "interaction_required") for status in (302, 404, 405, 410, 429, 500, 503)),
    ],
)
def test_a_server_error_means_provider_unavailable_whatever_the_status(status, error):
    with pytest.raises(ProviderUnavailable) as failure:
        answer({"error": error}, status=status)

    assert type(failure.value) is ProviderUnavailable


def test_429_has_a_retry_after():
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
        ("Fri, 15 Jan 99999999999 08:00:17 GMT", None),
        ("Fri, 15 Jan 2027 99999999999:00:17 GMT", None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("\N{ARABIC-INDIC DIGIT SEVEN}", None),
        ("\N{SUPERSCRIPT TWO}", None),
    ],
)
def test_retry_after_is_a_number_or_a_date_and_at_most_an_hour(value, seconds):
    assert retry_after_seconds({"Retry-After": value}, now=NOW) == seconds


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_failure_never_repeats_what_the_provider_sent(status):
    document = {
        "error": "recognisable word",
        "error_description": "recognisable",
        "access_token": "recognisable",
    }

    with pytest.raises(AppError) as failure:
        answer(document, status=status)

    assert "recognisable" not in str(failure.value)


# What an answer is made of.


def test_the_document_is_the_json_object_in_the_body():
    assert received({"error": "x"}).document == {"error": "x"}
    assert received({"error": "x"}).error == "x"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"7", b"\xff", b"{", b"[" * 100_000, b'{"n":' + b"9" * 5000]
)
def test_the_document_of_any_other_body_is_empty(body):
    assert received(body=body).document == {}
    assert received(body=body).error is None


def test_a_repr_of_a_response_shows_neither_body_nor_headers():
    sent = received({**GOOD, "access_token": "recognisable"}, Set_Cookie="recognisable")

    assert sent.document
    assert "recognisable" not in repr(sent)


def test_the_tokens_have_their_target():
    orders = Target(scope="orders.read", resource="https://orders.example/")

    assert parse_token_response(received(GOOD), target=orders, token_type="Bearer").target == orders


@pytest.mark.parametrize("expires_in", [True, "1_0", " 10 "])
def test_an_odd_expires_in_is_at_worst_a_short_lifetime(expires_in):
    assert SENT < answer({**GOOD, "expires_in": expires_in}).expires_at <= SENT + 10


@pytest.mark.parametrize(
    "error",
    [
        pytest.param("invalid_target", id="RFC 8707 §2: invalid_target"),
        pytest.param("invalid_dpop_proof", id="RFC 9449 §5: invalid_dpop_proof"),
        pytest.param("use_dpop_nonce", id="RFC 9449 §8: use_dpop_nonce, even with one"),
    ],
)
def test_other_errors_of_the_extensions_mean_client_rejected(error):
    with pytest.raises(ClientRejected, match=error):
        answer({"error": error}, status=400)


@pytest.mark.parametrize(
    ("headers", "requested", "for_browser"),
    [
        ({"Retry_After": "17"}, 17, 17),
        ({"Retry_After": "0"}, 0, 0),
        ({"Retry_After": "Fri, 15 Jan 2027 08:00:17 GMT"}, 17, 17),
        ({"Retry_After": "soon"}, None, 5),
        ({}, None, 5),
    ],
)
def test_only_a_retry_after_requests_a_pause(headers, requested, for_browser):
    with pytest.raises(ProviderUnavailable) as failure:
        answer({}, status=503, **headers)

    assert (failure.value.requested_pause_seconds, failure.value.retry_after_seconds) == (
        requested,
        for_browser,
    )


def test_without_retry_after_there_is_none():
    assert retry_after_seconds({}, now=NOW) is None


def test_the_obsolete_form_of_a_date_is_accepted():  # RFC 9110 §5.6.7
    assert retry_after_seconds({"Retry-After": "Friday, 15-Jan-27 08:00:17 GMT"}, now=NOW) == 17


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "UTC"])
@pytest.mark.parametrize("date", ["Fri Jan 15 08:00:17 2027", "Fri, 15 Jan 2027 08:00:17 -0000"])
def test_a_date_without_a_zone_is_in_gmt_in_every_time_zone(monkeypatch, date, zone):  # RFC 9110 §5.6.7
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert retry_after_seconds({"Retry-After": date}, now=NOW) == 17
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_fraction_of_a_second_is_rounded_up():
    assert retry_after_seconds({"Retry-After": "Fri, 15 Jan 2027 08:00:17 GMT"}, now=NOW + 0.1) == 17


# RFC 9449 §5: with a key, only a token that is bound to it.


@pytest.mark.parametrize("token_type", ["DPoP", "dpop", "DPOP"])
def test_a_bound_token_is_accepted(token_type):
    sent = received({**GOOD, "token_type": token_type})

    assert parse_token_response(sent, target=LOGIN, token_type="DPoP").access_token == "at-1"


@pytest.mark.parametrize("document", [{"access_token": "at-1"}, GOOD, {**GOOD, "token_type": "DPoP2"}])
def test_a_token_that_is_not_bound_is_refused(document):
    with pytest.raises(ProviderUnavailable, match="another type than DPoP"):
        parse_token_response(received(document), target=LOGIN, token_type="DPoP")


# RFC 8693: token exchange.

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
EXCHANGED = {**GOOD, "issued_token_type": ACCESS_TOKEN}
BILLING = Target(audience="billing", exchanged=True)


def exchange(document: Any = None, **how: Any) -> TokenSet:
    return parse_exchange_response(received(document, **how), target=BILLING, token_type="Bearer")


@pytest.mark.parametrize("issued", [ACCESS_TOKEN, "urn:ietf:params:oauth:token-type:jwt"])
def test_an_exchange_brings_an_access_token_for_its_target(issued):
    assert exchange({**EXCHANGED, "issued_token_type": issued}) == TokenSet(
        "at-1", NOW, SENT + 300, target=BILLING
    )


@pytest.mark.parametrize(
    "issued",
    [
        pytest.param("urn:ietf:params:oauth:token-type:refresh_token", id="a refresh token"),
        pytest.param("urn:ietf:params:oauth:token-type:id_token", id="an id token"),
        pytest.param("urn:ietf:params:oauth:token-type:saml2", id="an assertion"),
        pytest.param("access_token", id="a short name"),
        pytest.param(ACCESS_TOKEN.upper(), id="capitals"),
        pytest.param("", id="an empty string"),
        pytest.param(None, id="null"),
        pytest.param(7, id="a number"),
        pytest.param([ACCESS_TOKEN], id="a list"),
        pytest.param({ACCESS_TOKEN: 1}, id="an object"),
    ],
)
def test_of_another_issued_token_type_it_is_refused(issued):  # RFC 8693 §2.2.1
    with pytest.raises(ProviderUnavailable, match="did not issue an access token"):
        exchange({**EXCHANGED, "issued_token_type": issued})


def test_the_issued_token_type_is_required():  # RFC 8693 §2.2.1
    with pytest.raises(ProviderUnavailable, match="did not issue an access token"):
        exchange(GOOD)


def test_a_refresh_or_id_token_of_an_exchange_is_dropped():  # RFC 8693 §2.2.1
    exchanged = exchange({**EXCHANGED, "refresh_token": "rt-of-the-exchange", "id_token": "it-1"})

    assert (exchanged.refresh_token, exchanged.id_token) == (None, None)


@pytest.mark.parametrize("token_type", ["N_A", "DPoP"])
def test_what_cannot_be_sent_as_a_bearer_token_is_refused(token_type):
    with pytest.raises(ProviderUnavailable, match="another type"):
        exchange({**EXCHANGED, "token_type": token_type})


@pytest.mark.parametrize(
    "error", ["invalid_grant", "invalid_request", "invalid_target", "unauthorized_client"]
)
def test_a_refused_exchange_ends_no_session(error):  # RFC 8693 §2.2.2
    with pytest.raises(ClientRejected):
        exchange({"error": error}, status=400)


@pytest.mark.parametrize("status", [302, 404, 429, 500, 503])
def test_an_exchange_means_provider_unavailable_after(status):
    with pytest.raises(ProviderUnavailable) as failure:
        exchange({}, status=status, Retry_After="17")

    assert type(failure.value) is ProviderUnavailable
    assert failure.value.requested_pause_seconds == 17


# RFC 9126: pushed authorization requests.

REQUEST_URI = "urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c"


@pytest.mark.parametrize("status", [201, 200], ids=["§2.2: 201", "200, as some do"])
def test_a_pushed_request_has_a_request_uri(status):
    assert (
        parse_pushed_response(received({"request_uri": REQUEST_URI, "expires_in": 60}, status=status))
        == REQUEST_URI
    )


@pytest.mark.parametrize(
    "body", [b"{}", b"", b"<html>", b'{"request_uri": ""}', b'{"request_uri": ["x"]}', b"null"]
)
def test_without_a_request_uri_the_provider_is_unavailable(body):
    with pytest.raises(ProviderUnavailable) as failure:
        parse_pushed_response(received(body=body, status=201))

    assert type(failure.value) is ProviderUnavailable


@pytest.mark.parametrize("status", [302, 400, 403, 405, 413, 429, 500])
def test_a_request_uri_in_an_error_response_is_ignored(status):
    with pytest.raises(ProviderUnavailable):
        parse_pushed_response(received({"request_uri": REQUEST_URI}, status=status))


@pytest.mark.parametrize(
    "error", ["invalid_request", "invalid_client", "unauthorized_client", "invalid_scope"]
)
@pytest.mark.parametrize("status", [400, 401])
def test_a_refused_pushed_request_means_client_rejected(status, error):  # RFC 9126 §2.3
    with pytest.raises(ClientRejected, match=error):
        parse_pushed_response(received({"error": error}, status=status))


@pytest.mark.parametrize("status", [413, 429], ids=["too large", "too many"])
def test_a_pushed_request_means_provider_unavailable_after_429_or_5xx(status):  # RFC 9126 §2.3
    with pytest.raises(ProviderUnavailable) as failure:
        parse_pushed_response(received({}, status=status, Retry_After="17"))

    assert failure.value.requested_pause_seconds == 17


# RFC 7009: revocation.


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b'{"error": "invalid_request"}'])
def test_a_token_is_revoked_after_200_whatever_the_body(body):  # RFC 7009 §2.2
    check_revoked(received(body=body))


def test_a_token_is_revoked_after_204():
    check_revoked(received(body=b"", status=204))


@pytest.mark.parametrize("error", ["invalid_token", "invalid_grant"])
def test_a_token_that_is_dead_already_is_revoked(error):
    check_revoked(received({"error": error}, status=400))


def test_unsupported_token_type_means_grant_refused():  # RFC 7009 §2.2.1
    with pytest.raises(GrantRefused, match="does not revoke"):
        check_revoked(received({"error": "unsupported_token_type"}, status=400))


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_unsupported_token_type_with_5xx_means_provider_unavailable(status):
    with pytest.raises(ProviderUnavailable):
        check_revoked(received({"error": "unsupported_token_type"}, status=status))


def test_503_to_a_revocation_means_provider_unavailable():  # RFC 7009 §2.2.1
    with pytest.raises(ProviderUnavailable) as failure:
        check_revoked(received(body=b"", status=503, Retry_After="17"))

    assert type(failure.value) is ProviderUnavailable
    assert failure.value.requested_pause_seconds == 17


@pytest.mark.parametrize("error", ["invalid_client", "unauthorized_client", "invalid_request"])
def test_a_rejected_client_at_revocation_means_client_rejected(error):
    with pytest.raises(ClientRejected, match=error):
        check_revoked(received({"error": error}, status=400))


@pytest.mark.parametrize("judge", [parse_pushed_response, check_revoked])
@pytest.mark.parametrize("status", [400, 429, 500])
def test_no_error_message_repeats_the_request(judge, status):
    document = {
        "error": "recognisable word",
        "error_description": "recognisable",
        "request_uri": "recognisable",
    }

    with pytest.raises(AppError) as failure:
        judge(received(document, status=status))

    assert "recognisable" not in str(failure.value)


@pytest.mark.parametrize("issued", ["recognisable", ACCESS_TOKEN])
def test_no_error_message_of_an_exchange_repeats_the_request(issued):
    document = {"access_token": "recognisable", "issued_token_type": issued, "token_type": "recognisable"}

    with pytest.raises(AppError) as failure:
        exchange(document)

    assert "recognisable" not in str(failure.value)
