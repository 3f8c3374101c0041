"""Validates the claims of ID tokens and userinfo, once the signature has been verified. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Collection, Mapping
from typing import Any, TypeGuard

from app.bff.errors import LoginFailed, MistimedToken, UntrustedToken, UnusableToken
from app.bff.oidc.keys import SignedToken
from app.bff.oidc.step_up import AuthenticationRequirements

LEEWAY_SECONDS = 60
_FAR_FUTURE = 10**12  # seconds since the epoch; later times are compared, and not counted with
_LONGEST_SUBJECT = 1024  # 255 in OIDC Core §2, which not every provider keeps
Claims = Mapping[str, Any]


def check_id_token(
    token: SignedToken,
    *,
    issuer: str,
    client_id: str,
    trusted_audiences: Collection[str] = (),
    nonce: str,
    access_token: str,
    now: float,
) -> None:
    """Raise UntrustedToken unless the ID token was issued for this login (OIDC Core §3.1.3.7).

    The times come last: MistimedToken says that all else is valid.
    """
    claims = token.claims
    check_parties(claims, issuer=issuer, client_id=client_id, trusted_audiences=trusted_audiences)
    require(0 < len(string_claim(claims, "sub")) <= _LONGEST_SUBJECT, "sub")
    require(hmac.compare_digest(string_claim(claims, "nonce").encode(), nonce.encode()), "nonce")
    if "at_hash" in claims:
        require(claims["at_hash"] == at_hash(access_token, token.algorithm), "at_hash")
    check_times(claims, now=now)


def check_refreshed_id_token(
    token: SignedToken,
    *,
    earlier: Claims,
    client_id: str,
    trusted_audiences: Collection[str] = (),
    now: float,
) -> None:
    """Raise UntrustedToken unless it belongs to the same login as `earlier` (OIDC Core §12.2).

    UnusableToken if it names the same user and client, and has another defect.
    """
    claims = token.claims
    check_parties(claims, issuer=earlier["iss"], client_id=client_id, trusted_audiences=trusted_audiences)
    require(claims.get("sub") == earlier["sub"], "sub")
    if "nonce" in claims and claims["nonce"] != earlier.get("nonce"):
        raise UnusableToken(_invalid("nonce"))
    check_times(claims, now=now)


def check_userinfo(userinfo: Claims, *, subject: str) -> None:
    """Raise UntrustedToken unless userinfo has the ID token's subject (OIDC Core §5.3.2)."""
    require(userinfo.get("sub") == subject, "sub")


def check_signed_userinfo(
    claims: Claims, *, issuer: str, client_id: str, trusted_audiences: Collection[str] = (), now: float
) -> None:
    """Raise UntrustedToken if a JWT with userinfo is of another issuer, for another client, or mistimed.

    It need not say (OIDC Core §5.3.2): whose it is, the access token has said.
    """
    said = {"iss": issuer, "aud": client_id, "exp": now, "iat": now, **claims}
    check_parties(
        said, issuer=issuer, client_id=client_id, trusted_audiences=trusted_audiences, needs_azp=False
    )
    check_times(said, now=now)


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
        # At login the token is new: if it looks old, our clock is ahead, and another login would fail, too.
        ahead = _seconds_ahead(claims.get("iat", now), now=now)
        if ahead > LEEWAY_SECONDS:
            raise LoginFailed(wrong_clock(ahead))
        raise LoginFailed("You have to sign in once more, but the sign-in service did not ask you to.")


def without_authentication(userinfo: Claims) -> dict[str, Any]:
    """Return `userinfo` without acr, amr and auth_time, which are trusted only in an ID token."""
    return {name: value for name, value in userinfo.items() if name not in ("acr", "amr", "auth_time")}


def at_hash(access_token: str, algorithm: str) -> str:
    """Return the left half of the access token's hash (OIDC Core §3.1.3.6)."""
    digest = hashlib.new(_HASHES[algorithm[-3:]], access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


_HASHES = {"256": "sha256", "384": "sha384", "512": "sha512", "DSA": "sha512", "519": "sha512"}


def check_parties(
    claims: Claims,
    *,
    issuer: str,
    client_id: str,
    trusted_audiences: Collection[str] = (),
    needs_azp: bool = True,
) -> None:
    """Raise UntrustedToken unless the token is from `issuer` and for this client.

    Another audience beside the client must be a trusted one (OIDC Core §3.1.3.7, rules 3 to 5). `azp` has to
    name the client if it is there, and it `needs_azp` with several audiences. UnusableToken if it names none.
    """
    require(claims.get("iss") == issuer, "iss")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    require(client_id in audiences, "aud")
    require(all(each == client_id or each in trusted_audiences for each in audiences), "aud")
    if "azp" in claims or (needs_azp and any(each != client_id for each in audiences)):
        names_another = string_claim(claims, "azp") not in ("", client_id)
        require(not names_another, "azp")
        if claims.get("azp") != client_id:
            raise UnusableToken(_invalid("azp"))


def check_times(claims: Claims, *, now: float) -> None:
    """Raise MistimedToken unless `exp`, `iat` and `nbf` allow `now`, UnusableToken if they are no numbers."""
    expires_at, issued_at = _time(claims, "exp"), _time(claims, "iat")
    not_before = _time(claims, "nbf") if "nbf" in claims else issued_at
    wrong = [
        *(["exp"] if expires_at <= now - LEEWAY_SECONDS else []),
        *(["iat"] if issued_at >= now + LEEWAY_SECONDS else []),
        *(["nbf"] if not_before >= now + LEEWAY_SECONDS else []),
    ]
    if wrong:
        ahead = _seconds_ahead(issued_at, now=now)
        side = "ahead of" if ahead >= 0 else "behind"
        raise MistimedToken(
            f"{_invalid(wrong[0])}; our clock is {abs(ahead)} s {side} the time when it was issued",
            seconds_ahead=ahead,
        )


def _seconds_ahead(issued_at: float, *, now: float) -> int:
    """Return how far our clock is ahead of the one by which a new token was issued; negative: behind."""
    return round(now - min(max(issued_at, 0), _FAR_FUTURE))


def wrong_clock(seconds_ahead: int) -> str:
    """Return what a user is told whose login fails because the clocks differ."""
    difference = f"{abs(seconds_ahead)} seconds {'ahead of' if seconds_ahead > 0 else 'behind'}"
    return (
        f"The clock of this site is {difference} that of the sign-in service, so its answer cannot be"
        " checked. The operator of this site has to set the clock."
    )


def _time(claims: Claims, name: str) -> float:
    value = claims.get(name)
    if not _is_number(value) or value != value:  # NaN
        raise UnusableToken(_invalid(name))
    return value  # unconverted: an int of hundreds of digits fits no float


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


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def require(holds: bool, claim: str) -> None:
    """Raise UntrustedToken unless `holds`; the message names the claim and never its value."""
    if not holds:
        raise UntrustedToken(_invalid(claim))


def _invalid(claim: str) -> str:
    return f"the claim {claim} is invalid"


def is_well_formed(text: str) -> bool:
    """Whether `text` has no half surrogate pair: only then it can be encoded."""
    return text.isascii() or text == well_formed(text)


def well_formed(text: str) -> str:
    """Replace half surrogate pairs, and join whole ones."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
