"""`/metrics`, at a port of its own: for Prometheus, not for browsers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from tornado.httpserver import HTTPServer
from tornado.web import Application, HTTPError, RequestHandler

from app.bff.settings.validators import is_loopback
from app.bff.telemetry.exposition import exposed
from app.bff.telemetry.metrics import Snapshot
from app.bff.web.hosts import may_be_rebound

_IDLE_SECONDS = 75  # longer than between two scrapes, commonly
_MAX_HEADER_BYTES = 8192


class Scrape(RequestHandler):
    """All metrics, in the text format that the scraper prefers."""

    def initialize(self, read: Callable[[], Snapshot]) -> None:
        self._read = read

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")

    def prepare(self) -> None:
        if is_loopback(self.request.remote_ip or "") and may_be_rebound(self.request.host):
            raise HTTPError(403)  # a page in a browser on this machine

    async def get(self) -> None:
        accept = self.request.headers.get("Accept", "")
        body, content_type = await asyncio.to_thread(exposed, self._read(), accept)
        self.set_header("Content-Type", content_type)
        self.finish(body)


@asynccontextmanager
async def serving(listeners: Sequence[socket.socket], read: Callable[[], Snapshot]) -> AsyncIterator[None]:
    """Serve what `read` returns until the block is left. Several processes may share the listeners."""
    application = Application(
        [("/metrics", Scrape, {"read": read})], log_function=lambda handler: None, compress_response=True
    )
    server = HTTPServer(
        application,
        idle_connection_timeout=_IDLE_SECONDS,
        body_timeout=1,
        max_header_size=_MAX_HEADER_BYTES,
        max_body_size=0,
    )
    server.add_sockets(listeners)
    try:
        yield
    finally:
        server.stop()
        await server.close_all_connections()
