"""The page that the provider shows in a frame when a user signs out there (Front-Channel Logout 1.0)."""

from __future__ import annotations

import logging
from contextlib import suppress
from urllib.parse import urlsplit

from app.bff.errors import BadRequest, CsrfRejected, ProviderUnavailable
from app.bff.handlers.web import WebHandler
from app.bff.sessions.session import Reason
from app.bff.web.cross_origin import is_prefetch

log = logging.getLogger(__name__)


class FrontChannelLogout(WebHandler):
    """Ends the sessions of `sid`, which proves what the session cookie cannot: no cookie is sent to a frame.

    Answers 200, also if there is no such session; 400 without `sid` or for another issuer; 503 if the
    session store is unavailable. Only pages of the provider may frame it.
    """

    async def head(self) -> None:
        """Check the request as `get` does, and end nothing."""
        self._issuer_and_sid()
        await self._answer()

    async def get(self) -> None:
        if is_prefetch(self.request.headers):
            self.set_status(204)
            return
        services, (issuer, sid) = self.services, self._issuer_and_sid()
        sessions = await services.sessions.of_sid(issuer, sid)
        await services.tokens.end_all(sessions, Reason.PROVIDER)
        log.info("signed out at the provider", extra={"sessions": len(sessions)})
        await self._answer()

    def _issuer_and_sid(self) -> tuple[str, str]:
        if self.request.headers.get("Sec-Fetch-Dest", "iframe") not in ("iframe", "frame"):
            raise CsrfRejected("the provider shows this in a frame")
        issuer, sid = self.params.get("iss", ""), self.params.get("sid")
        if not sid or issuer not in self.services.provider.issuers:
            raise BadRequest("iss and sid must be those of a session of the provider")
        return issuer, sid

    async def _answer(self) -> None:
        """Replace the two headers that forbid framing; X-Frame-Options cannot name another origin."""
        urls = [self.services.settings.issuer]
        with suppress(ProviderUnavailable):
            metadata = await self.services.provider.metadata()
            urls += [metadata.authorization_endpoint, metadata.end_session_endpoint or ""]
        origins = {f"{parts.scheme}://{parts.netloc}" for url in urls if (parts := urlsplit(url)).netloc}
        ancestors = " ".join(sorted(origins))
        self.set_header("Content-Security-Policy", f"default-src 'none'; frame-ancestors {ancestors}")
        self.clear_header("X-Frame-Options")
        self.finish("<!doctype html><title>Signed out</title>")
