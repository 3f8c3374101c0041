"""What a proxy in front of us says about a request, and whether we believe it (RFC 9700 §4.13)."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Mapping

from app.bff.errors import BadRequest

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@functools.lru_cache(maxsize=1024)  # the same few peers again and again, and reading an address is slow
def is_trusted(peer: str, proxies: tuple[Network, ...]) -> bool:
    """Whether the other end of a connection is one of our own proxies; nobody is by default."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    return any(address in network for network in proxies)


def client_address(peer: str, headers: Mapping[str, str], proxies: tuple[Network, ...]) -> str:
    """Return the address of the browser, as far as it is told by somebody we trust.

    Each proxy writes whom it has heard from at the end of `X-Forwarded-For`: so it is read from the
    end, and no further than to the first address that is not one of ours, who may write what they like.
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


def forwarded_request(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return method and target of the request that a proxy asks us about, or raise BadRequest."""
    method, target = headers.get("X-Forwarded-Method", "GET"), headers.get("X-Forwarded-Uri", "")
    if not target.startswith("/"):
        raise BadRequest("X-Forwarded-Uri must say which request this is about")
    return method, target
