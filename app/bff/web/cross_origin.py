"""Who sent this request: our own page, another site, or a person who followed a link."""

from __future__ import annotations

from collections.abc import Mapping

CSRF_HEADER, CSRF_VALUE = "X-CSRF", "1"


def csrf_refusal(headers: Mapping[str, str]) -> str | None:
    """Return why a request to a data route is refused, or None.

    Another site cannot set the header without a CORS preflight, which we never grant; so it is
    wanted on every method, GET too (RFC 10017 §6.1.3.3.2). `Sec-Fetch-Site` is the second lock.
    """
    if headers.get(CSRF_HEADER) != CSRF_VALUE:
        return f"the header {CSRF_HEADER}: {CSRF_VALUE} is missing"
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return None if site in ("same-origin", "none") else "it was sent by another site"
    origin, host = headers.get("Origin"), headers.get("Host", "")  # an old browser, or none
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        return "it was sent by another origin"
    return None


def socket_refusal(headers: Mapping[str, str], base_url: str) -> str | None:
    """Return why a WebSocket's handshake is refused, or None.

    Every site may open one, our cookies come along, and a page cannot add a header to it; so the Origin,
    which it cannot change either, has to be there and to be ours (RFC 6455 §10.2).
    """
    default_port = ":443" if base_url.startswith("https:") else ":80"  # browsers leave it out
    is_ours = headers.get("Origin") == base_url.removesuffix(default_port)
    return None if is_ours else "it was not sent by our origin"


def is_navigation(headers: Mapping[str, str]) -> bool:
    """Whether a person is waiting for a page, rather than a script for an answer."""
    mode = headers.get("Sec-Fetch-Mode")
    if mode is not None:
        return mode == "navigate"
    return "text/html" in headers.get("Accept", "") and CSRF_HEADER not in headers


def arrives_without_strict_cookies(method: str, headers: Mapping[str, str]) -> bool:
    """Whether this is a navigation that another site started.

    A browser sends no `SameSite=Strict` cookie with it. Once our own page has repeated the
    navigation it counts as same-origin, so this is true only the first time.
    """
    return (
        method == "GET"
        and headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
        and headers.get("Sec-Fetch-Site") == "cross-site"
    )


def is_in_frame(headers: Mapping[str, str]) -> bool:
    """Whether the answer will be shown in a frame, as far as the browser says."""
    return headers.get("Sec-Fetch-Dest") in ("iframe", "frame")


def is_prefetch(headers: Mapping[str, str]) -> bool:
    """Whether the browser only guesses that somebody may come here."""
    return "prefetch" in headers.get("Sec-Purpose", "")
