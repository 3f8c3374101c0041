"""The host that a browser has opened, and whether it is that of BFF_BASE_URL. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from app.bff.settings.validators import is_address, is_loopback
from app.bff.web.cross_origin import is_navigation


def opened_elsewhere(headers: Mapping[str, str], base_url: str, *, is_from_proxy: bool) -> bool:
    """Whether a browser navigates to this site by another host than that of `base_url`, whatever the port.

    Cookies belong to a host, and the provider sends the browser back to that of `base_url`. A trusted proxy
    (`is_from_proxy`) tells the browser's host in `X-Forwarded-Host`; another one may have replaced it by its
    own name for this server. A loopback name before a `base_url` that is none is always such a name.
    """
    said = headers.get("Host", "")
    if is_from_proxy:
        said = headers.get("X-Forwarded-Host", said).partition(",")[0].strip()
    host, base_host = _name(said), urlsplit(base_url).hostname or ""
    if host in ("", base_host) or (is_loopback(host) and not is_loopback(base_host)):
        return False
    return is_navigation(headers) and headers.get("Sec-Fetch-Dest", "document") == "document"


def may_be_rebound(host: str, base_url: str = "") -> bool:
    """Whether another site may have let its own name lead here (DNS rebinding), to read what has no session.

    It has no power over the host of `base_url`, loopback names and addresses.
    """
    name = _name(host)
    return name != urlsplit(base_url).hostname and not is_loopback(name) and not is_address(name)


def _name(host: str) -> str:
    """In lower case, without port and the brackets of an IPv6 address; empty if it is no host."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
