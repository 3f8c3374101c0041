"""HTTPServer with limits: of connections, of chunk sizes that end in LF, and of what follows a refusal."""

from __future__ import annotations

import asyncio
import heapq
import logging
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, cast

from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, UnsatisfiableReadError

from app.bff.proxy.patience import Patience
from app.bff.proxy.timed_stream import TimedStream

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 10_000
_CRLF = b"\r\n"
# Nothing at all if the first LF comes without a CR, which Tornado then refuses as a size (RFC 9112 §7.1).
_SIZE_LINE = re.compile(rb"\A(?:(?=[^\n]{0,64}(?<!\r)\n)|[^\n]{0,64}\r\n)")
# Tornado closes without a response (RFC 6585 §5).
_HEADERS_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)
_LINGER_SECONDS, _LINGER_STALL_SECONDS = 30, 2  # as nginx does: lingering_time, lingering_timeout
_BACKLOG = 1024  # with a full one, the kernel lets clients wait for seconds; Tornado's is 128
_ACCEPTED_AT_ONCE = 128  # before other tasks have their turn
_IDLE_SECONDS = 0.1  # a client has so much time to begin its request before its connection may be closed
_RETRY_SECONDS = 0.1
_SECONDS_BETWEEN_WARNINGS = 60


class StrictStream(TimedStream):
    """The stream of a connection; `release` closes its socket, which the client may still be sending to."""

    has_unread_body = False  # the client may go on sending when this stream is closed
    awaits_body = False  # the handler is called when the body is complete

    def __init__(
        self, connection: socket.socket, release: Callable[[socket.socket, bool], None], **limits: Any
    ) -> None:
        super().__init__(connection, **limits)
        self.active_at = time.monotonic()  # when it was accepted, or its last request arrived
        self._release = release

    def waits(self, *, for_headers: float, for_body: float) -> bool:
        """Whether it waits for the client to complete a request, and longer than so many seconds."""
        at_headers = self._read_regex is not None and not self._reads_a_size
        if self.closed() or not (at_headers or self.awaits_body):
            return False
        return time.monotonic() - self.active_at > (for_headers if at_headers else for_body)

    def read_until(self, delimiter: bytes, max_bytes: int | None = None) -> Awaitable[bytes]:
        """Tornado's server calls it for the sizes of chunks only."""
        if delimiter != _CRLF:
            return super().read_until(delimiter, max_bytes)
        return self.read_until_regex(_SIZE_LINE.pattern, max_bytes)

    def close_fd(self) -> None:
        if isinstance(self.error, UnsatisfiableReadError) and not self._reads_a_size:
            self.has_unread_body = True
            with suppress(OSError):
                self.socket.send(_HEADERS_TOO_LARGE)
        connection, self.socket = self.socket, None  # type: ignore[assignment]
        self._release(connection, self.has_unread_body)

    @property
    def _reads_a_size(self) -> bool:
        return self._read_regex is not None and self._read_regex.pattern == _SIZE_LINE.pattern


class StrictServer(HTTPServer):
    """HTTPServer with a StrictStream for each connection, and at most `max_connections` of them.

    At the limit it closes those on which it has waited longest for a request, or for the rest of one.
    Without such a one, or without a free descriptor, it accepts none until one is closed.
    """

    body_seconds = 1.0  # a request whose body is not complete by then gives way, if it must

    def initialize(  # type: ignore[override]
        self, *args: Any, patience: Patience, max_connections: int = MAX_CONNECTIONS, **kwargs: Any
    ) -> None:
        super().initialize(*args, **kwargs)
        self._patience = patience
        self._max_connections = max_connections
        self._open = 0  # sockets: also those of WebSockets, and those that are being closed
        self._lingering: set[asyncio.Task[None]] = set()
        self._accepts = False
        self._next_warning_at = 0.0

    # Connections are accepted …

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        for listener in sockets:
            listener.listen(_BACKLOG)
            self._sockets[listener.fileno()] = listener
            self._handlers[listener.fileno()] = partial(IOLoop.current().remove_handler, listener)
        self._resume()

    def _resume(self) -> None:
        if self._accepts or self._stopped:
            return
        self._accepts = True
        for listener in self._sockets.values():
            IOLoop.current().add_handler(listener, self._accept, IOLoop.READ)

    def _pause(self) -> None:
        """Accept nothing for a moment, or until a connection is closed: the event loop would spin."""
        self._accepts = False
        for listener in self._sockets.values():
            IOLoop.current().remove_handler(listener)
        IOLoop.current().call_later(_RETRY_SECONDS, self._resume)

    def _accept(self, listener: socket.socket, events: int) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            if self._open >= self._max_connections and not self._makes_room("as many as are allowed"):
                return self._pause()
            try:
                connection, address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return None
            except OSError as error:  # no descriptor is free, or no memory
                self._makes_room(error.strerror or "")
                return self._pause()
            self._handle_connection(connection, address)
        return None

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        self._open += 1
        sizes = {"max_buffer_size": self.max_buffer_size, "read_chunk_size": self.read_chunk_size}
        strict = StrictStream(stream.socket, self._release, patience=self._patience, **sizes)
        super().handle_stream(strict, address)

    # … and closed.

    def _makes_room(self, reason: str) -> bool:
        """Close some of those that have waited longest, idle ones first: to find them takes a while."""
        self._warn(reason)
        for task in self._lingering:
            task.cancel()
        streams = [cast(StrictStream, connection.stream) for connection in self._connections]
        waiting = [s for s in streams if s.waits(for_headers=_IDLE_SECONDS, for_body=self.body_seconds)]
        longest = heapq.nsmallest(1 + len(streams) // 64, waiting, lambda s: (s.awaits_body, s.active_at))
        for stream in longest:
            stream.has_unread_body = False  # else its socket would stay open for a while
            stream.close()
        return bool(longest)

    def _release(self, connection: socket.socket, may_send: bool) -> None:
        if not may_send:
            return self._close(connection)
        task = asyncio.get_running_loop().create_task(_read_to_the_end(connection))
        self._lingering.add(task)
        task.add_done_callback(lambda _: self._close(connection))
        return task.add_done_callback(self._lingering.discard)

    def _close(self, connection: socket.socket) -> None:
        connection.close()
        self._open -= 1
        self._resume()

    async def close_all_connections(self) -> None:
        await super().close_all_connections()
        for task in self._lingering:
            task.cancel()
        await asyncio.gather(*self._lingering, return_exceptions=True)

    def _warn(self, reason: str) -> None:
        now = time.monotonic()
        if now >= self._next_warning_at:
            self._next_warning_at = now + _SECONDS_BETWEEN_WARNINGS
            extra = {"reason": reason, "connections": self._open, "limit": self._max_connections}
            log.warning("connections at their limit", extra=extra)


async def _read_to_the_end(connection: socket.socket) -> None:
    """Close one direction, and read until the client has closed the other.

    It could lose the response if its data arrived at a closed socket (RFC 9112 §9.6).
    """
    loop = asyncio.get_running_loop()
    with suppress(OSError):  # TimeoutError is one
        connection.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(_LINGER_SECONDS):
            while await asyncio.wait_for(loop.sock_recv(connection, 65_536), _LINGER_STALL_SECONDS):
                pass
