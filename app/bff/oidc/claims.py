"""Validates the claims of ID tokens and userinfo, once the signature has been verified; cleans them. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Mapping
from typing import Any, TypeGuard, cast

from app.bff.errors import LoginFailed, UntrustedToken
from app.bff.oidc.keys import SignedToken
from app.bff.oidc.step_up import AuthenticationRequirements

LEEWAY_SECONDS = 60
_LONGEST_SUBJECT = 1024  # 255 in OIDC Core §2, which not every provider keeps
MAX_DEPTH = 16
MAX_CLAIM_BYTES = 65_536  # as JSON
MAX_CLAIMS_BYTES = 262_144  # of all claims
_OURS = "bff:"  # the prefix of the entries that /bff/user adds
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
    of another user.
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


class _Unusable(ValueError):
    """A claim that is dropped."""


def clean_claims(claims: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the claims that can be kept, and the names of those that cannot.

    Dropped are claims that contain NaN or Infinity (no JSON, RFC 8259 §6), are nested deeper than
    MAX_DEPTH, exceed a limit in size, or are named like our own entries. A half surrogate pair (§8.2)
    becomes U+FFFD: no UTF-8 encodes it.
    """
    kept: dict[str, Any] = {}
    dropped, left = [], MAX_CLAIMS_BYTES
    for name, value in claims.items():
        try:
            clean, size = _clean_claim(name, value, min(left, MAX_CLAIM_BYTES))
        except _Unusable:
            dropped.append(well_formed(name))
        else:
            kept[well_formed(name)] = clean
            left -= size
    return kept, dropped


def is_well_formed(text: str) -> bool:
    """Whether `text` has no half surrogate pair: only then it can be encoded."""
    return text.isascii() or text == well_formed(text)


def well_formed(text: str) -> str:
    """Replace half surrogate pairs, and join whole ones."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _clean_claim(name: str, value: Any, max_bytes: int) -> tuple[Any, int]:
    """Return the clean value, and the claim's size as JSON."""
    if name.lower().startswith(_OURS):
        raise _Unusable
    clean = _clean(value, MAX_DEPTH)
    size = len(json.dumps({name: clean}))
    if size > max_bytes:
        raise _Unusable
    return clean, size


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise _Unusable
    if not isinstance(value, dict | list):
        return value
    if depth == 0:
        raise _Unusable
    if isinstance(value, list):
        return [_clean(member, depth - 1) for member in value]
    return {well_formed(name): _clean(member, depth - 1) for name, member in value.items()}
