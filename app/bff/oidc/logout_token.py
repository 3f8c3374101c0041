"""Validates logout tokens (OpenID Connect Back-Channel Logout 1.0). Pure; replays: see ReplayCache."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field

from app.bff.errors import UntrustedToken
from app.bff.oidc.claims import (
    LEEWAY_SECONDS,
    Claims,
    check_parties,
    check_times,
    require,
    string_claim,
)
from app.bff.oidc.keys import SignedToken

EVENT = "http://schemas.openid.net/event/backchannel-logout"
OLDEST_SECONDS = 3600  # whatever `exp` says; bounds how long the replay cache holds a token
_TYPES = ("logout+jwt", "jwt")  # `jwt`: providers that do not type their logout tokens


@dataclass(frozen=True)
class LogoutToken:
    """The sessions to end: those of the provider's session `sid`; if that is None, all of `subject`.

    `key` is the token's key in the replay cache, a hash. From `replay_until` on, seconds since the
    epoch, the token is refused for its age, so the cache may forget it.
    """

    subject: str | None = field(repr=False)
    sid: str | None = field(repr=False)
    key: str
    replay_until: float
    issuer: str


def validate(
    token: SignedToken, *, issuer: str, client_id: str, trusted_audiences: Collection[str] = (), now: float
) -> LogoutToken:
    """Return the validated token, or raise UntrustedToken (§2.4, §2.6).

    Does not detect a replay: that is for the ReplayCache.
    """
    claims = token.claims
    _check_type(token.type)
    check_parties(
        claims, issuer=issuer, client_id=client_id, trusted_audiences=trusted_audiences, needs_azp=False
    )
    check_times(claims, now=now)
    require(claims["iat"] > now - OLDEST_SECONDS, "iat")
    require(string_claim(claims, "jti") != "", "jti")
    require(_is_event(claims.get("events")), "events")
    require("nonce" not in claims, "nonce")  # so that an ID token never passes for one (§2.4)
    subject, sid = _name(claims, "sub"), _name(claims, "sid")
    require((subject or sid) is not None, "sub")
    return LogoutToken(subject, sid, _key(issuer, claims["jti"]), _replay_until(claims), issuer)


def _check_type(value: object) -> None:
    """Raise UntrustedToken for a token of another type (RFC 8725 §3.11)."""
    known = value is None or (isinstance(value, str) and value.lower().removeprefix("application/") in _TYPES)
    if not known:
        raise UntrustedToken("the header has another type than a logout token's")


def _is_event(events: object) -> bool:
    return isinstance(events, dict) and isinstance(events.get(EVENT), dict)


def _name(claims: Claims, claim: str) -> str | None:
    """Return a claim that may be missing, but not empty."""
    require(claim not in claims or string_claim(claims, claim) != "", claim)
    return claims.get(claim)


def _key(issuer: str, jti: str) -> str:
    return hashlib.sha256(f"{issuer} {jti}".encode()).hexdigest()


def _replay_until(claims: Claims) -> float:
    over = min(claims["exp"] + LEEWAY_SECONDS, claims["iat"] + OLDEST_SECONDS)
    return float(over + LEEWAY_SECONDS)  # for processes whose clock is slow
