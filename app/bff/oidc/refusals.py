"""What a provider says when it refuses: its error code, for pages and logs; its description, for logs. Pure.

Both are text that another party has written, and may repeat what it was sent.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from app.bff.oidc.error_codes import CLIENT_ERRORS

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_LONGEST_READ, _LONGEST_SHOWN = 2000, 200  # characters of a description
_NOT_ALLOWED = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")  # RFC 6749 §4.1.2.1 and §5.2
_PLAIN = re.compile(r"[A-Za-z0-9_.,:;'()\[\]/!?*-]+")  # of a word; `%`, `=`, `+` and `@` belong to data
# Codes, tokens and keys have 16 characters or more, with digits or mixed cases; names are joined short words.
_LONG_PART = re.compile(r"[A-Za-z0-9_-]{16,}")
_WORD_OF_NAME = re.compile(r"[A-Z]?[a-z]{0,20}|[A-Z]{1,20}")
_OMITTED = "…"


def error_code(value: object) -> str | None:
    """Return an error code that a page and a log may show, or None."""
    is_code = isinstance(value, str) and _CODE.fullmatch(value) and not _looks_secret(value)
    return str(value) if is_code else None


def description(value: object, *, secrets: Collection[str] = ()) -> str:
    """Return an `error_description` that a log may show, or "".

    Only what RFC 6749 allows in one is left of it, in at most 200 characters. `secrets`, and words that look
    like codes or tokens, are replaced by an ellipsis.
    """
    text = str(value)[:_LONGEST_READ] if isinstance(value, str) else ""
    for secret in secrets:
        text = text.replace(secret, _OMITTED) if secret else text
    words = (_shown(word) for word in _NOT_ALLOWED.sub(" ", text.replace(_OMITTED, " % ")).split())
    return " ".join(words)[:_LONGEST_SHOWN]


def _shown(word: str) -> str:
    return word if _PLAIN.fullmatch(word) and not _looks_secret(word) else _OMITTED


def _looks_secret(word: str) -> bool:
    long_parts = "-".join(_LONG_PART.findall(word))
    return "eyJ" in word or not all(map(_WORD_OF_NAME.fullmatch, re.split("[_-]", long_parts)))


def refusal_fields(response: Mapping[str, Any], *, secrets: Collection[str] = ()) -> dict[str, str]:
    """Return `error` and `description` of an error response for a log; {} if it has no error."""
    if not response.get("error"):
        return {}
    code = error_code(response["error"]) or description(response["error"], secrets=secrets) or _OMITTED
    return {"error": code, "description": description(response.get("error_description"), secrets=secrets)}


_CHALLENGE = re.compile(r'(error|error_description)\s*=\s*"([^"]*)"')


def challenge_params(value: str) -> dict[str, str]:
    """Return the error and its description in a `WWW-Authenticate` header (RFC 6750 §3)."""
    return dict(_CHALLENGE.findall(value))


_PUSHED = re.compile(r"\bpush(ed|ing)?\b|\bPAR\b", re.IGNORECASE)


def requires_pushed_requests(refusal: Mapping[str, str]) -> bool:
    """Whether an authorization request was refused since it was not pushed (RFC 9126 §5).

    Metadata cannot say so of one client, and there is no code for it: the description is all there is.
    """
    named = refusal.get("error") in CLIENT_ERRORS or refusal.get("error") == "access_denied"
    return named and _PUSHED.search(refusal.get("description", "")) is not None
