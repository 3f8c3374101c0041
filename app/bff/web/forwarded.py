"""Headers of reverse proxies, and which proxies are trusted to set them (RFC 9700 §4.13)."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Mapping

from app.bff.errors import BadRequest

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@functools.lru_cache(maxsize=1024)  # few distinct peers, and parsing an address is slow
def is_trusted(peer: str, proxies: tuple[Network, ...]) -> bool:
    """Whether the peer of a connection is a trusted proxy; by default none is."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    return any(address in network for network in proxies)


def client_address(peer: str, headers: Mapping[str, str], proxies: tuple[Network, ...]) -> str:
    """Return the address of the browser, as far as trusted proxies report it.

    Each proxy appends its peer to `X-Forwarded-For`: so it is read from the end, up to the first address
    that is not a trusted proxy. What stands before may be forged.
    """
    if not proxies or "X-Forwarded-For" not in headers:
        return peer
    address, hops = peer, headers["X-Forwarded-For"].split(",")
    while hops and is_trusted(address, proxies):
        hop = hops.pop().strip()
        if not _is_address(hop):
            break
        address = hop
    return address


@functools.lru_cache(maxsize=1024)
def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def anonymous_key(peer: str, headers: Mapping[str, str], proxies: tuple[Network, ...]) -> str:
    """Return what tells browsers without a session apart: the address, and of IPv6 its /64 network.

    A /64 is what one subscriber has: with single addresses one browser would be any number of them.
    """
    address = client_address(peer, headers, proxies)
    if ":" not in address or not _is_address(address):
        return address
    return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))


def forwarded_request(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return method and target of the request that a proxy wants to forward, or raise BadRequest."""
    method, target = headers.get("X-Forwarded-Method", "GET"), headers.get("X-Forwarded-Uri", "")
    if not target.startswith("/"):
        raise BadRequest("X-Forwarded-Uri must be the target of the request")
    return method, target
