"""Every decision about a forwarded request, free of I/O: which route, which path, which headers."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from unicodedata import category, normalize
from urllib.parse import quote, unquote

from app.bff.errors import BadRequest, NoSession, NotAllowed
from app.bff.sessions.session import Session
from app.bff.settings.api_headers import FIELD_NAME, HOP_BY_HOP
from app.bff.settings.apis import RemoteApiSettings

Headers = list[tuple[str, str]]

# Credentials and origin of the browser, and its framing.
_NOT_UPSTREAM = HOP_BY_HOP | {
    "host", "cookie", "authorization", "dpop", "x-csrf", "origin", "referer", "expect", "proxy",
}  # fmt: skip
# What only a trusted proxy may state: who the user is, where the request comes from, which path, method or
# host it names (RFC 9700 §4.13). An API may believe them of this application, which is its proxy.
_IDENTITY = {
    "x-user", "x-userid", "x-username", "x-userinfo", "x-user-id", "x-user-name", "x-user-email",
    "x-user-roles", "x-user-groups", "x-email", "x-groups", "x-roles", "x-id-token", "x-access-token",
    "x-anonymous-consumer", "x-endpoint-api-userinfo", "x-goog-iap-jwt-assertion", "client-cert",
    "client-cert-chain", "x-client-cert", "x-client-dn", "x-client-verify", "x-arr-clientcert",
}  # fmt: skip
_IDENTITY_PREFIXES = (
    "remote-", "x-remote-", "x-auth-", "x-authenticated-", "x-webauth-", "x-ms-client-principal",
    "x-ms-token-", "x-goog-authenticated-user-", "x-amzn-oidc-", "x-apigateway-", "x-appengine-",
    "cf-access-", "x-authentik-", "x-pomerium-", "x-vouch-", "x-oidc-", "oidc-", "x-saml-", "mellon-",
    "x-shib-", "shib-", "x-consumer-", "x-credential-", "tailscale-", "x-jwt-", "x-ssl-", "ssl-client-",
    "x-tls-client-",
)  # fmt: skip
_ORIGINAL_REQUEST = {
    "x-forwarded", "x-real-ip", "x-client-ip", "true-client-ip", "x-true-client-ip", "x-cluster-client-ip",
    "fastly-client-ip", "cf-connecting-ip", "cf-connecting-ipv6", "cf-ipcountry", "x-azure-clientip",
    "x-azure-socketip", "x-proxyuser-ip", "x-remote-addr", "client-ip", "x-host", "x-http-host-override",
    "x-http-method", "x-http-method-override", "x-method-override", "x-rewrite-url", "x-scheme",
    "x-url-scheme", "front-end-https", "x-sendfile-type", "x-middleware-subrequest",
}  # fmt: skip
_ORIGINAL_REQUEST_PREFIXES = (
    "forwarded", "x-forward-", "x-forwarded-", "x-original-", "x-accel-", "x-envoy-", "l5d-",
    "cloudfront-viewer-", "sec-fetch-", "sec-websocket-", "proxy-",
)  # fmt: skip
_NOT_UPSTREAM |= _IDENTITY | _ORIGINAL_REQUEST
_NOT_UPSTREAM_PREFIXES = _IDENTITY_PREFIXES + _ORIGINAL_REQUEST_PREFIXES
# Everything else of an API stays here; `response_headers` of a remote API adds to it.
_DOWNSTREAM = frozenset({
    "content-type", "content-length", "content-encoding", "content-language", "content-disposition",
    "content-location", "content-digest", "repr-digest", "content-range", "accept-ranges", "accept-patch",
    "accept-post", "accept-query", "allow", "etag", "last-modified", "vary", "location", "link",
    "retry-after", "ratelimit", "ratelimit-policy", "ratelimit-limit", "ratelimit-remaining",
    "ratelimit-reset", "deprecation", "sunset", "preference-applied",
})  # fmt: skip
# Unambiguous for every server: no escapes, no empty segment, none that begins with a dot.
_SAFE_PATH = re.compile(r"(?:[A-Za-z0-9_~-][A-Za-z0-9_.~-]*/)*(?:[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)?")
_PARAMETER = r'[\w-]+=(?:"[^"]*"|[\w.~+/-]+=*)'
_TOKEN_CHALLENGE = re.compile(rf"(?:Bearer|DPoP)(?: +{_PARAMETER}(?: *, *{_PARAMETER})*)?", re.IGNORECASE)
_VARY = "Cookie, X-CSRF, Origin, Sec-Fetch-Site"
_CONDITIONS = {"if-match", "if-none-match", "if-range"}
_PRIVATE_DIRECTIVE = re.compile("max-age=[0-9]{1,10}|must-revalidate|no-transform")
_CACHED_NAMES = 1024  # of header names, a few dozen in practice
_DECODINGS = 3
# Overlong UTF-8, and IIS's `%uXXXX`, at whichever level of decoding: no correct client sends them.
_LENIENT_ESCAPE = re.compile("%(?:u[0-9a-f]{4}|c[01]%|e0%[89]|f0%8|f8%8|fc%8)", re.IGNORECASE)
_ASCII = "".join(map(chr, range(128)))
_PRINTABLE = re.compile("[ -~]*")  # anything else is no byte of a URL
_SEGMENT_END = re.compile(r"[;?#\0]")
# `..;`, `..?`, `..\0` and `.. ` are `..` to some, and a backslash is a slash.
_DOT_SEGMENT = re.compile(r"(?:^|[/\\])\s*\.\.?\s*(?=[/\\;?#\0]|$)")
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}  # RFC 9110 §9.2.1
_OF_WRITES = ("Sec-WebSocket-Key", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
# The registered codes without 1005, 1006 and 1015, which are never sent.
_CLOSE_CODES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}


def route_for(path: str, apis: Sequence[RemoteApiSettings]) -> RemoteApiSettings | None:
    """Return the remote API whose prefix is the longest that `path` lies under, as it was sent.

    `upstream_path` refuses a path that another server may route differently.
    """
    under = [api for api in apis if path == api.path or path.startswith(f"{api.path}/")]
    return max(under, key=lambda api: len(api.path), default=None)


def check_permission(api: RemoteApiSettings, session: Session | None, *, writes: bool) -> None:
    """Raise NoSession, or NotAllowed unless the claims of the session meet the rules of the API."""
    for rule in (api.require, api.write if writes else None):
        if rule is None:
            continue
        if session is None:
            raise NoSession("this API is called for a signed-in user only")
        if not rule.allows(session.claims):
            raise NotAllowed(rule=str(rule))


def is_write(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a request may change something: a method that is not safe, or a WebSocket.

    What flows in a WebSocket is not looked at, so that it counts as writing. A proxy that asks for permission
    may have removed `Upgrade`, which is hop-by-hop; and it may pass on a header by which an API takes the
    method for another one.
    """
    return method not in SAFE_METHODS or any(name in headers for name in _OF_WRITES)


