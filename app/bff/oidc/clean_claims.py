"""Claims as a session keeps them: what every page, JSON answer and store can represent. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 16
MAX_CLAIM_BYTES = 65_536  # as JSON
MAX_CLAIMS_BYTES = 262_144  # of one document: an ID token, or userinfo
_OURS = "bff:"  # the prefix of the entries that /bff/user adds


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
