"""Every decision about a forwarded request, free of I/O: which route, which path, which headers."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from urllib.parse import unquote

from app.bff.errors import BadRequest
from app.bff.settings.models import RemoteApiSettings
from app.bff.web.headers import SECURITY_HEADERS

Headers = list[tuple[str, str]]

_HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
    "trailer", "transfer-encoding", "upgrade",
}  # fmt: skip
# Credentials and origin of the browser, and what only a trusted proxy may set (RFC 9700 §4.13).
_NOT_UPSTREAM = _HOP_BY_HOP | {
    "host", "cookie", "authorization", "dpop", "x-csrf", "x-remote-api", "x-forward-auth-secret", "origin",
    "referer", "expect", "forwarded", "x-real-ip", "true-client-ip", "x-client-ip", "x-original-url",
    "x-rewrite-url",
}  # fmt: skip
_NOT_UPSTREAM_PREFIXES = ("x-forwarded-", "sec-fetch-", "sec-websocket-", "proxy-")
# An API must not set cookies, weaken the security headers, or grant CORS access to other sites.
_NOT_DOWNSTREAM = _HOP_BY_HOP | SECURITY_HEADERS | {
    "set-cookie", "set-cookie2", "server", "date", "alt-svc", "clear-site-data", "refresh",
    "service-worker-allowed", "dpop-nonce", "x-request-id", "content-security-policy-report-only",
}  # fmt: skip
# Unambiguous for every server: no escapes, no empty segment, none that begins with a dot.
_SAFE_PATH = re.compile(r"(?:[A-Za-z0-9_~-][A-Za-z0-9_.~-]*/)*(?:[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)?")
_CACHED_NAMES = 1024  # of header names, a few dozen in practice
# The registered codes without 1005, 1006 and 1015, which are never sent.
_CLOSE_CODES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}


def route_for(path: str, apis: Sequence[RemoteApiSettings]) -> RemoteApiSettings | None:
    """Return the remote API whose prefix is the longest that `path` lies under."""
    under = [api for api in apis if path == api.path or path.startswith(f"{api.path}/")]
    return max(under, key=lambda api: len(api.path), default=None)


def upstream_path(target: str, prefix: str) -> str:
    """Return what follows `prefix` in a request target, query included, as it was sent.

    Raises BadRequest for a path that could leave the client's base URL on a server that decodes it once
    more than the previous one did (RFC 10017 §6.1.3.6).
    """
    path, question_mark, query = target.removeprefix(prefix).partition("?")
    path = path.removeprefix("/")
    if _may_traverse(path) or "#" in target:  # URL parsers cut at `#`: `..#` is `..`
        raise BadRequest("the path has a segment that could lead outside of this API")
    return path + question_mark + query


def _may_traverse(path: str) -> bool:
    if _SAFE_PATH.fullmatch(path):
        return False
    plain = unquote(unquote(unquote(path)))
    if re.search(r"[\x00-\x1f\x7f\\]", plain):
        return True
    segments = [segment.partition(";")[0] for segment in plain.split("/")]  # `..;` is `..` to some
    return any(segment in (".", "..") for segment in segments) or "" in segments[:-1]


def upstream_headers(headers: Iterable[tuple[str, str]], *, fixed: Collection[str] = ()) -> Headers:
    """Return the browser's headers that an API may see: no cookie, no credentials, no hop-by-hop.

    `fixed` are the lower-case names of headers that the named client sets itself.
    """
    passed = _filtered(headers, _is_for_api, _latin1_to_utf8)
    return [(name, value) for name, value in passed if name.lower() not in fixed] if fixed else passed


def downstream_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return the API's headers that the browser may see: no cookie, no CORS, no hop-by-hop."""
    return _filtered(headers, _is_for_browser, _utf8_to_latin1)


@functools.lru_cache(maxsize=_CACHED_NAMES)
def _is_for_api(name: str) -> bool:
    low = name.lower()
    return low not in _NOT_UPSTREAM and not low.startswith(_NOT_UPSTREAM_PREFIXES)


@functools.lru_cache(maxsize=_CACHED_NAMES)
def _is_for_browser(name: str) -> bool:
    low = name.lower()
    return low not in _NOT_DOWNSTREAM and not low.startswith("access-control-")


def _latin1_to_utf8(value: str) -> str:
    """Recode a value that Tornado has decoded as Latin-1 and aiohttp encodes as UTF-8: the bytes stay."""
    with suppress(UnicodeDecodeError):
        return value.encode("latin-1").decode()
    return value


def _utf8_to_latin1(value: str) -> str:
    """Recode a value that aiohttp has decoded as UTF-8 and Tornado encodes as Latin-1: the bytes stay."""
    return value.encode("utf-8", "surrogateescape").decode("latin-1")


def opens_websocket(method: str, headers: Mapping[str, str], api: RemoteApiSettings) -> bool:
    """Whether a request is a WebSocket handshake (RFC 6455 §4.1), and the API allows GET."""
    if "Upgrade" not in headers or headers["Upgrade"].lower() != "websocket":
        return False
    return method == "GET" and method in api.methods


def offered_subprotocols(headers: Mapping[str, str]) -> list[str]:
    """Return the subprotocols that the browser offers, in order of preference."""
    names = (name.strip() for name in headers.get("Sec-WebSocket-Protocol", "").split(","))
    return [name for name in names if name]


def handshake_error_status(status: int) -> int:
    """Return the status for the browser when an API refuses a WebSocket handshake with `status`."""
    return status if 400 <= status < 500 or status in (503, 504) else 502


def forwardable_close_code(code: int | None, *, otherwise: int) -> int:
    """Return a close code if it may be sent at all (RFC 6455 §7.4)."""
    may_be_sent = code is not None and (code in _CLOSE_CODES or 3000 <= code < 5000)
    return code if code is not None and may_be_sent else otherwise


def _filtered(
    headers: Iterable[tuple[str, str]], is_passed: Callable[[str], bool], recode: Callable[[str], str]
) -> Headers:
    passed, named = [], ""
    for name, value in headers:
        if is_passed(name):
            passed.append((name, value if value.isascii() else recode(value)))
        elif name.lower() == "connection":
            named += f",{value}"
    return _without_connection_options(passed, named) if named else passed


def _without_connection_options(headers: Headers, connection: str) -> Headers:
    """Remove the hop-by-hop headers that `Connection` names (RFC 9110 §7.6.1)."""
    options = _connection_options(connection)
    return [(name, value) for name, value in headers if name.lower() not in options] if options else headers


@functools.lru_cache(maxsize=16)  # mostly `keep-alive`
def _connection_options(connection: str) -> frozenset[str]:
    """Return the lower-case header names in `Connection` that are not removed anyway."""
    tokens = {token.strip().lower() for token in connection.split(",")}
    return frozenset(tokens - _HOP_BY_HOP - {"", "close"})
