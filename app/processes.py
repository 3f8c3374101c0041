"""Several processes on the same sockets: forked before any loop, client or database driver exists."""

from __future__ import annotations

import os
import signal
from types import FrameType


def is_worker(processes: int) -> bool:
    """Fork `processes` workers (0: one per core) and return True in each of them.

    In the parent it returns False, once all workers have ended. A signal to stop goes to all of
    them; one that dies by itself takes the others along, and whoever supervises us starts us again.
    """
    wanted = processes or os.cpu_count() or 1
    if wanted == 1:
        return True
    workers = set()
    for _ in range(wanted):
        pid = os.fork()
        if pid == 0:
            return True
        workers.add(pid)
    _wait_for(workers)
    return False


def _wait_for(workers: set[int]) -> None:
    def stop(*_: int | FrameType | None) -> None:
        for pid in workers:
            os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while workers:
        pid, _ = os.wait()
        workers.discard(pid)
        stop()
