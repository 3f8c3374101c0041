"""Which claims a session keeps: cleaned at login, renewed at each refresh. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from typing import Any

from app.bff.oidc.claims import Claims, well_formed

MAX_DEPTH = 16
MAX_CLAIM_BYTES = 65_536  # as JSON
MAX_CLAIMS_BYTES = 262_144  # of all claims
_OURS = "bff:"  # the prefix of the entries that /bff/user adds, and of what is stored beside the claims

# Of the ID token of the login: a session always keeps them, and no refresh and no application changes them.
OF_LOGIN = frozenset({"iss", "sub", "aud", "azp", "iat", "nonce", "sid", "auth_time", "acr", "amr"})
# Of one ID token alone, and of no use once it is verified.
UNUSED = frozenset({"exp", "nbf", "jti", "at_hash", "c_hash", "s_hash"})


class _Unusable(ValueError):
    """A claim that is dropped; `size` is that of one that is too large, in bytes as JSON."""

    def __init__(self, size: int = 0) -> None:
        super().__init__()
        self.size = size


def clean_claims(claims: Claims) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the claims that can be kept, and those that cannot: name and size, 0 if that is not the reason.

    Dropped are claims that contain NaN or Infinity (no JSON, RFC 8259 §6), are nested deeper than
    MAX_DEPTH, exceed a limit in size, or are named like our own entries. A half surrogate pair (§8.2)
    becomes U+FFFD: no UTF-8 encodes it.
    """
    kept: dict[str, Any] = {}
    dropped, left = {}, MAX_CLAIMS_BYTES
    for name, value in claims.items():
        try:
            clean, size = _clean_claim(name, value, min(left, MAX_CLAIM_BYTES))
        except _Unusable as error:
            dropped[_text(name)] = error.size
        else:
            kept[_text(name)] = clean
            left -= size
    return kept, dropped


def kept_claims(claims: Claims, names: Collection[str]) -> dict[str, Any]:
    """Return those that a session keeps: all but UNUSED; with `names` only these, and OF_LOGIN."""
    return {
        name: value
        for name, value in claims.items()
        if name not in UNUSED and (not names or name in names or name in OF_LOGIN)
    }


def renewed_claims(
    claims: Claims, *, earlier: Claims, id_token: Claims, userinfo: Claims | None = None
) -> dict[str, Any]:
    """Return what the provider says of the user after a refresh, to be cleaned.

    `claims` are those of the session, `earlier` is the ID token that they came with, `id_token` the new one.
    What that has no more is gone, and with new `userinfo` what neither has; without it, claims that no ID
    token had stay. OF_LOGIN stays in any case (OIDC Core §12.2).
    """
    of_login = {name: value for name, value in claims.items() if name in OF_LOGIN}
    if userinfo is None:
        userinfo = {name: value for name, value in claims.items() if name not in earlier}
    of_user = {**id_token, **userinfo, **id_token}
    return {**{name: value for name, value in of_user.items() if name not in OF_LOGIN}, **of_login}


def changed_claims(before: Claims, after: Claims) -> list[str]:
    """Return the names of claims that differ; the order of a list, as of groups, does not count."""
    names = dict.fromkeys([*before, *after])
    return [
        name
        for name in names
        if (name in before) != (name in after) or _canonical(before[name]) != _canonical(after[name])
    ]


def left_out_claims(claims: Claims) -> list[str]:
    """Return the claims that a token only refers to, as those of a member of too many groups (Entra).

    `_claim_names` are distributed claims (OIDC Core §5.6.2), `hasgroups` is Entra's in tokens that came by
    a URL.
    """
    distributed = claims.get("_claim_names")
    names = list(distributed) if isinstance(distributed, dict) else []
    return [*names, *(["groups"] if claims.get("hasgroups") and "groups" not in names else [])]


def _canonical(value: Any) -> str:
    return json.dumps(_unordered(value), sort_keys=True)


def _unordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _unordered(member) for name, member in value.items()}
    return sorted(map(_unordered, value), key=_canonical) if isinstance(value, list) else value


def _clean_claim(name: str, value: Any, max_bytes: int) -> tuple[Any, int]:
    """Return the clean value, and the claim's size as JSON."""
    if name.lower().startswith(_OURS):
        raise _Unusable
    clean = _clean(value, MAX_DEPTH)
    size = len(json.dumps({name: clean}))
    if size > max_bytes:
        raise _Unusable(size)
    return clean, size


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise _Unusable
    if not isinstance(value, dict | list):
        return value
    if depth == 0:
        raise _Unusable
    if isinstance(value, list):
        return [_clean(member, depth - 1) for member in value]
    return {_text(name): _clean(member, depth - 1) for name, member in value.items()}


def _text(text: str) -> str:
    return text if text.isascii() else well_formed(text)
