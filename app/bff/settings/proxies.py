"""Which proxy an outgoing request takes: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, read once, at start."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from app.bff.settings.validators import absolute, is_loopback

_SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}


@dataclass(frozen=True)
class Proxies:
    """The proxies of the environment; lower-case names come before upper-case ones, as in curl.

    `by_scheme` has the proxies' URLs, which may contain a password. `no_proxy` is a list of host names, each
    with all names below it, `host:port`, addresses, networks (`10.0.0.0/8`), or `*`.
    """

    by_scheme: Mapping[str, str] = field(default_factory=dict, repr=False)
    no_proxy: str = ""

    @classmethod
    def of_environment(cls) -> Self:
        """Raises ValueError for a proxy whose URL cannot be used; the message names the variable alone."""
        found = getproxies_environment()
        usable = {name: _usable(name, url) for name, url in found.items() if name in ("http", "https")}
        return cls(usable, found.get("no", ""))

    def of(self, url: str) -> str | None:
        """Return the URL of the proxy for a request to `url`, or None. Loopback never takes one."""
        parts = urlsplit(url)
        proxy, host = self.by_scheme.get(_SCHEMES.get(parts.scheme, "")), parts.hostname or ""
        return None if proxy is None or is_loopback(host) or self._bypassed(host, parts.port) else proxy

    def _bypassed(self, host: str, port: int | None) -> bool:
        listed = {"no": ",".join(re.split(r"[\s,]+", self.no_proxy.strip()))}
        named = proxy_bypass_environment(host if port is None or ":" in host else f"{host}:{port}", listed)
        return bool(named) or any(_contains(network, host) for network in listed["no"].split(","))


def _usable(name: str, proxy: str) -> str:
    url = proxy if "://" in proxy else f"http://{proxy}"
    parts = urlsplit(url)
    try:
        absolute(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
    except ValueError:
        message = f"{name.upper()}_PROXY: must be the http(s) URL of a proxy; others are not supported"
        raise ValueError(message) from None
    return url


def _contains(network: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network.strip("[]"), strict=False)
    except ValueError:
        return False
