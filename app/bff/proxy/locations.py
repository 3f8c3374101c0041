"""Where an API's response leads: URLs below its base URL become paths below its remote API. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from app.bff.errors import BadRequest
from app.bff.proxy.rules import Headers, route_for, upstream_path
from app.bff.settings.apis import RemoteApiSettings

# RFC 3986, appendix B. Other schemes have no authority that could be ours, and `http:x` has none either.
_REFERENCE = re.compile(r"(?:(https?):(?=//))?(?://([^/?#\\]*))?([^?#:]*(?:/[^?#]*)?)(\?[^#]*)?(#.*)?", re.I)
# Outside of the quoted values of parameters; one without an end goes to the end, so that the time is linear.
_LINK_TARGET = re.compile(r'"(?:[^"\\]|\\.?)*(?:"|\Z)|<([^<>]*)>')
NAMES = ("Location", "Content-Location", "Link")
_PORTS = {"http": 80, "https": 443}
_KEPT = "".join(map(chr, range(0x21, 0x7F)))  # whatever else stands in a header is percent-encoded


class Forwarded(NamedTuple):
    """The request that was forwarded: to which URL, below which base URL, for which of the remote APIs."""

    url: str
    base_url: str
    api: RemoteApiSettings
    apis: Sequence[RemoteApiSettings]


def forwarded_headers(base_url: str, path: str, *, fixed: Collection[str] = ()) -> Headers:
    """Return the headers that tell an API under which URL its remote API is seen; see `upstream_headers`."""
    scheme, _, host = base_url.partition("://")
    told = [("X-Forwarded-Proto", scheme), ("X-Forwarded-Host", host), ("X-Forwarded-Prefix", path)]
    return [(name, value) for name, value in told if name.lower() not in fixed]


def mapped_headers(headers: Headers, request: Forwarded) -> Headers:
    """Return the response's headers with the URLs in `Location`, `Content-Location` and `Link` mapped."""
    return [(name, _mapped_value(name.lower(), value, request)) for name, value in headers]


def _mapped_value(name: str, value: str, request: Forwarded) -> str:
    if name in ("location", "content-location"):
        return mapped(value, request)
    if name != "link":
        return value
    return _LINK_TARGET.sub(
        lambda found: found[0] if found[1] is None else f"<{mapped(found[1], request)}>", value
    )


def mapped(reference: str, request: Forwarded) -> str:
    """Return the path under which this application serves what `reference` names, or the reference as it is.

    It is resolved as the API has meant it, relative to the URL that was requested (RFC 9110 §10.2.2). What
    lies below the base URL has a path here that begins with the one of the remote API, so that it never leads
    to another host. One that this application would not forward to the same API again is not mapped.
    """
    found = _REFERENCE.fullmatch(quote(reference, safe=_KEPT, encoding="latin-1"))
    if found is None or not reference:
        return reference
    scheme, _, path, query, fragment = found.groups(default="")
    url, base = urlsplit(request.url), urlsplit(request.base_url)
    if found[2] is not None:
        origin = None if path[:1] not in ("", "/") else _origin(scheme or url.scheme, found[2])
        if origin != _origin(base.scheme, base.netloc):
            return reference
    elif request.api.forwarded and (path == request.api.path or path.startswith(f"{request.api.path}/")):
        return reference  # told where it is seen from, the API means our path
    elif not path:
        path, query = url.path, query or (f"?{url.query}" if url.query else "")
    elif not path.startswith("/"):
        path = url.path[: url.path.rfind("/") + 1] + path
    rest = _below(_without_dot_segments(path), base.path.removesuffix("/"))
    local = None if rest is None else request.api.path + rest + query
    return local + fragment if local is not None and _comes_back(local, request) else reference


def _origin(scheme: str, authority: str) -> tuple[str, str | None, int | None] | None:
    """Return what RFC 6454 compares, or None for what is no authority. A user name is no part of it."""
    with suppress(ValueError):
        parts = urlsplit(f"//{authority}")
        return scheme.lower(), parts.hostname, parts.port or _PORTS[scheme.lower()]
    return None


def _without_dot_segments(path: str) -> str:
    """Return an absolute path as RFC 3986 §5.2.4 has it."""
    segments = path.split("/")[1:]
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    ends_with_dots = segments[-1:] in (["."], [".."])
    return "/" + "/".join([*kept, ""] if ends_with_dots else kept)


def _below(path: str, prefix: str) -> str | None:
    """Return what follows the prefix, or None if the path lies elsewhere; both may be percent-encoded."""
    segments, wanted = path.split("/"), prefix.split("/")
    begins_alike = [*map(unquote, segments[: len(wanted)])] == [*map(unquote, wanted)]
    return "".join(f"/{each}" for each in segments[len(wanted) :]) if begins_alike else None


def _comes_back(local: str, request: Forwarded) -> bool:
    """Whether a request for this path would be forwarded to the same API."""
    with suppress(BadRequest):
        upstream_path(local, request.api, request.apis)
        return route_for(local.partition("?")[0], request.apis) == request.api
    return False
