"""Headers of reverse proxies, and which proxies are trusted to set them (RFC 9700 §4.13)."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Mapping

from app.bff.errors import BadRequest
from app.bff.web.targets import origin_form

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


_QUOTED = r'"(?:[^"\\]|\\.)*"'  # RFC 9110 §5.6.4
_ELEMENTS = re.compile(rf'(?:[^",]|{_QUOTED})+')
_WELL_QUOTED = re.compile(rf'(?:[^"]|{_QUOTED})*', re.DOTALL)
_FOR = re.compile(rf"(?:^|;)\s*for\s*=\s*({_QUOTED}|[^;\s]*)\s*(?=;|$)", re.IGNORECASE)
_PORT = r"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
_NODE = re.compile(rf"\[([0-9A-Fa-f:.]+)\]{_PORT}|([0-9.]+){_PORT}|([0-9A-Fa-f:.]+(?:%\w+)?)")
_NOT_TOLD = "unknown"  # RFC 7239 §6.2


@functools.lru_cache(maxsize=1024)  # few distinct peers, and parsing an address is slow
def is_trusted(peer: str, proxies: tuple[Network, ...]) -> bool:
    """Whether the peer of a connection is a trusted proxy; by default none is."""
    address = _address(peer)
    return address is not None and any(address in network for network in proxies)


def client_address(peer: str, headers: Mapping[str, str], proxies: tuple[Network, ...]) -> str:
    """Return the address of the browser, as far as trusted proxies report it.

    Each proxy appends its peer to `X-Forwarded-For`, or to `Forwarded` (RFC 7239), which is read only without
    the former: from the end, up to the first address that is not a trusted proxy, or to a hop that is hidden
    (`_name`, `unknown`). What stands before may be forged.
    """
    if not proxies or not ("X-Forwarded-For" in headers or "Forwarded" in headers):
        return peer
    hops = _hops(headers)
    address = peer
    while hops and is_trusted(address, proxies):
        hop = node_address(hops.pop())
        if hop is None:
            break
        address = hop
    return address


def _hops(headers: Mapping[str, str]) -> list[str]:
    """The reported peers, the nearest last; empty elements are no hops (RFC 9110 §5.6.1)."""
    if "X-Forwarded-For" in headers:
        return [hop for hop in headers["X-Forwarded-For"].split(",") if hop.strip()]
    said = headers["Forwarded"]
    if not _WELL_QUOTED.fullmatch(said):
        return []
    found = [_FOR.search(element) for element in _ELEMENTS.findall(said) if element.strip()]
    return [hop[1] if hop else _NOT_TOLD for hop in found]


@functools.lru_cache(maxsize=1024)
def node_address(node: str) -> str | None:
    """Return the address in an element of `X-Forwarded-For` or a node of RFC 7239 §6; None if it has none.

    >>> node_address("192.0.2.1:4711"), node_address('"[2001:DB8::1]:80"'), node_address("_hidden")
    ('192.0.2.1', '2001:db8::1', None)
    """
    node = node.strip()
    if node[:1] == '"' == node[-1:] and len(node) > 1:
        node = re.sub(r"\\(.)", r"\1", node[1:-1])
    found = _NODE.fullmatch(node)
    address = _address(next(filter(None, found.groups()))) if found else None
    return None if address is None else str(address)


@functools.lru_cache(maxsize=1024)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """A socket for both families has IPv4 peers as `::ffff:192.0.2.1`: they are those addresses."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def anonymous_key(peer: str, headers: Mapping[str, str], proxies: tuple[Network, ...]) -> str:
    """Return what tells browsers without a session apart: the address, and of IPv6 its /64 network.

    A /64 is what one subscriber has: with single addresses one browser would be any number of them.
    """
    said = client_address(peer, headers, proxies)
    address = _address(said)
    if not isinstance(address, ipaddress.IPv6Address):
        return said if address is None else str(address)
    return str(ipaddress.ip_network((str(address).partition("%")[0], 64), strict=False))


def forwarded_request(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return method and target of the request that a proxy wants to forward, or raise BadRequest."""
    method, target = headers.get("X-Forwarded-Method", "GET"), headers.get("X-Forwarded-Uri", "")
    if not target.startswith("/"):
        target = origin_form(target, headers.get("Host", "")) or ""
    if not target:
        raise BadRequest("X-Forwarded-Uri must be the target of the request")
    return method, target
