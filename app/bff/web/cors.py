"""Cross-origin resource sharing with the pages of BFF_ALLOWED_ORIGINS (Fetch §3.2), and with no others."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

_TOKENS = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z, -]*")  # RFC 9110 §5.6.2, as a list
_PREFLIGHT_SECONDS = 600  # how long the browser may remember the answer
_EXPOSED = "Retry-After, WWW-Authenticate, X-Request-Id"  # beyond what scripts may read in any case


def cors_headers(
    headers: Mapping[str, str], allowed_origins: Collection[str], *, exposed: Iterable[str] = ()
) -> dict[str, str]:
    """Return what a response needs so that a page of an allowed origin may read it; `exposed` headers, too.

    Never a wildcard. `Vary` in any case: a cache must not give the response to another origin.
    """
    if not allowed_origins:
        return {}
    origin = headers.get("Origin")
    if origin is None or origin not in allowed_origins:
        return {"Vary": "Origin"}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": ", ".join([_EXPOSED, *exposed]),
        "Vary": "Origin",
    }


def is_preflight(headers: Mapping[str, str], allowed_origins: Collection[str]) -> bool:
    """Whether OPTIONS is a question of a browser: what may a page of an allowed origin send?"""
    return headers.get("Origin") in allowed_origins and "Access-Control-Request-Method" in headers


def preflight_headers(headers: Mapping[str, str], methods: Iterable[str]) -> dict[str, str]:
    """Return the headers of the answer: all `methods`, and every header that the page wants to send."""
    wanted = headers.get("Access-Control-Request-Headers", "")
    return {
        "Access-Control-Allow-Methods": ", ".join(methods),
        "Access-Control-Allow-Headers": wanted if _TOKENS.fullmatch(wanted) else "",
        "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
        "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }
