"""Where a request comes from: a page of this origin, another site, or a navigation (Fetch Metadata)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

FRAMES = ("iframe", "frame")  # of Sec-Fetch-Dest
OF_PREFETCHES = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")  # headers
CSRF_HEADER, CSRF_VALUE = "X-CSRF", "1"
# What a page may show or save without a script; code, styles and frames are not among them.
_READ_BY_PAGES = {"audio", "document", "empty", "image", "track", "video"}


def csrf_refusal(headers: Mapping[str, str], allowed_origins: Collection[str] = ()) -> str | None:
    """Return why a request to a data route is refused, or None.

    Another origin cannot set the header without a CORS preflight, which is granted to `allowed_origins` only;
    it is required on every method, GET too (RFC 10017 §6.1.3.3.2). `Sec-Fetch-Site` is checked as defence in
    depth: an allowed origin must be of the same site.
    """
    if lacks_header(headers):
        return f"the header {CSRF_HEADER}: {CSRF_VALUE} is missing"
    site = headers.get("Sec-Fetch-Site")
    if site in (None, "same-site") and headers.get("Origin") in allowed_origins:
        return None
    if site is not None:
        return None if site in ("same-origin", "none") else "the request was sent by another site"
    origin, host = headers.get("Origin"), headers.get("Host", "")  # a browser without Fetch Metadata, or none
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        return "the request was sent by another origin"
    return None


def api_refusal(
    method: str, headers: Mapping[str, str], csrf: str, allowed_origins: Collection[str] = ()
) -> str | None:
    """Return why a request to a remote API is refused, or None; `csrf` is the key of its settings.

    With `same-origin`, a GET or HEAD needs no `X-CSRF` if the browser says that a page of this origin has
    sent it, and for what: an image, a file to save, an EventSource. A script cannot set `Sec-Fetch-…`
    headers, and a redirect by way of another site changes them.
    """
    reads = method in ("GET", "HEAD") and headers.get("Sec-Fetch-Site") == "same-origin"
    if csrf != "same-origin" or not reads or not lacks_header(headers):
        return csrf_refusal(headers, allowed_origins)
    if headers.get("Sec-Fetch-Dest", "empty") not in _READ_BY_PAGES:
        return "no script, style, frame or worker comes from an API"
    return "it is fetched before it is needed" if is_prefetch(headers) else None


def lacks_header(headers: Mapping[str, str]) -> bool:
    """Whether a request has no `X-CSRF: 1`: a navigation may have sent it, which shows the response."""
    return headers.get(CSRF_HEADER) != CSRF_VALUE


def socket_refusal(
    headers: Mapping[str, str], base_url: str, allowed_origins: Collection[str] = ()
) -> str | None:
    """Return why a WebSocket's handshake is refused, or None.

    Every site may open one, with our cookies, and a page can neither add a header nor change its Origin:
    so the Origin must be present and ours (RFC 6455 §10.2), or an allowed one.
    """
    default_port = ":443" if base_url.startswith("https:") else ":80"  # browsers omit it
    is_ours = headers.get("Origin") in (base_url.removesuffix(default_port), *allowed_origins)
    return None if is_ours else "the handshake was not sent by this origin"


def is_navigation(headers: Mapping[str, str]) -> bool:
    """Whether the request is a navigation, whose response is a page, rather than a fetch."""
    mode = headers.get("Sec-Fetch-Mode")
    if mode is not None:
        return mode == "navigate"
    return "text/html" in headers.get("Accept", "") and CSRF_HEADER not in headers


def is_page_navigation(headers: Mapping[str, str]) -> bool:
    """Whether the request is a navigation of a window or a frame, as `is_navigation` but for `<object>`."""
    return is_navigation(headers) and headers.get("Sec-Fetch-Dest", "document") in (
        "document",
        "iframe",
        "frame",
    )


def is_navigation_of_own_page(headers: Mapping[str, str]) -> bool:
    """Whether the browser says that a page of this origin has started it, in a window.

    False if it says nothing, and for what the user has typed.
    """
    return (
        headers.get("Sec-Fetch-Site") == "same-origin"
        and headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
    )


def arrives_without_strict_cookies(
    method: str, headers: Mapping[str, str], *, in_a_frame_too: bool = False
) -> bool:
    """Whether this is a navigation that another site started, of a page or `in_a_frame_too`.

    A browser sends no `SameSite=Strict` cookie with it. Repeated by a page of this site the navigation is
    same-origin, so this is true only the first time. A browser without Fetch Metadata could not tell the two
    apart: for it this is never true.
    """
    return (
        method in ("GET", "HEAD")
        and headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") in (("document", *FRAMES) if in_a_frame_too else ("document",))
        and headers.get("Sec-Fetch-Site") == "cross-site"
    )


def login_refusal(headers: Mapping[str, str], allowed_origins: Collection[str] = ()) -> str | None:
    """Return why a request must not start a login, or None.

    Only a navigation and a frame of our own pages, or of those of an allowed origin, may: the image of
    another page must not. A browser without Fetch Metadata says nothing.
    """
    destination, mode = headers.get("Sec-Fetch-Dest", "document"), headers.get("Sec-Fetch-Mode", "navigate")
    if mode != "navigate" or destination not in ("document", *FRAMES):
        return "a login is started by a navigation"
    if destination == "document" or headers.get("Sec-Fetch-Site") == "same-origin":
        return None
    if _navigates_from(allowed_origins, headers):
        return None
    return "a login in a frame is started by a page of this origin"


def is_sent_from_elsewhere(headers: Mapping[str, str], allowed_origins: Collection[str] = ()) -> bool:
    """Whether the browser says that another origin has started the request, a sibling host included.

    One of `allowed_origins` is not elsewhere.
    """
    if headers.get("Sec-Fetch-Site", "none") in ("same-origin", "none"):
        return False
    return not _navigates_from(allowed_origins, headers)


def _navigates_from(origins: Collection[str], headers: Mapping[str, str]) -> bool:
    """Whether a page of one of these origins of this site has started a navigation, which has no `Origin`.

    Another page can leave out the `Referer`, and cannot write one of another origin.
    """
    parts = urlsplit(headers.get("Referer", ""))
    return headers.get("Sec-Fetch-Site") == "same-site" and f"{parts.scheme}://{parts.netloc}" in origins


def is_prefetch(headers: Mapping[str, str]) -> bool:
    """Whether the browser fetches speculatively, before a navigation: a prefetch, prerender or preview.

    Older ones say so in headers of their own: Chromium and Safari `Purpose`, Firefox `X-Moz`.
    """
    said = (headers.get(name, "").lower() for name in OF_PREFETCHES)
    return any(word in purpose for purpose in said for word in ("prefetch", "prerender", "preview"))
