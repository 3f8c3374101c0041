"""SocketHandler, the base class of WebSockets: closed when the session ends or the process stops."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

from tornado.websocket import WebSocketHandler

from app.bff.authorization import Rule, RuleSource
from app.bff.errors import CsrfRejected, Forbidden, NoSession, NotAllowed, StoreUnavailable
from app.bff.handlers.base import BaseHandler
from app.bff.handlers.request_log import log_failure
from app.bff.handlers.web import anonymous_key_of
from app.bff.paths import LOGIN_PATH
from app.bff.sessions.events import EndSignal
from app.bff.sessions.session import Reason
from app.bff.web.cross_origin import socket_refusal

log = logging.getLogger(__name__)

CloseFrame = tuple[int, str]  # a close code (RFC 6455 §7.4) and a reason
SESSION_OVER: CloseFrame = (4401, "the session is over")
NOT_ALLOWED: CloseFrame = (4403, "not allowed any more")
GOING_AWAY: CloseFrame = (1001, "the server is about to stop")
FAILED: CloseFrame = (1011, "something went wrong")
# After these the page only has to reconnect.
_CLOSE_BY_REASON = {None: GOING_AWAY, Reason.RENEWED: (1001, "a new session has taken its place")}


class SocketHandler(BaseHandler, WebSocketHandler):
    """A WebSocket for our own pages: write `open`, `on_message` and `on_close`, as Tornado has them.

    The handshake wants our Origin, or one of BFF_ALLOWED_ORIGINS, and a session unless `wants_session` is
    False. When that has been ended the socket is closed with 4401. The session is also looked at every
    `look_again_seconds`, which does not keep it alive. With `require`, a rule over claims, the handshake of
    a session that does not meet it is answered with 403, and a socket is closed with 4403 when claims no
    longer do. The handshake is answered with 429 if the session has `max_sockets_per_session` open, and
    with 503 if the process has `max_sockets`. An override of `prepare`, `get` or `close` must call this
    one's.

    Example::

        class Echo(SocketHandler):
            async def on_message(self, message: str | bytes) -> None:
                await self.write_message(message, binary=isinstance(message, bytes))
    """

    SUPPORTED_METHODS = ("GET",)  # of the handshake (RFC 6455 §4.1)
    renders_html = False
    retry_for_strict_cookies = False
    login_url = LOGIN_PATH

    wants_session = True
    require: ClassVar[RuleSource | None] = None
    look_again_seconds: float = 30
    ping_interval: float = 30  # no pong before the next ping closes the socket
    max_message_size = 1024 * 1024  # in bytes; a larger message closes the socket with 1009

    _sent_close_code: int | None = None
    _rule: ClassVar[Rule | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._rule = None if cls.require is None else Rule.of(cls.require)

    async def prepare(self) -> None:
        settings = self.services.settings
        refusal = socket_refusal(self.request.headers, settings.base_url, settings.allowed_origins)
        if refusal:
            raise CsrfRejected(refusal)
        await super().prepare()
        if self.wants_session and self.session is None:
            raise NoSession("there is no session")
        self.check_permission()

    def check_permission(self) -> None:
        """Raise NoSession, or NotAllowed, unless the session meets `require`."""
        if self._rule is not None and not self._rule.allows(self.require_session().claims):
            raise NotAllowed(rule=str(self._rule))

    def check_origin(self, origin: str) -> bool:
        return True  # `prepare` has a stricter check

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Shake hands, and return when the socket is closed; raises TooManyRequests, or Overloaded."""
        sockets = self.services.sockets
        if self.session:
            slot = sockets.take(self.session.ref)
        else:  # an address has any number of browsers behind it
            slot = sockets.take(
                anonymous_key_of(self.services, self.request), each=max(1, sockets.total // 4)
            )
        with slot:
            await self._converse(*args, **kwargs)

    async def _converse(self, *args: Any, **kwargs: Any) -> None:
        watcher = asyncio.create_task(self._watch())
        try:
            with self.services.in_flight_requests.including(watcher):  # the handshake ends the request itself
                await super().get(*args, **kwargs)
        finally:
            watcher.cancel()
        if self.get_status() == 101:
            extra = {"path": self.request.path, "close_code": self._sent_close_code or self.close_code}
            log.info("socket closed", extra=extra)

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        if self.ws_connection:
            self._sent_close_code = code
        super().close(code, reason)

    async def _watch(self) -> None:
        if self.ws_connection:
            self.set_nodelay(True)  # Nagle's algorithm would delay small messages
        try:
            close_frame = await self._wait_for_close()
        except Exception as error:  # without its watcher a socket would outlive the session
            close_frame = self._failed(error)
        self.close(*close_frame)

    def _failed(self, error: Exception) -> CloseFrame:
        log_failure(self.request.path, error, self.services)
        return FAILED

    async def _wait_for_close(self) -> CloseFrame:
        ref = self.session.ref if self.session else None
        news = asyncio.Event()
        with self.services.session_events.watch(ref, partial(self._on_change, news)) as signal:
            signal.add_done_callback(lambda _: news.set())
            while not signal.done():
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.look_again_seconds):
                        await news.wait()
                news.clear()
                if signal.done():
                    break
                if await self.session_is_over():
                    return await self._close_of_ended_session(ref, signal)
                if not self._is_allowed():
                    return NOT_ALLOWED
            return _CLOSE_BY_REASON.get(signal.result(), SESSION_OVER)

    def _on_change(self, news: asyncio.Event, changes: int) -> None:
        """Look at the session at once if its claims have changed since it was read."""
        if self.session is not None and changes != self.session.changes:
            news.set()

    def _is_allowed(self) -> bool:
        try:
            self.check_permission()
        except Forbidden as error:
            log_failure(self.request.path, error, self.services, self.session)
            return False
        return True

    async def _close_of_ended_session(self, ref: str | None, signal: EndSignal) -> CloseFrame:
        """The poll noticed the end before the event did: look its reason up."""
        with suppress(StoreUnavailable):
            await self.services.session_events.check([ref] if ref else [])
        return _CLOSE_BY_REASON.get(signal.result(), SESSION_OVER) if signal.done() else SESSION_OVER

    async def session_is_over(self) -> bool:
        """Read the session again; a socket that was opened without a session has none to end."""
        if self.session is None:
            return False
        with suppress(StoreUnavailable):  # says nothing about the session: the next poll decides
            self.session = await self.services.sessions.get(self.session.ref)
        return self.session is None