def apis_below(api: RemoteApiSettings, apis: Sequence[RemoteApiSettings]) -> list[RemoteApiSettings]:
    """Return the APIs whose path lies below that of `api`, in any case."""
    return [other for other in apis if other.path.lower().startswith(f"{api.path.lower()}/")]


def upstream_path(target: str, api: RemoteApiSettings, apis: Sequence[RemoteApiSettings]) -> str:
    """Return what follows the path of `api` in a request target, query included, as it was sent.

    Raises BadRequest for a path that a server may read differently, decoding it once more than the
    previous one did (RFC 10017 §6.1.3.6): as one outside of the client's base URL, or as one of another API.
    """
    whole, question_mark, query = target.partition("?")
    path = whole.removeprefix(api.path)
    if (
        path == whole
        or "#" in target
        or not _PRINTABLE.fullmatch(path)
        or _may_traverse(path.removeprefix("/"))
    ):
        raise BadRequest("the path has a segment that could lead outside of this API")
    below = apis_below(api, apis)
    if below and _may_be_routed_to(below, whole):
        raise BadRequest("the path could be read as one of another API")
    return path + question_mark + query


def percent_encoded(target: str) -> str:
    """Return a request target with the bytes beyond ASCII, which no browser sends as they are, encoded."""
    return target if target.isascii() else quote(target, safe=_ASCII, encoding="latin-1")


def _may_traverse(path: str) -> bool:
    if _SAFE_PATH.fullmatch(path):
        return False
    return any(_LENIENT_ESCAPE.search(each) or _DOT_SEGMENT.search(each) for each in _readings(path))


def _readings(path: str) -> Iterator[str]:
    """Yield the path as servers may read it: decoded never to three times, full-width forms as ASCII.

    What is not UTF-8 may stay, or be dropped. None comes again and again: of 64 KB all would take a second.
    """
    for errors in ("replace", "ignore"):
        reading = path
        for _ in range(_DECODINGS + 1):
            yield (text := _visible(reading))
            if "\0" in text:
                yield text.replace("\0", "")
            reading, decoded_from = unquote(reading, errors=errors), reading
            if reading == decoded_from:
                break
        if "\ufffd" not in reading:  # all of it is UTF-8
            return


def _visible(reading: str) -> str:
    normal = normalize("NFKC", reading)
    return normal.translate({ord(char): None for char in set(normal) if _is_invisible(char)})


