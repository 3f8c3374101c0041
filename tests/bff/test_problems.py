"""Problem documents: what a program learns from an error, and what it never learns."""

from __future__ import annotations

from typing import Any

import pytest

from app.bff import errors
from app.bff.errors import AppError, NoSession, TokenUnavailable, UnknownClient, WrongSid
from app.bff.web.problems import CONTENT_TYPE, problem


def document(status: int, error: BaseException | None = None) -> dict[str, Any]:
    return problem(status, error, request_id="r-1", login_url="/bff/login")


def all_errors(parent: type[AppError] = AppError) -> list[type[AppError]]:
    found = [parent, *(kind for child in parent.__subclasses__() for kind in all_errors(child))]
    return [kind for kind in found if kind.__module__ == errors.__name__]


def test_the_media_type_is_that_of_rfc_9457():
    assert CONTENT_TYPE == "application/problem+json"


def test_an_error_of_ours_speaks_for_itself():
    assert document(400, WrongSid("The link was not one of ours.")) == {
        "type": "about:blank",
        "status": 400,
        "code": "wrong_sid",
        "title": "You are still signed in",
        "detail": "The link was not one of ours.",
        "request_id": "r-1",
    }


def test_without_a_detail_the_title_stands_in_for_it():
    assert document(403, errors.Forbidden())["detail"] == "You may not do that"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.NoSession, 401, "no_session"),
        (errors.SessionEnded, 401, "session_ended"),
        (errors.ReauthenticationRequired, 401, "reauthentication_required"),
        (errors.TokenUnavailable, 401, "provider_unavailable"),
        (errors.CsrfRejected, 403, "csrf_rejected"),
        (errors.Forbidden, 403, "forbidden"),
        (errors.BadRequest, 400, "bad_request"),
        (errors.BadReturnUrl, 400, "bad_return_url"),
        (errors.LoginFailed, 400, "login_failed"),
        (errors.WrongSid, 400, "wrong_sid"),
        (errors.NotFound, 404, "not_found"),
        (errors.UnsupportedMediaType, 415, "unsupported_media_type"),
        (errors.InvalidBody, 422, "invalid_body"),
        (errors.ApiUnreachable, 502, "api_unreachable"),
        (errors.ApiError, 502, "api_error"),
        (errors.TooManyRequests, 429, "too_many_requests"),
        (errors.Overloaded, 503, "overloaded"),
        (errors.ApiTimeout, 504, "api_timeout"),
        (errors.StoreUnavailable, 503, "store_unavailable"),
        (errors.ProviderUnavailable, 503, "provider_unavailable"),
        (errors.ClientRejected, 503, "provider_unavailable"),
        (errors.InteractionRequired, 503, "provider_unavailable"),
    ],
)
def test_status_and_code_of_each_error_never_change(error, status, code):
    assert (error.status, document(status, error())["code"]) == (status, code)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "bad_request"),
        (401, "no_session"),
        (403, "forbidden"),
        (404, "not_found"),
        (405, "method_not_allowed"),
        (413, "too_large"),
        (415, "unsupported_media_type"),
        (500, "internal_error"),
        (599, "internal_error"),
    ],
)
def test_a_bare_status_has_a_code_too(status, code):
    assert document(status)["code"] == code


@pytest.mark.parametrize("error", [NoSession(), errors.SessionEnded(), errors.ReauthenticationRequired()])
def test_where_signing_in_helps_the_document_says_where(error):
    assert document(401, error)["login_url"] == "/bff/login"


@pytest.mark.parametrize("error", [TokenUnavailable(), errors.Forbidden(), errors.StoreUnavailable(), None])
def test_where_signing_in_does_not_help_it_is_not_offered(error):
    assert "login_url" not in document(error.status if error else 404, error)


@pytest.mark.parametrize(
    "error", [KeyError("secret-key"), UnknownClient("secret-name"), ExceptionGroup("secret", [OSError()])]
)
def test_what_a_bug_says_is_for_the_log_alone(error):
    assert "secret" not in str(document(500, error))
    assert document(500, error)["code"] == "internal_error"


def test_a_store_or_provider_that_is_down_says_when_to_try_again():
    assert errors.StoreUnavailable().retry_after_seconds == 5
    assert errors.ProviderUnavailable(retry_after_seconds=30).retry_after_seconds == 30


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_the_tree_in_the_docstring_names_every_error_with_its_status(kind: type[AppError]):
    [line] = [line for line in (errors.__doc__ or "").splitlines() if kind.__name__ in line.split()]
    drawn = [word for word in line.split() if word.isdigit()]

    assert drawn in ([], [str(kind.status)])
