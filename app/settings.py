"""The APIs that this application calls, and settings of its own."""

from __future__ import annotations

import os

from app.bff import BffSettings, HttpClientSettings, RemoteApiSettings

# scripts/dev.sh runs the API of the demo, at this address.
DEMO_API_URL = os.environ.get("DEMO_API_URL", "http://127.0.0.1:8890/api/")

# Clients by name. BFF_HTTP_CLIENTS (JSON, the same shape) adds to them, or replaces one of the same name.
HTTP_CLIENTS: dict[str, HttpClientSettings] = {
    "apiClient": HttpClientSettings(base_url=DEMO_API_URL, token="user"),
    "apiClientForAdmins": HttpClientSettings(base_url=f"{DEMO_API_URL}admin/", token="user"),
}

# Paths that are forwarded to a named client. BFF_REMOTE_APIS (JSON, the same shape) adds to them, or replaces
# one of the same path.
REMOTE_APIS: list[RemoteApiSettings] = [
    RemoteApiSettings(path="/api", client="apiClient"),
    RemoteApiSettings(path="/api/admin", client="apiClientForAdmins", require={"groups": "admins"}),
]


class Settings(BffSettings):
    """Fields that you add here are read from the environment and from `.env`, as BFF_NAME."""

    default_http_clients = HTTP_CLIENTS
    default_remote_apis = REMOTE_APIS
    page_layout = "base.html"
