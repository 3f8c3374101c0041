"""Messages for the next page: stored in the session before the response that is followed by that page."""

from __future__ import annotations

import logging
from asyncio import Future, create_task, ensure_future
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any

from tornado.web import RequestHandler

from app.bff.errors import AppError, NoSession
from app.bff.services import Services
from app.bff.sessions.session import Session
from app.bff.web.cross_origin import is_prefetch

log = logging.getLogger(__name__)


class FlashMessages(RequestHandler):
    """Of every handler: messages that one response leaves for the next page."""

    services: Services
    session: Session | None = None  # BaseHandler loads it
    before_finish: Sequence[Awaitable[None]] = ()

    def flash(self, message: str) -> None:
        """Show a message on the next page that this browser gets: in its template, `flashes()` has them.

        It is stored in the session, and counts in its data. Raises NoSession (401) without one.

        Example::

            class Save(BaseHandler):
                @authenticated
                async def post(self) -> None:
                    self.flash("Saved.")
                    self.redirect("/account")
        """
        if self.session is None:
            raise NoSession("there is no session")
        write = create_task(self.services.session_data(self.session.ref).add_flash(message))
        self.before_finish = [*self.before_finish, write]

    def flashes(self) -> list[str]:
        """Return the messages for this page, each once; a speculative request leaves them for a real one."""
        session, headers = self.session, self.request.headers
        if session is None or not session.flashes or self.request.method == "HEAD" or is_prefetch(headers):
            return []
        self.session = replace(session, flashes=())
        ids = [each for each, _ in session.flashes]
        remove = self.services.session_data(session.ref).remove_flashes(ids)
        self.before_finish = [*self.before_finish, create_task(remove)]
        return [message for _, message in session.flashes]

    def finish_later(self, chunk: str | bytes | dict[str, Any] | None) -> Future[None]:
        """Finish once the writes are done that the next request must find."""
        self._auto_finish = False
        return ensure_future(self._finish_later(chunk))

    async def _finish_later(self, chunk: str | bytes | dict[str, Any] | None) -> None:
        writes, self.before_finish = self.before_finish, ()
        for write in writes:
            try:
                await write
            except AppError as error:
                log.warning("flash message not stored or removed", extra={"reason": str(error)})
        if not self._finished:
            await self.finish(chunk)
