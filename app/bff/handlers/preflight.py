"""Answers what a browser asks before a page of an allowed origin sends a request."""

from __future__ import annotations

from collections.abc import Collection

from app.bff.handlers.web import WebHandler
from app.bff.web.cors import cors_headers, preflight_headers


class Preflight(WebHandler):
    """Grants `methods`, and the headers that the page wants to send; see `BffApplication.find_handler`."""

    renders_html = False

    def initialize(self, methods: Collection[str]) -> None:
        self._methods = methods

    def options(self) -> None:
        sent, origins = self.request.headers, self.services.settings.allowed_origins
        for name, value in {**cors_headers(sent, origins), **preflight_headers(sent, self._methods)}.items():
            self.set_header(name, value)
        self.set_status(204)
