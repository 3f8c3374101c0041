"""A silent login shows no page: it ends with a message to the page that waits for it, or moves on."""

from __future__ import annotations

from typing import Any

from app.bff.errors import AppError, LoginFailed
from app.bff.handlers.base import BaseHandler
from app.bff.handlers.web import exception_from


class SilentLoginMixin(BaseHandler):
    """A step of a login that may be a silent one: then nothing that goes wrong ends on an error page.

    The page that waits is one of ours, and this happens in a frame of it or in a window that it has
    opened: so a silent step may be shown in a frame, and remains known to its opener.
    """

    silent_path: str | None = None  # where a silent login ends; None: with the message

    @property
    def is_silent(self) -> bool:
        return self.framed_by_same_site

    def set_silent(self, silent: bool, *, path: str | None = None) -> None:
        self.framed_by_same_site, self.silent_path = silent and self.request.method == "GET", path
        self.set_default_headers()  # once more: they say who may have this in a frame

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if not self.is_silent:
            super().write_error(status_code, **kwargs)
            return
        self.set_status(200)
        self.end_silently(error=_code(exception_from(kwargs)))

    def end_silently(self, *, error: str | None = None) -> None:
        """Answer with the message, in Duende.BFF's format, or with the page that moves on."""
        if self.silent_path is not None:
            self.navigate_same_site(self.silent_path)
            return
        message = {"source": "bff-silent-login", "isLoggedIn": error is None}
        self.render_page(
            "bff/silent_login.html",
            message={**message, "error": error} if error else message,
            origin=self.services.settings.base_url,
        )


def _code(error: BaseException | None) -> str:
    if isinstance(error, LoginFailed):
        return error.reason
    return error.code if isinstance(error, AppError) else AppError.code
