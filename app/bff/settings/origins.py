"""BFF_ALLOWED_ORIGINS: which origins may be named. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from app.bff.settings.validators import absolute

_DEFAULT_PORTS = {"http": 80, "https": 443}


def normal_origin(url: str) -> str:
    """Return the origin of an http(s) URL as browsers write it: in lower case, without a default port."""
    parts = urlsplit(url.lower())
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def allowed_origin(value: str, base_url: str) -> str:
    """Return an origin of the same site as `base_url`, as browsers write it; refuse anything else.

    A site is the same host, or host names with a common parent of two labels or more. Browsers go by a list
    of public suffixes, which is not here: where the rule is too generous (`a.co.uk` and `b.co.uk`), they
    call the request cross-site and send no cookie with it, and it is refused.
    """
    parts = urlsplit(absolute(value))
    if parts.path or parts.query or parts.fragment or value.endswith(("?", "#")):
        raise ValueError(f"{value} must be an origin, without a path or a slash at the end")
    origin, ours = normal_origin(value), normal_origin(base_url)
    if origin == ours:
        raise ValueError(f"{value} is this application's own, which is allowed in any case")
    if not _are_same_site(origin, ours):
        raise ValueError(f"{value} is not of the same site as BFF_BASE_URL: its cookies would not be sent")
    return origin


def common_parent(origin: str, other: str) -> str:
    """Return the last labels that the host names of two origins have in common, such as `example.com`."""
    labels = [(urlsplit(url).hostname or "").split(".")[::-1] for url in (origin, other)]
    common = []
    for ours, theirs in zip(*labels, strict=False):
        if ours != theirs:
            break
        common.append(ours)
    return ".".join(reversed(common))


def _are_same_site(origin: str, other: str) -> bool:
    if urlsplit(origin).scheme != urlsplit(other).scheme:
        return False
    if urlsplit(origin).hostname == urlsplit(other).hostname:
        return True
    parent = common_parent(origin, other)
    return "." in parent and not parent.rpartition(".")[2].isdigit()  # no addresses, such as 10.0.0.1
