"""Requests that no client should send: `attempts(seed, count)`, pure, so that a seed repeats a run.

`@session@`, `@forward@` and `@public@` stand for secrets that a run has; they are put in by its sender.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

MARK = b"recognisable"  # in values that no log line may show
ROUTES = [
    b"/", b"/account", b"/sessions", b"/signed-out", b"/nowhere", b"/static/css/app.css", b"/static/",
    b"/bff/login", b"/bff/silent-login", b"/bff/callback", b"/bff/logout", b"/bff/logout/callback",
    b"/bff/user", b"/bff/sessions", b"/bff/sessions/@public@", b"/bff/events", b"/bff/backchannel",
    b"/bff/frontchannel", b"/static/%00",
    b"/bff/forward-auth", b"/healthz", b"/readyz", b"/notes", b"/chat", b"/api/echo", b"/api/todos",
    b"/api/status/503", b"/api/socket", b"/api/admin/echo", b"/private/echo", b"/tasks",
]  # fmt: skip
SOCKETS = [b"GET /chat HTTP/1.1", b"GET /chat HTTP/1.1", b"GET /api/socket HTTP/1.1", b"POST /chat HTTP/1.1"]
METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"]
ODD_METHODS = [
    b"", b"get", b"TRACE", b"CONNECT", b"PROPFIND", b"PRI", b"G\x00T", b"\xff", b"A" * 300, b"GET ",
]  # fmt: skip
SUFFIXES = [
    *[b""] * 25, b"/", b"//", b"/..", b"/../..", b"/%2e%2e/x", b"/.%2e;/x", b"/%00", b"/\xff",
    b"/%ff", b"/%c0%ae", b"/%zz", b"/%", b"#x", b"/" + b"a" * 3000, b"/x" * 700, b"/%EF%BC%8E", b"\\x",
    b"%0d%0aX:y", b";a=b", b"/%252e%252e", b"/\xed\xa0\x80", b"/~", b"/%u002e", b"%20", b"/admin%2fx",
    b"/socket", b"/*",
]  # fmt: skip
QUERIES = [
    *[b""] * 20, b"?", b"?a&a", b"?%ff=%ff", b"?code=recognisable&state=recognisable", b"?v=%00",
    b"?returnUrl=//evil.example", b"?returnUrl=%2Fx%0d%0aSet-Cookie:a=b", b"?returnUrl=/%ff",
    b"?prompt=none", b"?returnUrl=/" + b"y" * 2000, b"?sid=recognisable", b"?slide=false",
    b"?error=x&error_description=%3Cb", b"?max_age=-1", b"?max_age=99999999999999999999", b"?acr_values=%00",
    b"?prompt=%ed%a0%80", b"?a=" + MARK, b"?prompt=login&login_hint=recognisable",
    b"?" + b"&".join(b"k%d=v" % n for n in range(300)), b"?iss=%00",
    b"?iss=http://127.0.0.1:1&sid=recognisable", b"?iss=x&target_link_uri=//evil.example",
    b"?iss=x&target_link_uri=%ff&login_hint=recognisable", b"?returnUrl=/%e2%82%ac",
]  # fmt: skip
ODD_TARGETS = [
    b"*", b"", b"http://evil.example/", b"http://localhost/api/echo", b"//evil.example/x",
    b"evil.example:443", b"?x", b"\x00", b"/\x00", b"/a b", b"http://[::1", b"http://[x]/api", b"api/echo",
    b"/static/" + b"a" * 300, b"/" + b"z" * 70_000,
]  # fmt: skip
VERSIONS = [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.1 ", b"HTTP/x", b"", b"http/1.1", b"HTTP/1.12"]
VALUES = [
    b"", b" ", b"\t", b"x", b"0", b"-1", b"null", b"*", b"\xff", b"\xc3\xa9", b"a,b;c=d", b'"', b"%00",
    b"1" * 400, b"a" * 5000, b"2147483648", b"99999999999999999999999", b"Thu, 01 Jan 1970 00:00:00 GMT",
    b"\xed\xa0\x80", MARK,
]  # fmt: skip
ODD_VALUES = [b"\x00", b"a\x01b", b"\x0b", b"\x7f", b"a\rb", b"a\r\n b", b"\x1b[31m"]
NAMES = [
    b"Host", b"Accept", b"Accept-Language", b"Accept-Encoding", b"Content-Type", b"Content-Encoding",
    b"Range", b"Expect", b"Connection", b"Upgrade", b"Origin", b"Referer", b"Authorization", b"DPoP",
    b"If-None-Match", b"If-Modified-Since", b"If-Range", b"User-Agent", b"X-Forwarded-For",
    b"X-Forwarded-Uri", b"TE", b"Trailer", b"X-Forwarded-Method", b"X-Remote-Api", b"X-CSRF",
    b"Sec-Fetch-Site", b"Sec-Fetch-Mode", b"Sec-Fetch-Dest", b"Sec-Purpose", b"Sec-WebSocket-Key",
    b"Sec-WebSocket-Version", b"Sec-WebSocket-Protocol", b"X-Real-IP", b"Sec-WebSocket-Extensions",
    b"Last-Event-ID", b"X_Odd", b"X-Forward-Auth-Secret", b"Proxy", b"Date",
]  # fmt: skip
ODD_NAMES = [b"", b" x", b"x ", b"x y", b"\x00", b"\xff", b"a" * 9000, b"Content-Length ", b":", b"x\x0b"]
USEFUL = [
    *[(b"X-CSRF", b"1")] * 12, (b"Sec-Fetch-Site", b"same-origin"),
    (b"Sec-Fetch-Site", b"cross-site"), (b"Sec-Fetch-Mode", b"navigate"), (b"Sec-Fetch-Dest", b"document"),
    (b"Sec-Fetch-Dest", b"iframe"), (b"Accept", b"text/html"), (b"Accept", b"text/event-stream"),
    (b"Origin", b"https://evil.example"), (b"X-Forward-Auth-Secret", b"@forward@"),
    (b"X-Forwarded-Uri", b"/api/echo"), (b"Expect", b"100-continue"), (b"X-Forwarded-Uri", b"/api/%2e%2e/x"),
    (b"Authorization", b"Bearer recognisable"), (b"Range", b"bytes=5-2"),
]  # fmt: skip
COOKIES = [
    *[b"bff=@session@"] * 15, b"bff=@session@; bff=x", b"bff=", b"bff=recognisable", b"bff",
    b"=;=;;", b"bff-login-6a-0123456789abcdef=recognisable", b"bff-logout=recognisable",
    b"\xa0bff=recognisable", b"a=b", b"bff=\xff", b'bff="\\303recognisable"',
    b"; ".join(b"bff-login-%x-%016x=x" % (n, n) for n in range(40)), b"bff=" + b"z" * 4000,
    b"bff=@session@\t", b"$Version=1; bff=@session@", b"bff=\xed\xa0\x80", b"x" * 7000,
]  # fmt: skip
ODD_COOKIES = [b"bff=recognisable\x01", b"bff=@session@\x00", b"\x7frecognisable", b"bff=a\rb"]
JSON, FORM = b"application/json", b"application/x-www-form-urlencoded"
PARTS = b"multipart/form-data; boundary=x"
JSONS = [
    b'{"text": "recognisable"}', b"[" * 20_000, b'{"text": NaN}', b'{"text": "\xff"}',
    b'{"text": 1, "text": 2}', b'"\\ud800"', b'{"text": "\\ud800"}', b"9" * 5000, b"1e999", b"", b"null",
    b'{"text": [], "": {}}', b"\xef\xbb\xbf{}",
]  # fmt: skip
FORMS = [
    b"logout_token=recognisable", b"logout_token=%ff", b"a=1&a=2", b"&" * 3000, b"logout_token=e30.e30.e30",
    b"=", b"logout_token=eyJhbGciOiJub25lIn0.e30.", b"\xff=\xff",
    b"logout_token=eyJhbGciOiJSUzI1NiJ9.e30.AA",
]  # fmt: skip
MULTIPARTS = [
    b"--x\r\n\r\nrecognisable\r\n--x--", b"--", b"--x--",
    b"--x\r\nContent-Disposition: form-data\r\n\r\ny\r\n--x--",
    b"--x\r\nContent-Disposition: form-data; name*=a''%ff\r\n\r\ny\r\n--x--",
    b"--x\r\n\xff: \xff\r\n\r\n\r\n--x--",
    b"--x\r\nContent-Disposition: form-data; name*=no-charset'x'%00\r\n\r\ny\r\n--x--\r\n",
]  # fmt: skip
BODIES = [(JSON, body) for body in JSONS] + [(FORM, body) for body in FORMS]
BODIES += [(PARTS, body) for body in MULTIPARTS] + [
    (b"text/plain", MARK),
    (b"", b"x" * 70_000),
    (b"\xff", b""),
]
FRAMINGS = [
    b"Content-Length: 0x5", b"Content-Length: -1", b"Content-Length: 5, 5",
    b"Content-Length: 99999999999999999999", b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    b"Content-Length: 100000000", b"Content-Length: 50", b"Transfer-Encoding: chunked",
    b"Content-Length: 1\r\nContent-Length: 2",
]  # fmt: skip
CHUNKS = [
    b"5\r\nhello\r\n", b"5\nhello\n", b"0x5\r\nhello\r\n", b"5;a=b\r\nhello\r\n", b"fffffffffffffffff\r\n",
    b"-1\r\n", b"\r\n",
]  # fmt: skip
ENDINGS = [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n ", b"\x0b", b""]
WHOLE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Attempt:
    """What is sent on one connection, in pieces. `is_whole`: well framed, and the last one asks to close."""

    pieces: tuple[bytes, ...]
    is_whole: bool

    @property
    def sent(self) -> bytes:
        return b"".join(self.pieces)


def attempts(seed: int, count: int) -> Iterator[Attempt]:
    """Yield what a run sends: `count` requests, on fewer connections. The same seed, the same requests."""
    rng = Random(seed)  # noqa: S311
    while count > 0:
        number = min(count, rng.choice((1, 1, 1, 2, 5)))
        count -= number
        yield _attempt(rng, number)


def _attempt(rng: Random, number: int) -> Attempt:
    if rng.random() < 0.3:  # many of them pipelined
        sent = b"".join(_request(rng, odd=0.0) for _ in range(number))
        return Attempt(_in_pieces(rng, sent + WHOLE), is_whole=True)
    sent = b"".join(_damaged(rng, _request(rng, odd=0.08)) for _ in range(number))
    if rng.random() < 0.25:
        sent = sent[: rng.randrange(len(sent) + 1)]  # half-sent
    return Attempt(_in_pieces(rng, sent), is_whole=False)


def _request(rng: Random, *, odd: float) -> bytes:
    is_socket = odd > 0 and rng.random() < 0.06
    framing, body = (_handshake(rng), rng.randbytes(rng.randrange(60))) if is_socket else _body(rng, odd)
    first = rng.choice(SOCKETS) if is_socket else _first_line(rng, odd)
    lines = [first, *_headers(rng, odd if not is_socket else odd / 4), *framing, b""]
    ending = rng.choice(ENDINGS) if rng.random() < odd / 2 else b"\r\n"
    return ending.join([*lines, b""]) + body


def _first_line(rng: Random, odd: float) -> bytes:
    method = _one_of(rng, METHODS, ODD_METHODS, odd)
    target = rng.choice(ROUTES) + rng.choice(SUFFIXES) + rng.choice(QUERIES)
    if rng.random() < odd:
        target = rng.choice(ODD_TARGETS)
    return b" ".join((method, target, _one_of(rng, [b"HTTP/1.1"], VERSIONS, odd)))


def _headers(rng: Random, odd: float) -> Iterator[bytes]:
    """The cookie comes first: no damage elsewhere makes it a header that an API may see."""
    if rng.random() < 0.6:
        yield b"Cookie: " + _one_of(rng, COOKIES, ODD_COOKIES, odd)
    if rng.random() >= odd:
        yield b"Host: localhost"
    for name, value in rng.sample(USEFUL, rng.randrange(6)):
        yield name + b": " + value
    if odd:
        for _ in range(rng.choice((0, 0, 0, 1, 3, 90))):
            yield _one_of(rng, NAMES, ODD_NAMES, odd) + b": " + _one_of(rng, VALUES, ODD_VALUES, odd)


def _handshake(rng: Random) -> list[bytes]:
    key = rng.choice((b"dGhlIHNhbXBsZSBub25jZQ==", b"", b"\xff", b"x" * 999))
    version, origin = (
        rng.choice((b"13", b"8", b"x")),
        rng.choice((*[b"@origin@"] * 4, b"null", b"https://x")),
    )
    return [
        *(b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: " + key),
        *(b"Sec-WebSocket-Version: " + version, b"Origin: " + origin, b"Cookie: bff=@session@"),
    ]


def _body(rng: Random, odd: float) -> tuple[list[bytes], bytes]:
    """Return headers that say how long the body is, right or wrong, and the body."""
    if rng.random() < 0.5:
        return [], b""
    kind, body = rng.choice(BODIES)
    if rng.random() < odd * 2:
        wrong = rng.choice(FRAMINGS)
        return [b"Content-Type: " + kind, wrong], b"".join(rng.choices(CHUNKS, k=3)) + body
    if rng.random() < 0.3:
        chunks = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return [b"Content-Type: " + kind, b"Transfer-Encoding: chunked"], chunks + b"0\r\n\r\n"
    return [b"Content-Type: " + kind, b"Content-Length: %d" % len(body)], body


def _one_of(rng: Random, usual: Sequence[bytes], unusual: Sequence[bytes], odd: float) -> bytes:
    return rng.choice(unusual if rng.random() < odd else usual)


def _damaged(rng: Random, request: bytes) -> bytes:
    """Change some bytes of one in five: none of the first line, nor of a header with a session id."""
    safe = max(request.find(b"\n"), request.rfind(b"@session@") + len(b"@session@"), 0)
    if rng.random() >= 0.2 or safe >= len(request):
        return request
    damaged = bytearray(request)
    for _ in range(rng.randrange(1, 6)):
        damaged[rng.randrange(safe, len(damaged))] = rng.randrange(256)
    return bytes(damaged)


def _in_pieces(rng: Random, sent: bytes) -> tuple[bytes, ...]:
    if rng.random() < 0.7 or len(sent) < 2:
        return (sent,)
    cuts = sorted(rng.sample(range(1, len(sent)), min(3, len(sent) - 1)))
    return tuple(sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True))
