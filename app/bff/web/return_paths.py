"""Return paths after login and logout: local to this site, so that there is no open redirect."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote

from app.bff.errors import BadReturnUrl

MAX_LENGTH = 8192  # bytes
MAX_IN_COOKIE = 128  # bytes; a longer one is stored, so that all cookies of a browser stay small together

# A browser parses `\` as `/`, and removes tabs and newlines first
# (https://url.spec.whatwg.org/#url-parsing).
_CONTROL_OR_BACKSLASH = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
# Browsers remove them before they send a path, and `/.//evil.example` would become `//evil.example`.
_DOT_SEGMENT = re.compile(r"/\.\.?(?:/|$)")


def local_path(url: str | None) -> str:
    """Return `url` if it is a path on this site, "/" if it is empty; else raise BadReturnUrl.

    >>> local_path("/orders?page=2"), local_path(None)
    ('/orders?page=2', '/')
    """
    if not url:
        return "/"
    path = re.split(r"[?#]", url, maxsplit=1)[0]
    decodings = (path, unquote(path), unquote(unquote(path)))
    if (
        len(url.encode()) > MAX_LENGTH
        or _CONTROL_OR_BACKSLASH.search(url)
        or not all(map(_is_local, decodings))
    ):
        raise BadReturnUrl("returnUrl must be a path on this site, such as /orders")
    return url


def part_for_cookie(path: str) -> str:
    """Return `path` if it is short enough for a cookie, else what it begins with, without query and fragment.

    >>> part_for_cookie("/orders?" + 100 * "x=y&"), part_for_cookie("/" + 1000 * "x")
    ('/orders', '/')
    """
    without_query = re.split(r"[?#]", path, maxsplit=1)[0]
    return next((part for part in (path, without_query) if len(part.encode()) <= MAX_IN_COOKIE), "/")


def return_url(url: str | None, allowed_origins: Collection[str]) -> str:
    """Return `url` if it is a path on this site, or a URL of an allowed origin; else raise BadReturnUrl.

    >>> return_url("https://app.example.com/orders", ["https://app.example.com"])
    'https://app.example.com/orders'
    """
    for origin in allowed_origins:
        if url == origin or (url and url.startswith(f"{origin}/")):
            return origin + local_path(url.removeprefix(origin))
    return local_path(url)


def path_on(base_url: str, url: str | None) -> str:
    """Return the path of an absolute URL of the site `base_url`, "/" if it is empty; else raise BadReturnUrl.

    >>> path_on("https://app.example", "https://app.example/orders?page=2")
    '/orders?page=2'
    """
    origin = re.match(r"https?://[^/?#\\]*", url or "", re.IGNORECASE)
    if url and (origin is None or _normal_origin(origin[0]) != _normal_origin(base_url)):
        raise BadReturnUrl("target_link_uri must be a URL of this site")
    rest = url[origin.end() :] if url and origin else ""
    return local_path(rest if rest.startswith("/") else "/" + rest)


def _normal_origin(origin: str) -> str:
    """In lower case, without the port that is the default."""
    scheme, _, host = origin.lower().partition("://")
    return f"{scheme}://{host.removesuffix(':443' if scheme == 'https' else ':80')}"


def _is_local(decoded: str) -> bool:
    is_path = decoded.startswith("/") and not decoded.startswith("//")
    return is_path and not _CONTROL_OR_BACKSLASH.search(decoded) and not _DOT_SEGMENT.search(decoded)
