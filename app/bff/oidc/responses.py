"""Parses responses of the provider's endpoints: tokens, or the error that they mean. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from app.bff.errors import ClientRejected, GrantRefused, InteractionRequired, ProviderUnavailable
from app.bff.oidc.error_codes import CLIENT_ERRORS, INVALID_GRANT, TEMPORARY_ERRORS
from app.bff.oidc.refusals import error_code
from app.bff.sessions.session import Target, TokenSet

# It is not the endpoint that answers so: it has moved, or what stands in front of it has answered.
_NO_REFUSALS = (404, 405, 408, 410, 421, 425, 429)
_BUSY = (408, 429)
_JWT = re.compile(rb"eyJ[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)  # signed, and with a JSON object as header
_LONGEST_SECONDS = 3600
_UNSUPPORTED = "unsupported_token_type"  # RFC 7009 §2.2.1
_ACCESS_TOKENS = (  # RFC 8693 §3: the types that can be sent to an API
    "urn:ietf:params:oauth:token-type:access_token",
    "urn:ietf:params:oauth:token-type:jwt",
)


@dataclass(frozen=True)
class EndpointResponse:
    """A response of an endpoint.

    `json_object` is None if the body is anything else. Request and response were `sent_at` and `received_at`,
    in seconds since the epoch by our clock.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    json_object: Mapping[str, Any] | None = field(repr=False)
    sent_at: float
    received_at: float
    body: bytes = field(default=b"", repr=False)

    @property
    def document(self) -> Mapping[str, Any]:
        return self.json_object or {}

    @property
    def error(self) -> Any:
        return self.document.get("error")

    @property
    def refusal(self) -> str | None:
        """The error code by which the provider refuses the request (RFC 6749 §5.2), or None.

        Some send it with 200. A code in a 5xx, or in a response that something in front of the endpoint
        may have sent, says nothing of the request.
        """
        refuses = self.status == 200 or (400 <= self.status < 500 and self.status not in _NO_REFUSALS)
        return self.error if refuses and isinstance(self.error, str) and self.error else None


def parse_token_response(response: EndpointResponse, *, target: Target, token_type: str) -> TokenSet:
    """Return the tokens in a token response (RFC 6749 §5.1).

    Raises GrantRefused (the code or refresh token is invalid), ClientRejected (the operator must act),
    InteractionRequired (the user must) or ProviderUnavailable (try later). Tokens of another type than
    `token_type` are refused.
    """
    if response.refusal == INVALID_GRANT:
        raise GrantRefused("the provider answered invalid_grant")
    if response.status != 200 or response.error is not None:
        raise _error_response(response, of_user=True)
    return _token_set(response, target, token_type)


def parse_exchange_response(response: EndpointResponse, *, target: Target, token_type: str) -> TokenSet:
    """Return the access token in the response to a token exchange (RFC 8693 §2.2).

    Raises as `parse_token_response` does, but never GrantRefused: no refresh token was sent.
    """
    if response.status != 200 or response.error is not None:
        raise _error_response(response, of_user=True)
    tokens = _token_set(response, target, token_type)
    if response.document.get("issued_token_type") not in _ACCESS_TOKENS:  # required, RFC 8693 §2.2.1
        raise ProviderUnavailable("the provider did not issue an access token in exchange", is_outage=False)
    return replace(tokens, refresh_token=None, id_token=None)  # those are not the session's


def parse_pushed_response(response: EndpointResponse) -> str:
    """Return the `request_uri` of a pushed authorization request (RFC 9126 §2.2); raises alike."""
    request_uri = response.document.get("request_uri")
    if response.status in (200, 201) and isinstance(request_uri, str) and request_uri:
        return request_uri
    raise _error_response(response)


def parse_userinfo_response(response: EndpointResponse) -> Mapping[str, Any] | str | None:
    """Return the claims of a userinfo response, or the JWT that has them (OIDC Core §5.3.2).

    None if the provider refuses, or answers in any other form. Raises ProviderUnavailable for an outage.
    """
    if response.status >= 500 or response.status in _BUSY:
        raise _error_response(response)
    if response.status != 200:
        return None
    if response.json_object is not None:
        refuses = "error" in response.json_object and "sub" not in response.json_object
        return None if refuses else response.json_object
    return response.body.decode() if _JWT.fullmatch(response.body) else None


def check_revoked(response: EndpointResponse) -> None:
    """Return if a token is revoked. Raises GrantRefused if tokens of this kind cannot be (RFC 7009).

    Some providers answer an error for a token that was dead already, as after a logout there.
    """
    if response.status in (200, 204):
        return
    if response.status == 400 and response.error in ("invalid_grant", "invalid_token"):
        return
    if response.status == 400 and response.error == _UNSUPPORTED:
        raise GrantRefused("the provider does not revoke tokens of this kind")
    raise _error_response(response)


def _error_response(response: EndpointResponse, *, of_user: bool = False) -> ProviderUnavailable:
    """Return the error for a response without success; `of_user` if the request was for a user."""
    error = response.refusal
    if error is not None and error not in TEMPORARY_ERRORS:
        reason = f"the provider answered {error_code(error) or 'an error of its own'}"
        of_client = error in CLIENT_ERRORS or error == INVALID_GRANT
        return ClientRejected(reason) if of_client or not of_user else InteractionRequired(reason)
    wait = retry_after_seconds(response.headers, now=response.received_at)
    return ProviderUnavailable(
        f"the provider answered {response.status}",
        retry_after_seconds=wait,
        is_outage=response.status >= 500,
    )


def retry_after_seconds(headers: Mapping[str, str], *, now: float) -> int | None:
    """Return Retry-After in seconds, at most an hour; None without a usable one (RFC 9110 §10.2.3)."""
    value = headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return min(int(value[:9]), _LONGEST_SECONDS)
    try:
        date = parsedate_to_datetime(value)
        seconds = date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now  # RFC 9110 §5.6.7
    except (ValueError, OverflowError):
        return None
    return min(max(math.ceil(seconds), 0), _LONGEST_SECONDS)


def server_date(headers: Mapping[str, str]) -> float | None:
    """Return the time of a response by the server's clock, corrected by `Age` (RFC 9111 §5.1)."""
    age = headers.get("Age", "")
    try:
        date = parsedate_to_datetime(headers.get("Date", ""))
        seconds = date.replace(tzinfo=date.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds + (int(age[:9]) if age.isascii() and age.isdecimal() else 0)


def skew_seconds(date: float, *, sent_at: float, received_at: float) -> float:
    """Return the least seconds by which our clock is ahead of the provider's; negative if it is behind.

    `date` has whole seconds and was taken between `sent_at` and `received_at`.
    """
    return max(sent_at - (date + 1), 0) or min(received_at - date, 0)


def _token_set(response: EndpointResponse, target: Target, token_type: str) -> TokenSet:
    document = response.document
    access_token = _printable(document.get("access_token"))
    if access_token is None:
        raise ProviderUnavailable("the token response has no access token", is_outage=False)
    if str(document.get("token_type", "bearer")).lower() != token_type.lower():  # RFC 6749 §5.1: in any case
        raise ProviderUnavailable(f"the token response is of another type than {token_type}", is_outage=False)
    return TokenSet(
        target=target,
        access_token=access_token,
        received_at=response.received_at,
        # The provider may have issued it as soon as it was asked: a slow response is part of its lifetime.
        expires_at=_expires_at(document.get("expires_in"), issued_at=response.sent_at),
        refresh_token=_printable(document.get("refresh_token")),
        id_token=_printable(document.get("id_token")),
        scope=_printable(document.get("scope")),
    )


def _expires_at(expires_in: Any, *, issued_at: float) -> float | None:
    """Return `expires_in` as a time in seconds since the epoch; None if it is no number."""
    try:
        seconds = float(expires_in)  # a string at PayPal
    except (TypeError, ValueError, OverflowError):
        return None
    return issued_at + seconds if math.isfinite(seconds) else None


def _printable(value: Any) -> str | None:
    """Return a string that fits a header and a form (RFC 6749 appendix A), else None."""
    fits = isinstance(value, str) and value.isascii() and value.isprintable()
    return value or None if fits else None
