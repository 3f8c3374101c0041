"""A connection that is closed when its browser reads too slowly what is written to it, or not at all."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import struct
import termios
import weakref
from contextlib import suppress
from typing import Any

from tornado.iostream import IOStream

from app.bff.proxy.patience import Patience

log = logging.getLogger(__name__)

_LOOKS_PER_STALL = 4
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: the kernel drops what was not taken, megabytes perhaps


class TimedStream(IOStream):
    """Limits how slowly the browser takes what is written to it, whatever that is: pages, files, events …"""

    def __init__(self, *args: Any, patience: Patience, **sizes: Any) -> None:
        super().__init__(*args, **sizes)
        self._patience = patience
        self._look_every_seconds = patience.stall_seconds / _LOOKS_PER_STALL
        self._taken_before = self._last_taken = 0  # bytes: when it began to wait, and when it was looked at
        self._waited = self._stalled = 0.0  # seconds: until the last byte was taken, and since
        _look_later(weakref.ref(self), self._look_every_seconds)

    def look(self) -> None:
        """Close the connection if what is written has waited for too long."""
        if not self.writing():
            return self._begin_waiting()
        taken = self._taken()
        if taken != self._last_taken:
            self._last_taken, self._waited, self._stalled = taken, self._waited + self._stalled, 0.0
        self._stalled += self._look_every_seconds
        transferred = taken - self._taken_before
        if self._stalled > self._patience.seconds_for_next(
            waited_seconds=self._waited, transferred=transferred
        ):
            log.info("connection closed: the browser does not read")
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.close()
        return None

    def _begin_waiting(self) -> None:
        self._taken_before = self._last_taken = self._taken()
        self._waited = self._stalled = 0.0

    def _taken(self) -> int:
        """Return how many bytes the browser has taken: those that the kernel still holds are not.

        The kernel accepts further bytes only when a third of its buffer, megabytes perhaps, is free.
        """
        held = bytes(4)
        with suppress(OSError):  # a kind of socket of which the system does not tell
            held = fcntl.ioctl(self.socket, termios.TIOCOUTQ, held)
        return self._total_write_done_index - int(struct.unpack("i", held)[0])


def _look_later(stream: weakref.ref[TimedStream], seconds: float) -> None:
    asyncio.get_running_loop().call_later(seconds, _look, stream, seconds)


def _look(reference: weakref.ref[TimedStream], seconds: float) -> None:
    stream = reference()  # a strong one would hold the memory of a connection that has ended
    if stream is not None and not stream.closed():
        stream.look()
        _look_later(reference, seconds)
