"""Logout tokens: which of them we believe (OpenID Connect Back-Channel Logout 1.0). Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from app.bff.errors import UntrustedToken
from app.bff.oidc.claims import LEEWAY_SECONDS, Claims, check_registered_claims, require, string_claim
from app.bff.oidc.keys import SignedToken

EVENT = "http://schemas.openid.net/event/backchannel-logout"
OLDEST_SECONDS = 3600  # whatever `exp` says: for so long at most a token has to be remembered
_TYPES = ("logout+jwt", "jwt")  # the second one is of providers that do not type their tokens yet


@dataclass(frozen=True)
class LogoutToken:
    """What the provider wants ended: its session `sid`; if that is None, all that `subject` has.

    `key` is what it is remembered by, and tells nothing. From `replay_until` on, seconds since the
    epoch, its age alone gets it refused.
    """

    subject: str | None = field(repr=False)
    sid: str | None = field(repr=False)
    key: str
    replay_until: float


def validate(token: SignedToken, *, issuer: str, client_id: str, now: float) -> LogoutToken:
    """Return what a logout token asks for, or raise UntrustedToken (§2.4, §2.6).

    Whether it was used before, only a store can tell.
    """
    claims = token.claims
    _check_type(token.type)
    check_registered_claims(claims, issuer=issuer, client_id=client_id, now=now)
    require(claims["iat"] > now - OLDEST_SECONDS, "iat")
    require(string_claim(claims, "jti") != "", "jti")
    require(_is_event(claims.get("events")), "events")
    require("nonce" not in claims, "nonce")  # so that an id token is never taken for one
    subject, sid = _name(claims, "sub"), _name(claims, "sid")
    require((subject or sid) is not None, "sub")
    return LogoutToken(subject, sid, _key(issuer, claims["jti"]), _replay_until(claims))


def _check_type(value: object) -> None:
    """A token of another kind never passes for a logout token (RFC 8725 §3.11)."""
    known = value is None or (isinstance(value, str) and value.lower().removeprefix("application/") in _TYPES)
    if not known:
        raise UntrustedToken("the type in its header is not a logout token's")


def _is_event(events: object) -> bool:
    return isinstance(events, dict) and isinstance(events.get(EVENT), dict)


def _name(claims: Claims, claim: str) -> str | None:
    """Return a name that may be missing, but not be empty."""
    require(claim not in claims or string_claim(claims, claim) != "", claim)
    return claims.get(claim)


def _key(issuer: str, jti: str) -> str:
    return hashlib.sha256(f"{issuer} {jti}".encode()).hexdigest()


def _replay_until(claims: Claims) -> float:
    over = min(claims["exp"] + LEEWAY_SECONDS, claims["iat"] + OLDEST_SECONDS)
    return float(over + LEEWAY_SECONDS)  # for those of us whose clock is late
