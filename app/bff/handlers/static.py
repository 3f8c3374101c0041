"""Files of `static/`, with the security headers."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime

from tornado.web import HTTPError, StaticFileHandler

from app.bff.handlers.web import WebHandler

_PATH_MAX = 4096  # of Linux, in bytes


class Static(WebHandler, StaticFileHandler):
    """Static files; cached for good only under their own version: during a deploy an old process must not
    serve old bytes under the new name."""

    def head(self, path: str) -> Awaitable[None]:  # type: ignore[override]
        return StaticFileHandler.head(self, path)

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        """Raises HTTPError (404) for a name that no file can have, such as one with a NUL in it.

        A long one is not looked up: resolving links takes time with the square of its length.
        """
        if len(absolute_path) > _PATH_MAX:
            raise HTTPError(404)
        try:
            return super().validate_absolute_path(root, absolute_path)
        except (OSError, ValueError):
            raise HTTPError(404) from None

    def compute_etag(self) -> str | None:  # type: ignore[override]
        return StaticFileHandler.compute_etag(self)

    def get_cache_time(self, path: str, modified: datetime | None, mime_type: str) -> int:
        version = self.get_query_argument("v", None)
        return self.CACHE_MAX_AGE if version == self.get_version(self.settings, path) else 0

    def set_extra_headers(self, path: str) -> None:
        if self.get_cache_time(path, None, "") == 0:
            self.set_header("Cache-Control", "no-cache")
