"""Signed authorization requests (JAR, RFC 9101) and responses (JARM): FAPI 2.0 Message Signing. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from typing import Any

from app.bff.oidc.claims import check_parties, check_times
from app.bff.oidc.keys import Key, sign_jwt

REQUEST_SECONDS = 60
_TYPE = "oauth-authz-req+jwt"  # RFC 9101 §10.8: no other token can pass for a request


def request_object(params: Mapping[str, Any], key: Key, *, client_id: str, audience: str, now: float) -> str:
    """Return an authorization request as a JWT, which `audience` accepts for REQUEST_SECONDS."""
    issued_at = int(now)
    claims = {
        **params,
        "iss": client_id,
        "aud": audience,
        "jti": secrets.token_urlsafe(16),
        "iat": issued_at,
        "nbf": issued_at,
        "exp": issued_at + REQUEST_SECONDS,
    }
    if "max_age" in params:
        claims["max_age"] = int(params["max_age"])
    return sign_jwt(claims, key, token_type=_TYPE)


def response_parameters(
    claims: Mapping[str, Any], *, issuer: str, client_id: str, trusted_audiences: Collection[str], now: float
) -> dict[str, str]:
    """Return the parameters of a signed authorization response (JARM §2.1), whose signature is verified.

    Raises UntrustedToken if it is of another issuer, for another client, or over.
    """
    check_parties(
        claims, issuer=issuer, client_id=client_id, trusted_audiences=trusted_audiences, needs_azp=False
    )
    check_times({"iat": now, **claims}, now=now)
    return {name: value for name, value in claims.items() if isinstance(value, str)}
