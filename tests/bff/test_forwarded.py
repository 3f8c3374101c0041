"""What a proxy says about a request: believed if it is one of ours, and no further."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from tornado.httputil import HTTPHeaders

from app.bff.web.forwarded import anonymous_key, client_address, is_trusted, node_address

OURS = (ip_network("10.0.0.0/8"), ip_network("192.0.2.7"), ip_network("2001:db8::/32"))


@pytest.mark.parametrize("peer", ["10.1.2.3", "192.0.2.7", "2001:db8::1"])
def test_a_proxy_of_ours_is_trusted(peer: str):
    assert is_trusted(peer, OURS)


@pytest.mark.parametrize("peer", ["11.0.0.1", "192.0.2.8", "2001:db9::1", "", "localhost", "::"])
def test_any_other_address_is_not(peer: str):
    assert not is_trusted(peer, OURS)


def test_no_proxy_is_trusted_by_default():
    assert not is_trusted("127.0.0.1", ())


@pytest.mark.parametrize(
    ("peer", "header", "client"),
    [
        pytest.param("10.0.0.1", "203.0.113.9", "203.0.113.9", id="one proxy of ours"),
        pytest.param("10.0.0.1", "203.0.113.9, 192.0.2.7", "203.0.113.9", id="two proxies of ours"),
        pytest.param("10.0.0.1", "1.1.1.1, 203.0.113.9", "203.0.113.9", id="the browser wrote one itself"),
        pytest.param("10.0.0.1", "10.9.9.9", "10.9.9.9", id="a client inside"),
        pytest.param("10.0.0.1", "2001:4860::8", "2001:4860::8", id="a longer address"),
        pytest.param("10.0.0.1", "", "10.0.0.1", id="nothing"),
        pytest.param("10.0.0.1", "nonsense", "10.0.0.1", id="nonsense"),
        pytest.param("10.0.0.1", "203.0.113.9, nonsense", "10.0.0.1", id="nonsense at the end"),
        pytest.param("203.0.113.5", "198.51.100.1", "203.0.113.5", id="a stranger says so"),
        pytest.param("203.0.113.5", "10.0.0.1", "203.0.113.5", id="a stranger claims to be ours"),
    ],
)
def test_the_browsers_address_is_the_first_from_the_end_that_is_not_ours(peer: str, header: str, client: str):
    assert client_address(peer, {"X-Forwarded-For": header}, OURS) == client


V6 = "2001:4860::8"
NODES = [
    ("203.0.113.9", "203.0.113.9"),
    (" 203.0.113.9\t", "203.0.113.9"),
    ("203.0.113.9:4711", "203.0.113.9"),
    ("203.0.113.9:_port", "203.0.113.9"),
    ('"203.0.113.9"', "203.0.113.9"),
    ('"203.0.113.9:4711"', "203.0.113.9"),
    ('"203\\.0.113.9"', "203.0.113.9"),
    (V6, V6),
    ("2001:4860:0:0:0:0:0:8", V6),
    ("2001:4860::8".upper(), V6),
    (f"[{V6}]", V6),
    (f"[{V6}]:4711", V6),
    (f'"[{V6}]"', V6),
    (f'"[{V6}]:4711"', V6),
    ("::ffff:203.0.113.9", "203.0.113.9"),
    ("[::ffff:203.0.113.9]:80", "203.0.113.9"),
    ("fe80::1%eth0", "fe80::1%eth0"),
    ("unknown", None),
    ("UNKNOWN", None),
    ("_hidden", None),
    ('"_SEVKISEK"', None),
    ("", None),
    ('"', None),
    ('""', None),
    ("203.0.113", None),
    ("203.0.113.999", None),
    ("203.0.113.9:", None),
    ("203.0.113.9:123456", None),
    ("203.0.113.9:80:80", None),
    (f"[{V6}", None),
    ("[203.0.113.9]x", None),
    ("app.example", None),
    ("203.0.113.9 10.0.0.1", None),
]


@pytest.mark.parametrize(("node", "address"), NODES)
def test_a_node_is_read_in_every_form_that_rfc_7239_and_proxies_write(node: str, address: str | None):
    assert node_address(node) == address


@pytest.mark.parametrize(("node", "address"), NODES)
@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
def test_an_address_in_any_form_is_the_browsers_and_what_is_none_is_not(
    header: str, node: str, address: str | None
):
    said = node if header == "X-Forwarded-For" else f"for={node}"

    assert client_address("10.0.0.1", {header: said}, OURS) == (address or "10.0.0.1")


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        pytest.param(["203.0.113.9", "10.0.0.2"], "203.0.113.9", id="one line for each proxy"),
        pytest.param(["203.0.113.9,10.0.0.2 , 10.0.0.3"], "203.0.113.9", id="spaces around commas"),
        pytest.param(["203.0.113.9, , ,10.0.0.2,"], "203.0.113.9", id="empty elements"),
        pytest.param(["203.0.113.9:1, [2001:db8::2]:2", "10.0.0.3:3"], "203.0.113.9", id="ports"),
        pytest.param(["1.1.1.1, unknown, 10.0.0.2"], "10.0.0.2", id="one that is hidden"),
        pytest.param(["1.1.1.1, _x, 203.0.113.9"], "203.0.113.9", id="one that is hidden before the browser"),
        pytest.param(["10.0.0.3, 10.0.0.2"], "10.0.0.3", id="none but ours"),
        pytest.param([",, ,"], "10.0.0.1", id="nothing but commas"),
    ],
)
def test_several_proxies_are_read_from_the_end(lines: list[str], client: str):
    headers = HTTPHeaders()
    for line in lines:
        headers.add("X-Forwarded-For", line)

    assert client_address("10.0.0.1", headers, OURS) == client
    assert client_address("::ffff:10.0.0.1", headers, OURS).removeprefix("::ffff:") == client


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        pytest.param(["for=203.0.113.9"], "203.0.113.9", id="one proxy"),
        pytest.param(["FOR=203.0.113.9;Proto=https;by=10.0.0.1"], "203.0.113.9", id="in capitals"),
        pytest.param(['proto=https;for="203.0.113.9:80";host=a'], "203.0.113.9", id="among others"),
        pytest.param(["by=203.0.113.1 ; for = 203.0.113.9"], "203.0.113.9", id="with spaces"),
        pytest.param(["for=203.0.113.9, for=10.0.0.2"], "203.0.113.9", id="two proxies"),
        pytest.param(["for=203.0.113.9", 'for="[2001:db8::2]"'], "203.0.113.9", id="two lines"),
        pytest.param(["for=1.1.1.1, for=203.0.113.9, for=10.0.0.2"], "203.0.113.9", id="a forged one"),
        pytest.param(['host="a,for=1.1.1.1";for=203.0.113.9'], "203.0.113.9", id="a comma in quotes"),
        pytest.param(['for=203.0.113.9;host="a;for=1.1.1.1"'], "203.0.113.9", id="one in quotes"),
        pytest.param(["for=203.0.113.9, , for=10.0.0.2,"], "203.0.113.9", id="empty elements"),
        pytest.param(["for=203.0.113.9, proto=https"], "10.0.0.1", id="a hop without an address"),
        pytest.param(["for=unknown"], "10.0.0.1", id="one that is hidden"),
        pytest.param(["for=_a;by=_b, for=10.0.0.2"], "10.0.0.2", id="one that is hidden behind a proxy"),
        pytest.param(['for="203.0.113.9'], "10.0.0.1", id="an open quote"),
        pytest.param(['for=", for=203.0.113.9'], "10.0.0.1", id="an open quote of the browser"),
        pytest.param(["xfor=203.0.113.9"], "10.0.0.1", id="another name"),
        pytest.param([""], "10.0.0.1", id="nothing"),
        pytest.param(['"' * 8000], "10.0.0.1", id="nothing but quotes"),
        pytest.param(["for=203.0.113.9," * 500], "203.0.113.9", id="five hundred hops"),
    ],
)
def test_the_header_of_rfc_7239_is_read_too(lines: list[str], client: str):
    headers = HTTPHeaders()
    for line in lines:
        headers.add("Forwarded", line)

    assert client_address("10.0.0.1", headers, OURS) == client
    assert client_address("203.0.113.5", headers, OURS) == "203.0.113.5"
    assert client_address("10.0.0.1", {**headers, "X-Forwarded-For": "198.51.100.1"}, OURS) == "198.51.100.1"


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:4860:1:2:3:4:5:6", "2001:4860:1:2::/64"),
        ("2001:4860:1:2:ffff::1", "2001:4860:1:2::/64"),
        ("2001:4860:1:3::1", "2001:4860:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("", ""),
    ],
)
def test_browsers_without_a_session_are_told_apart_by_address_or_subscriber(address: str, key: str):
    assert anonymous_key(address, {}, OURS) == key


def test_browsers_behind_a_proxy_of_ours_are_told_apart():
    assert anonymous_key("10.0.0.1", {"X-Forwarded-For": "203.0.113.9"}, OURS) == "203.0.113.9"
