"""Server-sent events for pages: the session is about to end, has changed, or has ended."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

from tornado.iostream import StreamClosedError

from app.bff.errors import StoreUnavailable
from app.bff.handlers.authenticated import authenticated
from app.bff.handlers.base import ApiHandler
from app.bff.sessions.events import EndSignal
from app.bff.sessions.session import Reason, Session


class Events(ApiHandler):
    """A stream of the session's events, which ends with the session and does not keep it alive.

    `session_ending` with `{"expires_in": seconds}` is sent before the session expires, again if it was
    extended meanwhile; `session_changed` with `{}` when a refresh has changed its claims; `session_ended`
    with `{"reason": …}`, a Reason, when it is over. The stream ends without an event when this process stops
    or the user has signed in again in this browser: the page then reconnects. Beyond
    `max_event_streams_per_session` the response is 429, beyond `max_event_streams` 503.
    """

    keeps_session_alive = False
    comment = ":\n\n"
    comment_every_seconds: float = 15  # reverse proxies close idle responses

    session: Session
    _signal: EndSignal | None = None
    _changes = 0  # of the session's claims
    _sent_changes = 0  # that the page knows of
    _warned_expiry: float | None = None  # `expires_at` of the session that a warning was sent for

    @authenticated
    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")
        self.set_header("Connection", "close")  # a stopping process gets no further request on it
        self._news, self._sent_changes = asyncio.Event(), self.session.changes
        with (
            self.services.event_streams.take(self.session.ref),
            self.services.session_events.watch(self.session.ref, self._on_change) as self._signal,
            suppress(StreamClosedError),
        ):
            await self._stream(self._signal)

    def _on_change(self, changes: int) -> None:
        self._changes = changes
        if changes > self._sent_changes:
            self._news.set()

    def on_connection_close(self) -> None:
        if self._signal and not self._signal.done():
            self._signal.set_result(None)

    async def _stream(self, signal: EndSignal) -> None:
        signal.add_done_callback(lambda _: self._news.set())
        await self._send(self.comment)  # EventSource fires `open` with the first bytes
        while not signal.done():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_seconds):
                    await self._news.wait()
            self._news.clear()
            if not signal.done():
                await self._send(await self._next_event())
        reason = signal.result()
        if reason and reason != Reason.RENEWED:
            await self._send(event("session_ended", reason=reason))

    @property
    def _wait_seconds(self) -> float:
        """How long to wait for news; the session is read at most once a second."""
        return min(self.comment_every_seconds, max(1, self._next_check_at - self.services.clock()))

    async def _next_event(self) -> str:
        if self._changes > self._sent_changes:
            self._sent_changes = self._changes
            return event("session_changed")
        if self._is_early() or not await self._expires_soon():
            return self.comment
        self._warned_expiry = self.session.expires_at
        return event("session_ending", expires_in=int(self.session.expires_at - self.services.clock()))

    @property
    def _next_check_at(self) -> float:
        """When to read the session again: at its warning time, or at its end if the warning was sent."""
        end = self.session.expires_at
        return end if end == self._warned_expiry else end - self.services.lifetime.warning_seconds

    def _is_early(self) -> bool:
        return self.services.clock() < self._next_check_at

    async def _expires_soon(self) -> bool:
        """Read the session again: it may have been extended, and it may be over."""
        with suppress(StoreUnavailable):  # retried in a second
            session = await self.services.sessions.get(self.session.ref)
            if session is not None:
                self.session = session
                return not self._is_early()
            await self.services.session_events.check([self.session.ref])
        return False

    async def _send(self, text: str) -> None:
        self.write(text)
        await self.flush()


def event(name: str, **data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
