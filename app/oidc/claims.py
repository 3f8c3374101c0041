"""What we believe: the rules for the claims of a token whose signature is right. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, cast

from app.errors import UntrustedToken
from app.oidc.keys import SignedToken

LEEWAY_SECONDS = 60
Claims = Mapping[str, Any]


def check_id_token(
    token: SignedToken, *, issuer: str, client_id: str, nonce: str, access_token: str, now: float
) -> None:
    """Raise UntrustedToken unless the id token was made for this login of ours (OIDC Core §3.1.3.7)."""
    claims = token.claims
    check_is_for_us(claims, issuer=issuer, client_id=client_id, now=now)
    require(text(claims, "sub") != "", "sub")
    require(hmac.compare_digest(text(claims, "nonce").encode(), nonce.encode()), "nonce")
    if "at_hash" in claims:
        require(claims["at_hash"] == at_hash(access_token, token.algorithm), "at_hash")


def check_refreshed_id_token(token: SignedToken, *, earlier: Claims, client_id: str, now: float) -> None:
    """Raise UntrustedToken unless it speaks of the same login as `earlier` (OIDC Core §12.2)."""
    claims = token.claims
    check_is_for_us(claims, issuer=earlier["iss"], client_id=client_id, now=now)
    require(claims.get("sub") == earlier["sub"], "sub")
    require("nonce" not in claims or claims["nonce"] == earlier.get("nonce"), "nonce")


def check_userinfo(userinfo: Claims, *, subject: str) -> None:
    """Raise UntrustedToken unless userinfo is about the id token's subject (OIDC Core §5.3.2)."""
    require(userinfo.get("sub") == subject, "sub")


def at_hash(access_token: str, algorithm: str) -> str:
    """Return the left half of the access token's hash (OIDC Core §3.1.3.6)."""
    digest = hashlib.new(_HASHES[algorithm[-3:]], access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


_HASHES = {"256": "sha256", "384": "sha384", "512": "sha512", "DSA": "sha512", "519": "sha512"}


def check_is_for_us(claims: Claims, *, issuer: str, client_id: str, now: float) -> None:
    """Raise UntrustedToken unless a token is the issuer's, for us alone, and good now."""
    require(claims.get("iss") == issuer, "iss")
    # Another audience beside us is one that we do not know, nor trust.
    require(_audiences(claims) == {client_id}, "aud")
    require(claims.get("azp", client_id) == client_id, "azp")
    require(_number(claims, "exp") > now - LEEWAY_SECONDS, "exp")
    require(_number(claims, "iat") < now + LEEWAY_SECONDS, "iat")
    require("nbf" not in claims or _number(claims, "nbf") < now + LEEWAY_SECONDS, "nbf")


def _audiences(claims: Claims) -> frozenset[str]:
    audience = claims.get("aud")
    members = audience if isinstance(audience, list) else [audience]
    return frozenset(member for member in members if isinstance(member, str))


def text(claims: Claims, name: str) -> str:
    """Return a claim that is a text, or "" for one that is missing or anything else."""
    value = claims.get(name)
    return value if isinstance(value, str) else ""


def _number(claims: Claims, name: str) -> float:
    value = claims.get(name)
    require(isinstance(value, int | float) and not isinstance(value, bool), name)
    return cast(float, value)  # as it is: an int of hundreds of digits fits no float


def require(holds: bool, claim: str) -> None:
    """Raise UntrustedToken unless it holds; the message names the claim and never its value."""
    if not holds:
        raise UntrustedToken(f"the claim {claim} is not what it must be")
