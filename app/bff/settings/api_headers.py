"""Header names that no API may send to the browser, not even by RemoteApiSettings.response_headers."""

from __future__ import annotations

import re

FIELD_NAME = re.compile("[A-Za-z0-9-]+")
HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
    "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
# Whether a response may be stored is decided here: RFC 9111 §3.5 protects none that a cookie was traded for.
_CACHING = {
    "cache-control", "expires", "age", "pragma", "cache-status", "cdn-cache-control", "surrogate-control",
    "cloudflare-cdn-cache-control", "edge-control", "x-litespeed-cache-control", "no-vary-search",
}  # fmt: skip
# Commands to the proxy in front, which would send a file or another URL instead of the response.
_FOR_PROXIES = {
    "x-sendfile",
    "x-sendfile-type",
    "x-lighttpd-send-file",
    "x-lighttpd-send-tempfile",
    "x-reproxy-url",
}
# Commands to the browser about the whole origin, which is this application's.
_FOR_THE_ORIGIN = {
    "set-cookie", "set-cookie2", "alt-svc", "clear-site-data", "refresh", "service-worker-allowed",
    "content-security-policy-report-only", "nel", "report-to", "reporting-endpoints", "set-login",
    "origin-trial", "timing-allow-origin", "server-timing", "www-authenticate", "authentication-info",
    "activate-storage-access", "origin-agent-cluster", "permissions-policy", "document-policy",
    "accept-ch", "critical-ch", "speculation-rules", "use-as-dictionary", "integrity-policy",
}  # fmt: skip
_SET_HERE = {
    "server", "date", "x-request-id", "dpop-nonce", "content-security-policy", "strict-transport-security",
    "x-content-type-options", "x-frame-options", "referrer-policy",
}  # fmt: skip

NEVER_FROM_APIS = HOP_BY_HOP | _CACHING | _FOR_PROXIES | _FOR_THE_ORIGIN | _SET_HERE
NEVER_FROM_APIS_PREFIXES = ("access-control-", "cross-origin-", "proxy-", "sec-", "x-accel-")


def extra_header(name: str) -> str:
    """Return the name in lower case; raises ValueError for one that no API may send to the browser."""
    low = name.strip().lower()
    if not FIELD_NAME.fullmatch(low):
        raise ValueError(f"{name!r} is not the name of a header")
    if low in NEVER_FROM_APIS or low.startswith(NEVER_FROM_APIS_PREFIXES):
        raise ValueError(f"{name} is a header that no API may send to the browser")
    return low