def _is_invisible(char: str) -> bool:
    return char != "\0" and category(char) in ("Cc", "Cf")


def _may_be_routed_to(apis: Iterable[RemoteApiSettings], path: str) -> bool:
    """Whether a server may read the path as one under one of `apis`."""
    names = tuple(f"{api.path.lower()}/" for api in apis)
    is_read_as_it_is = _SAFE_PATH.fullmatch(path.removeprefix("/"))  # all readings take 0.3 ms
    readings = [path] if is_read_as_it_is else _readings(path)
    return any(_leniently(reading).startswith(names) for reading in readings)


def _leniently(reading: str) -> str:
    """Without what some servers ignore: case, empty segments, parameters, dots and spaces at the end of one.

    A backslash is a slash to some, and a NUL the end.
    """
    segments = (_SEGMENT_END.split(each, maxsplit=1)[0] for each in re.split(r"[/\\]+", reading.lower()))
    return "/".join(segment.rstrip(". ") for segment in segments) + "/"


def upstream_headers(headers: Iterable[tuple[str, str]], *, fixed: Collection[str] = ()) -> Headers:
    """Return the browser's headers that an API may see: no cookie, credentials, identity, no hop-by-hop.

    `fixed` are the lower-case names of headers that the named client sets itself.
    """
    passed = _filtered(headers, _is_for_api, _latin1_to_utf8)
    return [(name, value) for name, value in passed if name.lower() not in fixed] if fixed else passed


def downstream_headers(headers: Iterable[tuple[str, str]], *, more: frozenset[str] = frozenset()) -> Headers:
    """Return the API's headers that the browser may see: those of an allow-list, and `more` in lower case."""
    return _filtered(headers, _browser_rule(more), _utf8_to_latin1)


@functools.lru_cache(maxsize=_CACHED_NAMES)
def readable_headers(more: frozenset[str]) -> list[str]:
    """Return the names of the API's headers that scripts of allowed origins may read: those that pass."""
    return sorted(_DOWNSTREAM | more)


def token_challenges(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return the challenges of a 401 that pages may see: Bearer and DPoP (RFC 9470 §3).

    For any other scheme, such as Basic, a browser would ask for a password in this application's name.
    """
    return [
        (name, value)
        for name, value in headers
        if name.lower() == "www-authenticate" and _TOKEN_CHALLENGE.fullmatch(value)
    ]


@functools.lru_cache(maxsize=_CACHED_NAMES)
def _is_for_api(name: str) -> bool:
    """Names with `_` or `.` reach many servers as those with `-`: `X_Real_IP` is `HTTP_X_REAL_IP` in CGI."""
    low = name.lower()
    refused = low in _NOT_UPSTREAM or low.startswith(_NOT_UPSTREAM_PREFIXES)
    return not refused and FIELD_NAME.fullmatch(name) is not None


@functools.lru_cache(maxsize=_CACHED_NAMES)
def _browser_rule(more: frozenset[str]) -> Callable[[str], bool]:
    allowed = _DOWNSTREAM | more
    return functools.lru_cache(maxsize=_CACHED_NAMES)(lambda name: name.lower() in allowed)


def privately_cached(
    headers: Iterable[tuple[str, str]], api_headers: Iterable[tuple[str, str]], tag: str
) -> Headers:
    """Return `headers` so that the browser stores the response as the API allows, for one session only.

    `no-cache` lets the browser use it after asking again only: the session may have ended meanwhile. Browsers
    ask with the ETag of a response that another session has received, too, which an API may take for its
    own: hence `tag`, which names the session.
    """
    values = ",".join(value for name, value in api_headers if name.lower() == "cache-control")
    allowed = [each.strip().lower() for each in values.split(",") if each.strip()]
    if not allowed or "no-store" in allowed:
        return [*headers]
    directives = filter(_PRIVATE_DIRECTIVE.fullmatch, allowed)
    kept = [(name, _tagged(value, tag) if name.lower() == "etag" else value) for name, value in headers]
    return [*kept, ("Cache-Control", ", ".join(["private", "no-cache", *directives])), ("Vary", _VARY)]


def without_tag(headers: Headers, tag: str) -> Headers:
    """Return the request's headers with the ETags as the API has sent them; another session's match none."""
    return [
        (name, value.replace(f'"{tag}.', '"') if name.lower() in _CONDITIONS else value)
        for name, value in headers
    ]


def _tagged(etag: str, tag: str) -> str:
    return etag.replace('"', f'"{tag}.', 1)


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
    return frozenset(tokens - HOP_BY_HOP - {"", "close"})
