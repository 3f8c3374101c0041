"""Several processes on the same sockets: forked before any loop, client or database driver exists."""

from __future__ import annotations

import os
import signal
from types import FrameType


def supervise(processes: int) -> int | None:
    """Fork `processes` workers (0: one per core) and return None in each of them.

    In the parent it returns an exit code, once all workers have ended. A signal to stop goes to all of
    them; one that dies by itself takes the others along, and the exit code is then not 0, so that
    whoever supervises us starts us again.
    """
    wanted = processes or os.cpu_count() or 1
    if wanted == 1:
        return None
    workers = set()
    for _ in range(wanted):
        pid = os.fork()
        if pid == 0:
            return None
        workers.add(pid)
    return _wait_for(workers)


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
