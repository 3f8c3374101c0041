"""Yours: the APIs that this application calls, and settings of its own."""

from __future__ import annotations

from app.bff.settings.load import BffSettings, HttpClientSettings, RemoteApiSettings

__all__ = ["HTTP_CLIENTS", "HttpClientSettings", "RemoteApiSettings", "Settings"]

# BFF_HTTP_CLIENTS (JSON, the same shape) adds to these or replaces them.
HTTP_CLIENTS = {
    "apiClient": HttpClientSettings(base_url="http://127.0.0.1:8890/api/", token="user"),
}


class Settings(BffSettings):
    named_in_code = HTTP_CLIENTS
