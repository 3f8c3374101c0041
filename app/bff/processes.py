"""Several processes at one address: forked before any loop, client or database driver exists."""

from __future__ import annotations

import os
import signal
import socket
from types import FrameType

from tornado.netutil import bind_sockets

Sockets = list[socket.socket]


def listening(port: int, address: str, processes: int) -> list[Sockets]:
    """Return the sockets for each of `processes` workers (0: one per core), all at the same address.

    Each has its own, and the kernel spreads connections over them; if all waited at one socket, who
    wakes up first would take all that there are.
    """
    wanted = processes or os.cpu_count() or 1
    if wanted == 1:
        return [bind_sockets(port, address)]
    first = bind_sockets(port, address, reuse_port=True)
    same_port = first[0].getsockname()[1]
    return [first, *(bind_sockets(same_port, address, reuse_port=True) for _ in range(wanted - 1))]


def supervise(sockets: list[Sockets]) -> Sockets | int:
    """Fork a worker for each entry, and return that entry in the worker; if there is only one, do not fork.

    In the parent it returns an exit code, once all workers have ended. A signal to stop goes to all of
    them; one that dies by itself takes the others along, and the exit code is then not 0, so that
    whoever supervises us starts us again.
    """
    if len(sockets) == 1:
        return sockets[0]
    workers = set()
    for own in sockets:
        pid = os.fork()
        if pid == 0:
            _close([other for other in sockets if other is not own])
            return own
        workers.add(pid)
    _close(sockets)  # a connection that arrived at a socket of ours would wait in vain
    return _wait_for(workers)


def _close(sockets: list[Sockets]) -> None:
    for each in sockets:
        for listener in each:
            listener.close()


def _wait_for(workers: set[int]) -> int:
    def stop(*_: int | FrameType | None) -> None:
        for pid in workers:
            os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    worst = 0
    while workers:
        pid, status = os.wait()
        workers.discard(pid)
        worst = max(worst, _exit_code(status))
        stop()
    return worst


def _exit_code(status: int) -> int:
    """A worker that SIGTERM has ended, before it could listen to it, has stopped as it should."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else int(code != -signal.SIGTERM)
