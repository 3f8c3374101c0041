"""Validates the claims of ID tokens and userinfo, once the signature has been verified. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, TypeGuard, cast

from app.bff.errors import LoginFailed, UntrustedToken
from app.bff.oidc.clean_claims import is_well_formed
from app.bff.oidc.keys import SignedToken
from app.bff.oidc.step_up import AuthenticationRequirements

LEEWAY_SECONDS = 60
_LONGEST_SUBJECT = 1024  # 255 in OIDC Core §2, which not every provider keeps
Claims = Mapping[str, Any]


def check_id_token(
    token: SignedToken, *, issuer: str, client_id: str, nonce: str, access_token: str, now: float
) -> None:
    """Raise UntrustedToken unless the ID token was issued for this login (OIDC Core §3.1.3.7)."""
    claims = token.claims
    check_registered_claims(claims, issuer=issuer, client_id=client_id, now=now)
    require(0 < len(string_claim(claims, "sub")) <= _LONGEST_SUBJECT, "sub")
    require(hmac.compare_digest(string_claim(claims, "nonce").encode(), nonce.encode()), "nonce")
    if "at_hash" in claims:
        require(claims["at_hash"] == at_hash(access_token, token.algorithm), "at_hash")


def check_refreshed_id_token(token: SignedToken, *, earlier: Claims, client_id: str, now: float) -> None:
    """Raise UntrustedToken unless it belongs to the same login as `earlier` (OIDC Core §12.2)."""
    claims = token.claims
    check_registered_claims(claims, issuer=earlier["iss"], client_id=client_id, now=now)
    require(claims.get("sub") == earlier["sub"], "sub")
    require("nonce" not in claims or claims["nonce"] == earlier.get("nonce"), "nonce")


def check_userinfo(userinfo: Claims, *, subject: str) -> None:
    """Raise UntrustedToken unless userinfo has the ID token's subject (OIDC Core §5.3.2)."""
    require(userinfo.get("sub") == subject, "sub")


def unmet_requirement(requirements: AuthenticationRequirements, claims: Claims, *, now: float) -> str | None:
    """Return the claim, `acr` or `auth_time`, that fails the requirements; None if they are met."""
    if requirements.acr and string_claim(claims, "acr") not in requirements.acr:
        return "acr"
    if requirements.max_age is not None and not _signed_in_since(now - requirements.max_age, claims, now=now):
        return "auth_time"
    return None


def check_authentication(
    claims: Claims, requirements: AuthenticationRequirements, *, auth_time_floor: float | None, now: float
) -> None:
    """Raise LoginFailed unless the login meets the requirements (OIDC Core §3.1.3.7, rules 12 and 13).

    `auth_time_floor` is the earliest `auth_time` that is accepted, if the claim is there: the start of a
    login with `prompt=login`.
    """
    unmet = unmet_requirement(requirements, claims, now=now)
    if unmet == "acr":
        raise LoginFailed("This needs another way of signing in, which the sign-in service did not ask for.")
    has_auth_time = "auth_time" in claims  # optional, unless max_age was sent (§2)
    old = (
        auth_time_floor is not None
        and has_auth_time
        and not _signed_in_since(auth_time_floor, claims, now=now)
    )
    if unmet or old:
        raise LoginFailed("You have to sign in once more, but the sign-in service did not ask you to.")


def without_authentication(userinfo: Claims) -> dict[str, Any]:
    """Return `userinfo` without acr, amr and auth_time, which are trusted only in an ID token."""
    return {name: value for name, value in userinfo.items() if name not in ("acr", "amr", "auth_time")}


def at_hash(access_token: str, algorithm: str) -> str:
    """Return the left half of the access token's hash (OIDC Core §3.1.3.6)."""
    digest = hashlib.new(_HASHES[algorithm[-3:]], access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


_HASHES = {"256": "sha256", "384": "sha384", "512": "sha512", "DSA": "sha512", "519": "sha512"}


def check_registered_claims(claims: Claims, *, issuer: str, client_id: str, now: float) -> None:
    """Raise UntrustedToken unless `iss`, `aud`, `azp` and the times are valid for this client now."""
    require(claims.get("iss") == issuer, "iss")
    # Another audience beside this client is unknown, so it is not trusted (OIDC Core §3.1.3.7, rule 3).
    require(_audiences(claims) == {client_id}, "aud")
    require(claims.get("azp", client_id) == client_id, "azp")
    require(_number(claims, "exp") > now - LEEWAY_SECONDS, "exp")
    require(_number(claims, "iat") < now + LEEWAY_SECONDS, "iat")
    require("nbf" not in claims or _number(claims, "nbf") < now + LEEWAY_SECONDS, "nbf")


def _audiences(claims: Claims) -> frozenset[str]:
    audience = claims.get("aud")
    members = audience if isinstance(audience, list) else [audience]
    return frozenset(member for member in members if isinstance(member, str))


def string_claim(claims: Claims, name: str) -> str:
    """Return a claim that is a string, or "" for one that is missing or anything else.

    A string with half a surrogate pair is "", too: it cannot be encoded, and a repaired one might be the name
    of somebody else.
    """
    value = claims.get(name)
    return value if isinstance(value, str) and is_well_formed(value) else ""


def _signed_in_since(then: float, claims: Claims, *, now: float) -> bool:
    """Whether `auth_time` lies between `then` and `now`, with LEEWAY_SECONDS on both sides."""
    auth_time = claims.get("auth_time")
    return _is_number(auth_time) and then - LEEWAY_SECONDS <= auth_time < now + LEEWAY_SECONDS


def _number(claims: Claims, name: str) -> float:
    value = claims.get(name)
    require(_is_number(value), name)
    return cast(float, value)  # unconverted: an int of hundreds of digits fits no float


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def require(holds: bool, claim: str) -> None:
    """Raise UntrustedToken unless `holds`; the message names the claim and never its value."""
    if not holds:
        raise UntrustedToken(f"the claim {claim} is invalid")
