"""What passes to and from a development server (BFF_SPA as a URL). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from app.bff.settings.api_headers import HOP_BY_HOP
from app.bff.spa.document import Document
from app.bff.web.csp import Sources, widened

Headers = list[tuple[str, str]]

# Session and credentials of the browser; Host is the server's own, which it checks.
_NOT_SENT = HOP_BY_HOP | {"host", "cookie", "authorization", "dpop", "expect"}
# A cookie of the server's would be one of this site.
_NOT_RECEIVED = HOP_BY_HOP | {"set-cookie", "set-cookie2", "clear-site-data", "strict-transport-security"}
# Modules that are replaced bring their styles in elements; webpack wraps modules in `eval`; Vite's client
# asks in a worker of its own whether the server is back.
_WHILE_DEVELOPING = {
    "script-src": ["'unsafe-eval'"],
    "style-src": ["'unsafe-inline'"],
    "worker-src": ["blob:", "data:"],
}


def server_headers(headers: Iterable[tuple[str, str]], *, base_url: str, server: str) -> Headers:
    """Return the browser's headers for the server: for a page of ours, `Origin` is the server's own."""
    passed = _without(headers, _NOT_SENT)
    return [
        (name, server if name.lower() == "origin" and value == base_url else value) for name, value in passed
    ]


def browser_headers(headers: Iterable[tuple[str, str]], *, server: str) -> Headers:
    """Return the server's headers for the browser; a `Location` on the server is one on this site."""
    return [
        (
            name,
            value.removeprefix(server) or "/"
            if name.lower() == "location" and _is_on(value, server)
            else value,
        )
        for name, value in _without(headers, _NOT_RECEIVED)
    ]


def development_policy(document: Document, *, base_url: str, login_page: str | None, added: Sources) -> str:
    """Return the policy of a build, widened by what the client of a development server needs."""
    socket = base_url.replace("http", "ws", 1)  # older browsers do not count it as 'self'
    needed = {**_WHILE_DEVELOPING, "connect-src": [socket]}
    return widened(widened(document.policy(login_page), needed), added)


def _without(headers: Iterable[tuple[str, str]], names: frozenset[str]) -> Headers:
    given = list(headers)
    listed = ",".join(value for name, value in given if name.lower() == "connection").lower().split(",")
    dropped = names | {name.strip() for name in listed}
    return [(name, value) for name, value in given if name.lower() not in dropped]


def _is_on(url: str, server: str) -> bool:
    return urlsplit(url)[:2] == urlsplit(server)[:2]
