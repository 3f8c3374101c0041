"""Forwarded requests: which route, which path, which headers; all of it decided before anything is sent."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from yarl import URL

from app.bff.errors import BadRequest
from app.bff.proxy import rules
from app.bff.proxy.rules import (
    downstream_headers,
    forwardable_close_code,
    handshake_error_status,
    offered_subprotocols,
    opens_websocket,
    percent_encoded,
    privately_cached,
    route_for,
    upstream_headers,
    upstream_path,
    without_tag,
)
from app.bff.settings.api_headers import NEVER_FROM_APIS, NEVER_FROM_APIS_PREFIXES
from app.bff.settings.apis import RemoteApiSettings
from app.bff.web.headers import security_headers
from tests.bff.header_tables import (
    NEEDS_A_SETTING,
    OF_A_TRUSTED_PROXY,
    OF_THE_BROWSER,
    PASSES,
    STAYS_WITH_US,
)

ORDERS = RemoteApiSettings(path="/api/orders", client="orders")
API = RemoteApiSettings(path="/api", client="apiClient")


@pytest.mark.parametrize(
    ("path", "api"),
    [
        pytest.param("/api", API, id="the path itself"),
        pytest.param("/api/", API, id="the path with a slash"),
        pytest.param("/api/echo", API, id="below the path"),
        pytest.param("/api/orders/7", ORDERS, id="below a longer path"),
        pytest.param("/api/ordersarchive", API, id="a name that only begins alike"),
        pytest.param("/apis", None, id="a sibling that begins alike"),
        pytest.param("/API/echo", None, id="in capitals"),
        pytest.param("/", None, id="home"),
        pytest.param("/bff/user", None, id="one of our own"),
    ],
)
def test_the_route_is_the_longest_that_the_path_lies_under(path, api):
    assert route_for(path, [API, ORDERS]) is api
    assert route_for(path, [ORDERS, API]) is api


@pytest.mark.parametrize(
    ("target", "forwarded"),
    [
        pytest.param("/api", "", id="nothing"),
        pytest.param("/api/", "/", id="a slash"),
        pytest.param("/api?x=1", "?x=1", id="a query alone"),
        pytest.param("/api/echo?x=1&x=2", "/echo?x=1&x=2", id="path and query"),
        pytest.param("/api/a/b/", "/a/b/", id="a slash at the end"),
        pytest.param("/api/files/a%2Fb%2fc", "/files/a%2Fb%2fc", id="encoded slashes"),
        pytest.param("/api/caf%C3%A9%20%25", "/caf%C3%A9%20%25", id="other encoded characters"),
        pytest.param("/api/a;v=1/b", "/a;v=1/b", id="parameters of a segment"),
        pytest.param("/api/.well-known/..x/...", "/.well-known/..x/...", id="names with dots"),
        pytest.param("/api/@alice", "/@alice", id="an @"),
        pytest.param("/api/http:x", "/http:x", id="a colon"),
        pytest.param("/api/q?to=../..//\\%2e%2e", "/q?to=../..//\\%2e%2e", id="anything in the query"),
        pytest.param("/api/q?", "/q?", id="an empty query"),
        pytest.param("/api/api/x", "/api/x", id="the prefix once more"),
    ],
)
def test_what_follows_the_prefix_is_forwarded_as_it_was_sent(target, forwarded):
    assert upstream_path(target, API, [API, ORDERS]) == forwarded


@pytest.mark.parametrize(
    ("sent", "encoded"),
    [
        pytest.param("/api/stra\xc3\x9fe?x=\xc3\x9f", "/api/stra%C3%9Fe?x=%C3%9F", id="UTF-8"),
        pytest.param("/api/stra\xdfe?x=\xdf", "/api/stra%DFe?x=%DF", id="Latin-1"),
        pytest.param("/api/%c3%9F%zz?a b\x7f", "/api/%c3%9F%zz?a b\x7f", id="ASCII as it is"),
        pytest.param("/api/\xc3\x9f%2f\\", "/api/%C3%9F%2f\\", id="the rest as it is"),
    ],
)
def test_bytes_beyond_ascii_are_encoded(sent, encoded):
    assert percent_encoded(sent) == encoded


@pytest.mark.parametrize(
    "dots", ["\xc0\xae\xc0\xae", "\xef\xbc\x8e\xef\xbc\x8e", "\xe2\x80\xa5", "..\xc2\xa0"]
)
def test_bytes_beyond_ascii_that_a_server_reads_as_dots_are_refused(dots):
    with pytest.raises(BadRequest):
        upstream_path(percent_encoded(f"/api/{dots}/secrets"), API, [API, ORDERS])


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param("caf%E9", id="Latin-1"),
        pytest.param("50%", id="half an escape"),
        pytest.param("50%zz", id="an escape that is none"),
        pytest.param("%C2%85", id="a control character of Latin-1"),
        pytest.param("/evil.example/x", id="two slashes"),
        pytest.param("a//b", id="two slashes further on"),
        pytest.param("%2fevil.example/x", id="an encoded second slash"),
        pytest.param("\\evil.example", id="a backslash"),
        pytest.param("a%255cb", id="a backslash encoded twice"),
        pytest.param("a%00b", id="a zero byte"),
        pytest.param("a%0d%0aX:%20y", id="an encoded line break"),
        pytest.param("%2509", id="a tab encoded twice"),
        pytest.param("https://evil.example/x", id="an absolute URL"),
        pytest.param("//user@evil.example/x", id="another host with userinfo"),
        pytest.param("vhosts/%2F/permissions", id="a segment that is an encoded slash"),
        pytest.param("https%3A%2F%2Fexample.com%2Fa%2F%2Fb", id="an encoded URL"),
        pytest.param("C%3A%5Ctemp%5C", id="a path of Windows"),
        pytest.param("a//", id="two slashes at the end"),
        pytest.param("a%3Fb%23c%3Bd", id="encoded delimiters"),
        pytest.param("a%20/%20b", id="encoded spaces"),
        pytest.param("v1.2./a..b/...", id="dots in names"),
        pytest.param("caf%E9%FF", id="escapes that are not UTF-8"),
        pytest.param("%E2%80%8B%EF%BC%8F", id="invisible and full-width characters"),
    ],
)
def test_what_cannot_climb_passes_byte_for_byte(rest):
    assert upstream_path(f"/api/{rest}?x=1", API, [API, ORDERS]) == f"/{rest}?x=1"


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param("..", id="up"),
        pytest.param("../admin", id="up and down"),
        pytest.param("a/../../admin", id="down, up, up"),
        pytest.param("./x", id="a single dot"),
        pytest.param("a/..", id="up at the end"),
        pytest.param("%2e%2e/admin", id="encoded dots"),
        pytest.param(".%2E/admin", id="one encoded dot"),
        pytest.param("%252e%252e/admin", id="dots encoded twice"),
        pytest.param("%25252e%25252e/admin", id="dots encoded three times"),
        pytest.param("..%2fadmin", id="an encoded slash after dots"),
        pytest.param("a%2f..%2f..%2fadmin", id="encoded slashes around dots"),
        pytest.param("a//../..//admin", id="dots among two slashes"),
        pytest.param("a%5C..%5C..%5Cadmin", id="encoded backslashes around dots"),
        pytest.param("a%255C..%255Cadmin", id="backslashes encoded twice around dots"),
        pytest.param("..%c0%afadmin", id="dots and an overlong slash"),
        pytest.param("%f8%80%80%80%ae./admin", id="a dot of five bytes"),
        pytest.param("..%00/admin", id="dots and a zero byte"),
        pytest.param(".%00./admin", id="a zero byte between dots"),
        pytest.param(".%09./admin", id="a tab between dots"),
        pytest.param(".%FF./admin", id="a byte between dots that is not UTF-8"),
        pytest.param("%uFF0E./admin", id="a full-width dot as an IIS escape"),
        pytest.param("..\x09/admin", id="a tab"),
        pytest.param("..;/admin", id="dots with a parameter"),
        pytest.param("..;a=b/admin", id="dots with a parameter that has a value"),
        pytest.param("%2e%2e%3b/admin", id="dots with an encoded parameter"),
        pytest.param("..#", id="dots before a fragment"),
        pytest.param("..%23", id="dots before an encoded fragment"),
        pytest.param("..%3Fx", id="dots before an encoded query"),
        pytest.param("..%20/admin", id="dots and a space"),
        pytest.param("%20../admin", id="a space and dots"),
        pytest.param("..%2520/admin", id="dots and a space encoded twice"),
        pytest.param("..%C2%A0/admin", id="dots and a no-break space"),
        pytest.param("%c0%ae%c0%ae/admin", id="overlong dots"),
        pytest.param("..%f0%80%80%ae%c1%9c", id="dots, and overlong ones that a server may drop"),
        pytest.param("%ef%bc%8e%252e%c2%ad%e0%80%ae", id="four spellings of a dot"),
        pytest.param("a%c0%afb", id="an overlong slash"),
        pytest.param("a%C0%2eb", id="an overlong dot that does not go on"),
        pytest.param("a%u0041", id="an escape of IIS"),
        pytest.param("a%25u0041", id="an escape of IIS, encoded"),
        pytest.param("%e0%80%ae", id="a dot of three bytes"),
        pytest.param("%25c0%25ae%25c0%25ae/admin", id="overlong dots encoded twice"),
        pytest.param("%u002e%u002e/admin", id="dots as IIS escapes"),
        pytest.param("%25u002e./admin", id="a dot as an IIS escape encoded twice"),
        pytest.param("%EF%BC%8E%EF%BC%8E/admin", id="full-width dots"),
        pytest.param("\xef\xbc\x8e\xef\xbc\x8e/admin", id="full-width dots that are not encoded"),
        pytest.param("..%EF%BC%8Fadmin", id="dots and a full-width slash"),
        pytest.param("%E2%80%A5/admin", id="a two-dot leader"),
        pytest.param(".%E2%80%8B./admin", id="dots around a zero-width space"),
        pytest.param("caf\xc3\xa9", id="UTF-8 that is not encoded"),
        pytest.param("a#b", id="a fragment, which no request has"),
        pytest.param("..\\admin", id="dots and a backslash"),
        pytest.param("..%5cadmin", id="dots and an encoded backslash"),
    ],
)
def test_a_path_is_refused_when_it_has(rest):
    with pytest.raises(BadRequest):
        upstream_path(f"/api/{rest}", API, [API, ORDERS])


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param("%6frders", id="a letter encoded"),
        pytest.param("%6Frders/7", id="a letter encoded, further down"),
        pytest.param("%256frders/7", id="a letter encoded twice"),
        pytest.param("%25256frders/7", id="a letter encoded three times"),
        pytest.param("orders%2F7", id="the slash after it encoded"),
        pytest.param("orders%252F7", id="that slash encoded twice"),
        pytest.param("orders;v=1/7", id="a parameter"),
        pytest.param("orders%3bv=1/7", id="an encoded parameter"),
        pytest.param("orders%3Fx", id="an encoded query"),
        pytest.param("orders%23", id="an encoded fragment"),
        pytest.param("ORDERS/7", id="capitals"),
        pytest.param("orderS", id="one capital"),
        pytest.param("orders./7", id="a dot at the end"),
        pytest.param("orders%20/7", id="a space at the end"),
        pytest.param("%EF%BD%8Frders/7", id="a full-width letter"),
        pytest.param("orders%EF%BC%8F7", id="a full-width slash"),
        pytest.param("or%E2%80%8Bders/7", id="a zero-width space"),
        pytest.param("/orders/7", id="two slashes"),
        pytest.param("%2Forders/7", id="an encoded slash before it"),
        pytest.param("%252F%252Forders/7", id="two slashes before it encoded twice"),
        pytest.param("%5Corders/7", id="a backslash before it"),
        pytest.param("orders%5C7", id="the slash after it as a backslash"),
        pytest.param("orders%255C7", id="that backslash encoded twice"),
        pytest.param("orders%00x", id="a zero byte after it"),
        pytest.param("or%00ders/7", id="a zero byte in it"),
        pytest.param("or%0Dders/7", id="a line break in it"),
        pytest.param("or%FFders/7", id="a byte in it that is not UTF-8"),
    ],
)
def test_a_path_that_a_server_may_read_as_one_of_another_api_is_refused(rest):
    assert route_for(f"/api/{rest}", [API, ORDERS]) is API
    with pytest.raises(BadRequest):
        upstream_path(f"/api/{rest}?x=1", API, [API, ORDERS])
    assert upstream_path(f"/api/{rest}?x=1", API, [API]) == f"/{rest}?x=1"


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "/",
        "/ordersarchive",
        "/x/orders",
        "/old-orders/7",
        "/a//b",
        "/x%2Forders",
        "/C%3A%5Corders",
        "/x?to=/api/orders",
    ],
)
def test_a_path_that_every_server_reads_alike_passes_beside_another_api(rest):
    assert upstream_path(f"/api{rest}", API, [API, ORDERS]) == rest


@pytest.mark.parametrize("rest", ["", "/7", "/%37", "/7;v=1", "/A"])
def test_the_inner_api_has_all_spellings_of_what_lies_below_it(rest):
    assert upstream_path(f"/api/orders{rest}", ORDERS, [API, ORDERS]) == rest


@pytest.mark.parametrize("target", ["https://evil.example/api/x", "http://evil.example", "//evil.example/x"])
def test_a_target_that_is_itself_an_absolute_url_is_refused(target):
    with pytest.raises(BadRequest):
        upstream_path(target, API, [API, ORDERS])


@pytest.mark.parametrize(
    "rest",
    ["@evil.example", "http:evil.example", "a;b", "%40evil.example/", "?@evil.example", "a%23", ":80/x"],
)
def test_whatever_is_let_through_stays_below_the_base_url(rest):
    sent = URL("https://api.example/v1" + upstream_path(f"/api/{rest}", API, [API, ORDERS]), encoded=True)

    assert str(sent).startswith("https://api.example/v1/")


@pytest.mark.parametrize("name", OF_THE_BROWSER + OF_A_TRUSTED_PROXY)
def test_what_is_between_the_browser_and_us_an_api_never_sees(name):
    assert upstream_headers([(name, "value"), (name.upper(), "value"), (name.lower(), "value")]) == []


@pytest.mark.parametrize("sign", sorted("!#$%&'*+.^_`|~"))  # the signs of a token (RFC 9110 §5.6.2) but `-`
def test_a_name_with_a_sign_that_some_servers_read_as_a_hyphen_an_api_never_sees(sign):
    names = [f"X{sign}Forwarded{sign}For", f"X-Real{sign}IP", f"Remote{sign}User", f"X{sign}Mine", f"{sign}X"]

    assert upstream_headers([(name, "value") for name in names]) == []


def test_the_handshake_of_a_websocket_is_between_the_browser_and_us_too():
    names = ("Key", "Version", "Protocol", "Extensions")

    assert upstream_headers([(f"Sec-WebSocket-{name}", "value") for name in names]) == []


@pytest.mark.parametrize(
    ("method", "upgrade", "opens"),
    [
        ("GET", "websocket", True),
        ("GET", "WebSocket", True),
        ("GET", "h2c", False),
        ("GET", None, False),
        ("POST", "websocket", False),
        ("HEAD", "websocket", False),
    ],
)
def test_a_websocket_is_opened_with(method, upgrade, opens):
    headers = {"Upgrade": upgrade} if upgrade else {}

    assert opens_websocket(method, headers, API) is opens


def test_no_websocket_is_opened_where_no_get_is_forwarded():
    api = RemoteApiSettings(path="/api", client="apiClient", methods=frozenset({"POST"}))

    assert not opens_websocket("GET", {"Upgrade": "websocket"}, api)


@pytest.mark.parametrize(
    ("header", "offered"), [("a", ["a"]), ("b, a,c", ["b", "a", "c"]), ("", []), (" , ", [])]
)
def test_subprotocols_are_offered_in_the_browsers_order(header, offered):
    assert offered_subprotocols({"Sec-WebSocket-Protocol": header}) == offered


def test_no_subprotocol_may_be_offered():
    assert offered_subprotocols({}) == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 499, 503, 504])
def test_the_status_of_a_refused_handshake_is_passed_on(status):
    assert handshake_error_status(status) == status


@pytest.mark.parametrize("status", [101, 200, 204, 302, 500, 502, 599])
def test_an_api_that_answers_a_handshake_with_nonsense_is_a_bad_gateway(status):
    assert handshake_error_status(status) == 502


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4401, 4999])
def test_a_close_code_is_passed_on(code):
    assert forwardable_close_code(code, otherwise=1001) == code


@pytest.mark.parametrize("code", [None, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
def test_a_reserved_close_code_is_replaced(code):
    assert forwardable_close_code(code, otherwise=1001) == 1001


HOP_BY_HOP = [
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
]


@pytest.mark.parametrize("rule", [upstream_headers, downstream_headers], ids=["upstream", "downstream"])
@pytest.mark.parametrize("name", HOP_BY_HOP)
def test_hop_by_hop_headers_are_for_one_hop(name, rule):
    assert rule([(name, "value"), (name.lower(), "value")]) == []


def test_a_value_that_is_not_ascii_stays_the_same_bytes():
    """Tornado reads and writes Latin-1, aiohttp UTF-8."""
    assert upstream_headers([("X-Name", "José".encode().decode("latin-1"))]) == [("X-Name", "José")]
    assert upstream_headers([("X-Name", "Jos\xe9")]) == [("X-Name", "Jos\xe9")]  # no UTF-8 to begin with
    assert downstream_headers([("Link", "José")]) == [("Link", "José".encode().decode("latin-1"))]
    assert downstream_headers([("Link", "Jos\udce9")]) == [("Link", "Jos\xe9")]


@pytest.mark.parametrize("rule", [upstream_headers, downstream_headers], ids=["upstream", "downstream"])
def test_so_are_those_that_any_connection_header_lists(rule):
    headers = [
        ("Connection", "close, Link"),
        ("Link", "1"),
        ("etag", "2"),
        ("connection", "ETag"),
        ("Allow", "3"),
    ]

    assert rule(headers) == [("Allow", "3")]


def test_an_api_sees_the_rest_of_the_browsers_headers_as_they_were_sent():
    headers = [
        ("Accept", "application/json"),
        ("Accept-Language", "de"),
        ("Content-Type", "text/plain"),
        ("If-None-Match", '"1"'),
        ("X-Mine", "a"),
        ("X-Mine", "b"),
    ]

    assert upstream_headers(headers) == headers


@pytest.mark.parametrize("name", STAYS_WITH_US)
def test_what_an_api_may_not_do_to_our_site_the_browser_never_sees(name):
    assert downstream_headers([(name, "value"), (name.upper(), "value"), (name.lower(), "value")]) == []


@pytest.mark.parametrize("name", STAYS_WITH_US)
def test_no_setting_lets_through(name):
    with pytest.raises(ValidationError, match="no API may send"):
        RemoteApiSettings(path="/api", client="apiClient", response_headers={name})


@pytest.mark.parametrize("name", NEEDS_A_SETTING)
def test_only_a_setting_lets_through(name):
    api = RemoteApiSettings(path="/api", client="apiClient", response_headers={name})

    assert downstream_headers([(name, "value")]) == []
    assert downstream_headers([(name, "value")], more=api.response_headers) == [(name, "value")]


@pytest.mark.parametrize("name", ["", "X Total", "X_Total", "X-Total:", "X-Größe"])
def test_a_setting_that_is_no_name_is_refused(name):
    with pytest.raises(ValidationError, match="not the name of a header"):
        RemoteApiSettings(path="/api", client="apiClient", response_headers={name})


@pytest.mark.parametrize("name", sorted(set(security_headers(nonce="n", https=True))))
def test_an_api_does_not_loosen_our_security_headers(name):
    assert downstream_headers([(name, "loose"), (name.lower(), "loose")]) == []
    assert name.lower() in NEVER_FROM_APIS or name.lower().startswith(NEVER_FROM_APIS_PREFIXES)


@pytest.mark.parametrize("name", PASSES)
def test_the_browser_sees_of_an_api(name):
    headers = [(name, "value"), (name.lower(), "another")]

    assert downstream_headers(headers) == headers


@pytest.mark.parametrize(
    ("allowed", "stored"),
    [
        ("max-age=300", "private, no-cache, max-age=300"),
        (
            "public, s-maxage=9, max-age=300, must-revalidate",
            "private, no-cache, max-age=300, must-revalidate",
        ),
        ("private, max-age=300, immutable", "private, no-cache, max-age=300"),
        ('private="Set-Cookie, X-A", max-age=9', "private, no-cache, max-age=9"),
        ("Public, S-MaxAge=9, proxy-revalidate, x=é", "private, no-cache"),
        ("max-age=300, no-store", None),
        ("No-Store", None),
        ("", None),
    ],
)
def test_a_browser_may_store_privately(allowed, stored):
    headers = dict(privately_cached([], [("cache-control", allowed)], "tag"))

    assert headers.get("Cache-Control") == stored
    assert headers.get("Vary") == (stored and "Cookie, X-CSRF, Origin, Sec-Fetch-Site")


@pytest.mark.parametrize("etag", ['"1"', 'W/"1"', '""'])
def test_the_etag_of_one_session_is_unknown_to_another(etag):
    [(_, sent), *_] = privately_cached([("ETag", etag)], [("Cache-Control", "max-age=9")], "a")

    assert without_tag([("If-None-Match", f"{sent}, {sent}")], "a") == [("If-None-Match", f"{etag}, {etag}")]
    assert (
        without_tag([("If-None-Match", sent)], "b") == [("If-None-Match", sent)] != [("If-None-Match", etag)]
    )


@pytest.mark.parametrize("path", ["/api/todos/17", "/api/a.b/c~d_e-f.json", "/api/Admin./x", "/api/users/"])
def test_a_path_without_escapes_is_read_by_all_servers_as_it_is(path: str):
    assert rules._SAFE_PATH.fullmatch(path.removeprefix("/"))  # then its readings are not looked for
    assert [*rules._readings(path)] == [path]


@pytest.mark.parametrize(
    ("path", "readings"),
    [
        ("a!a", ["a!a"]),  # each once: it takes the time of one
        ("%2541", ["%2541", "%41", "A"]),
        ("%25252541", ["%25252541", "%252541", "%2541", "%41"]),
        ("a%00b", ["a%00b", "a\0b", "ab"]),
        ("%ff.", ["%ff.", "\ufffd.", "%ff.", "."]),
        ("\uff0e\u200b", ["."]),
    ],
)
def test_the_readings_of_a_path(path: str, readings: list[str]):
    assert [*rules._readings(path)] == readings
