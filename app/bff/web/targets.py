"""Request targets (RFC 9112 §3.2) in the form that everything behind them expects. Pure."""

from __future__ import annotations

import re

_ABSOLUTE = re.compile(r"https?://([A-Za-z0-9._~!$&'()*+,;=%:\[\]-]+)(?:([/?])([^#]*))?", re.IGNORECASE)


def is_absolute_form(target: str) -> bool:
    """Whether it is a URL of any server (RFC 9112 §3.2.2): with a host, without user and fragment."""
    return _ABSOLUTE.fullmatch(target) is not None


def origin_form(target: str, host: str) -> str | None:
    """Return path and query of an absolute-form target of `host`; None for anything else.

    >>> origin_form("http://app.example?page=2", "App.example:80")
    '/?page=2'
    """
    found = _ABSOLUTE.fullmatch(target)
    if found is None or _normal(found[1]) != _normal(host):
        return None
    if found[2] is None:
        return "/"
    return found[2] + found[3] if found[2] == "/" else f"/?{found[3]}"


def _normal(host: str) -> str:
    """In lower case, without a default port: the scheme may be that of a proxy's other side."""
    return re.sub(r":(?:80|443)?$", "", host.lower())
