"""BFF_SPA: the folder of a build, or the URL of a development server."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from app.bff.settings.apis import HttpClientSettings
from app.bff.settings.validators import absolute

DEVELOPMENT_SERVER = "bff:development-server"  # the name of the client that calls it


def is_url(value: str) -> bool:
    return "://" in value


def spa_location(value: str, *, debug: bool) -> str:
    """Return the folder, absolute, or the origin of the server. Raises ValueError without an index.html."""
    if not is_url(value):
        folder = os.path.abspath(value)
        if not os.path.isfile(os.path.join(folder, "index.html")):
            raise ValueError(f"there is no index.html in {folder}: build the front end first")
        return folder
    if not debug:
        raise ValueError(
            "is the URL of a development server, which needs BFF_DEBUG; else name the folder of a build"
        )
    parts = urlsplit(absolute(value))
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must be an origin, without a path")
    return value.rstrip("/")


def development_server(origin: str) -> HttpClientSettings:
    """Return the settings of its client: one page asks for hundreds of modules."""
    return HttpClientSettings(base_url=origin, timeout_seconds=60, max_connections=1000)
