"""What ends a process that serves: signals, and the end of its parent. The table is in operating.md."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

log = logging.getLogger(__name__)


def nothing(*_: object) -> None:
    """The handler of a signal that is ignored; unlike SIG_IGN it is not inherited by subprocesses."""


class Shutdown:
    """`requested` is set when the process has to stop.

    `cut_short` ends what the process waits for at the moment: its start, at the first request to stop; later
    requests in flight or the end of the lifespan, with SIGQUIT or a further SIGINT. `parent` is the worker's
    end of a socket whose other end closes with the parent; then the worker stops by itself.
    """

    def __init__(self, cancel_start: Callable[[], Any], parent: socket.socket | None) -> None:
        self.requested = asyncio.Event()
        self.hurried = False
        self.cut_short = cancel_start
        self._starting = True
        self._parent = parent
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGQUIT, self._hurry)
        # A terminal sends Ctrl-C to the workers, too; their parent passes on what it means.
        loop.add_signal_handler(signal.SIGINT, self._interrupt if parent is None else nothing)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(signal.SIGHUP, self._stop)
        if parent is not None:
            loop.add_reader(parent, self._orphaned)

    def listening(self) -> None:
        """Tell the parent that the start is over; the first request to stop cuts nothing short any more."""
        self._starting, self.cut_short = False, nothing
        if self._parent is not None:
            with suppress(OSError):  # it has just ended
                self._parent.send(b"1")

    def _stop(self) -> None:
        self.requested.set()
        if self._starting:
            self.cut_short()

    def _hurry(self) -> None:
        self.hurried = True
        self.requested.set()
        self.cut_short()

    def _interrupt(self) -> None:
        if self.requested.is_set():
            self._hurry()
        else:
            self._stop()

    def _orphaned(self) -> None:
        assert self._parent is not None, "it is watched only if there is one"
        asyncio.get_running_loop().remove_reader(self._parent)
        log.warning("parent process ended")
        self._stop()
