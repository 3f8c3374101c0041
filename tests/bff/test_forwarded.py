"""What a proxy says about a request: believed if it is one of ours, and no further."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from app.bff.web.forwarded import anonymous_key, client_address, is_trusted

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


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:4860:1:2:3:4:5:6", "2001:4860:1:2::/64"),
        ("2001:4860:1:2:ffff::1", "2001:4860:1:2::/64"),
        ("2001:4860:1:3::1", "2001:4860:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_browsers_without_a_session_are_told_apart_by_address_or_subscriber(address: str, key: str):
    assert anonymous_key(address, {}, OURS) == key


def test_browsers_behind_a_proxy_of_ours_are_told_apart():
    assert anonymous_key("10.0.0.1", {"X-Forwarded-For": "203.0.113.9"}, OURS) == "203.0.113.9"
