"""Where a browser may be sent after login and logout: to a path on this site, nowhere else."""

from __future__ import annotations

import re
from urllib.parse import unquote

from app.bff.errors import BadReturnUrl

MAX_LENGTH = 1024  # bytes: it travels in a cookie, and proxies refuse long ones

# A browser reads `\` as `/`, and drops tabs and newlines before it looks
# (https://url.spec.whatwg.org/#url-parsing).
_CONTROL_OR_BACKSLASH = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")


def local_path(url: str | None) -> str:
    """Return `url` if it names a place on this site, "/" for nothing; else raise BadReturnUrl.

    >>> local_path("/orders?page=2"), local_path(None)
    ('/orders?page=2', '/')
    """
    if not url:
        return "/"
    path = re.split(r"[?#]", url, maxsplit=1)[0]
    decodings = (url, unquote(path), unquote(unquote(path)))
    if len(url.encode()) > MAX_LENGTH or not all(map(_is_local, decodings)):
        raise BadReturnUrl("returnUrl must be a path on this site, such as /orders")
    return url


def _is_local(decoded: str) -> bool:
    return (
        decoded.startswith("/") and not decoded.startswith("//") and not _CONTROL_OR_BACKSLASH.search(decoded)
    )
