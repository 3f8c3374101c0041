"""What an answer of the token endpoint means. Pure: status and body in, tokens or an error out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from app.errors import ClientRejected, GrantRefused, ProviderUnavailable
from app.oidc.documents import object_in
from app.sessions.session import TokenSet

# RFC 6749 §5.2. Only invalid_grant says that this code or refresh token is dead; the others say that
# we asked wrongly, which is the operator's business and no reason to end a session.
_DEAD = "invalid_grant"
_OURS = {
    "invalid_client",
    "unauthorized_client",
    "invalid_scope",
    "invalid_request",
    "unsupported_grant_type",
}


def tokens_from(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> TokenSet:
    """Return the tokens in a token response received `now`.

    Raises GrantRefused (the code or refresh token is dead), ClientRejected (the operator must act)
    or ProviderUnavailable (try later).
    """
    document = object_in(body) or {}
    error = document.get("error")
    if status == 200 and error is None:
        return _token_set(document, now=now)
    if status < 500 and error == _DEAD:
        raise GrantRefused("the provider answered invalid_grant")
    if status in (400, 401, 403) and isinstance(error, str) and error in _OURS:
        raise ClientRejected(f"the provider answered {error}")
    raise ProviderUnavailable(
        f"the token endpoint answered {status}", retry_after_seconds=retry_after_seconds(headers)
    )


def retry_after_seconds(headers: Mapping[str, str], default: int = 5) -> int:
    """Return the provider's Retry-After in seconds; its date form is too rare to read."""
    value = headers.get("Retry-After", "")
    return min(int(value), 3600) if value.isascii() and value.isdigit() else default


def _token_set(document: Mapping[str, Any], *, now: float) -> TokenSet:
    access_token = document.get("access_token")
    if not isinstance(access_token, str) or not access_token:
        raise ProviderUnavailable("the token response has no access token")
    if str(document.get("token_type", "bearer")).lower() != "bearer":  # some write it in lower case
        raise ProviderUnavailable("the token response is of another type than Bearer")
    return TokenSet(
        access_token=access_token,
        received_at=now,
        expires_at=_expires_at(document.get("expires_in"), now=now),
        refresh_token=_text(document.get("refresh_token")),
        id_token=_text(document.get("id_token")),
        scope=_text(document.get("scope")),
    )


def _expires_at(expires_in: Any, *, now: float) -> float | None:
    """Return when `expires_in` seconds are over; None for what is not a number."""
    try:
        seconds = float(expires_in)  # a string at PayPal
    except (TypeError, ValueError, OverflowError):
        return None
    return now + seconds if math.isfinite(seconds) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
