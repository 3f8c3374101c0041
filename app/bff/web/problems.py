"""Errors as problem documents (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from app.bff.errors import AppError, InsufficientAuthentication, InvalidBody, MethodNotAllowed, Unauthorized

CONTENT_TYPE = "application/problem+json"

_CODES = {
    400: "bad_request",
    401: "no_session",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_body",
    429: "too_many_requests",
}


_DETAILS = {
    404: "There is nothing at this address.",
    405: "What is at this address cannot be used in this way.",
}


def problem(status: int, error: BaseException | None, *, request_id: str, login_url: str) -> dict[str, Any]:
    """Return the problem document for `error`, or for a bare status such as 404.

    The message of an AppError is shown; that of any other exception (500) is only logged.
    """
    document: dict[str, Any] = {"type": "about:blank", "status": status, "request_id": request_id}
    if isinstance(error, AppError) and error.status != 500:
        document |= {"title": error.title, "code": error.code, "detail": error.detail or error.title}
    else:
        title = _phrase(status)
        document |= {"title": title, "code": _CODES.get(status, "internal_error")}
        document["detail"] = _DETAILS.get(status, title)
    if isinstance(error, Unauthorized) and error.login_helps:
        document["login_url"] = login_url
    if isinstance(error, InvalidBody):
        document["errors"] = error.errors
    if isinstance(error, InsufficientAuthentication):
        document |= error.login_parameters
    return document


def error_headers(error: BaseException | None) -> list[tuple[str, str]]:
    """Return the headers of the response to `error`."""
    headers = []
    if isinstance(error, AppError) and error.retry_after_seconds is not None:
        headers.append(("Retry-After", str(error.retry_after_seconds)))
    if isinstance(error, MethodNotAllowed):
        headers.append(("Allow", ", ".join(error.allowed)))
    if isinstance(error, InsufficientAuthentication):
        parameters = "".join(f', {name}="{value}"' for name, value in error.login_parameters.items())
        headers.append(("WWW-Authenticate", f'Bearer error="{error.code}"{parameters}'))  # RFC 9470 §3
    return headers


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
