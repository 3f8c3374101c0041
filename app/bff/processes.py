"""Worker processes at one address, forked before any event loop, client or database driver exists."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from tornado.netutil import bind_sockets

Sockets = list[socket.socket]
_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}


def bind(port: int, address: str, processes: int) -> list[Sockets]:
    """Return listening sockets for each of `processes` workers (0: one per core), all at one address.

    Each worker has sockets of its own (SO_REUSEPORT), over which the kernel balances connections; with a
    shared socket the first worker to wake up would accept most of them. Raises OSError.
    """
    count = processes or os.cpu_count() or 1
    if count == 1:
        return [bind_sockets(port, address)]
    first = bind_sockets(port, address, reuse_port=True)
    same_port = first[0].getsockname()[1]
    return [first, *(bind_sockets(same_port, address, reuse_port=True) for _ in range(count - 1))]


def supervise(sockets: list[Sockets], work: Callable[[Sockets], int]) -> int:
    """Run `work` in one forked worker per entry of `sockets`, and return the exit code of all.

    A single entry runs in this process. SIGTERM and SIGINT are passed on to every worker. A worker that
    dies by itself stops the others, and the exit code is then not 0, so that a service manager restarts
    the application.
    """
    if len(sockets) == 1:
        return work(sockets[0])
    # A signal between the first fork and the handler would end this process and orphan its workers: it
    # stays pending until `_wait_for` handles it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    workers = set()
    for own in sockets:
        pid = os.fork()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
            _close([other for other in sockets if other is not own])
            return work(own)
        workers.add(pid)
    _close(sockets)  # the kernel would queue connections at a socket that accepts none
    return _wait_for(workers)


def _close(sockets: list[Sockets]) -> None:
    for each in sockets:
        for listener in each:
            listener.close()


def _wait_for(workers: set[int]) -> int:
    """Return the highest exit code once all workers have ended; stop all when one ends, or at a signal."""

    def stop(*_: int | FrameType | None) -> None:
        for pid in list(workers):
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal.SIGTERM)

    for number in _STOP_SIGNALS:
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    worst = 0
    while workers:
        pid, status = os.wait()
        workers.discard(pid)
        worst = max(worst, _exit_code(status))
        stop()
    return worst


def _exit_code(status: int) -> int:
    """Return a worker's exit code; SIGTERM before its event loop handled signals is a normal stop."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else int(code != -signal.SIGTERM)
