"""The settings of the suite's application: one client in code, a layout and a folder of its own."""

from __future__ import annotations

from pathlib import Path

from app.bff import BffSettings, HttpClientSettings

HTTP_CLIENTS = {
    "apiClient": HttpClientSettings(base_url="http://127.0.0.1:8890/api/", token="user"),
}


class Settings(BffSettings):
    default_http_clients = HTTP_CLIENTS
    page_layout = "base.html"
    project_folder = Path(__file__).parent
