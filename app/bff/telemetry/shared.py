"""Snapshots of all processes in memory that they share: each writes its own place, and any reads them all.

The parent allocates it before it forks. It is no file: none is left behind, and the file system may be
read-only.
"""

from __future__ import annotations

import logging
import marshal
import mmap
import os
import struct
import zlib

from app.bff.telemetry.metrics import Snapshot

log = logging.getLogger(__name__)

_BYTES = 4 * 1024 * 1024  # of address space for a snapshot; memory is used where one was written
_HEADER = struct.Struct("QQQQ")  # the process, offset, length and checksum of its latest snapshot
_TRIES = 3  # of a reader that is overtaken by two writes


class SharedSnapshots:
    """One place for each of `processes`, with two snapshots: the latest, and the one being written."""

    def __init__(self, processes: int) -> None:
        self._places = [mmap.mmap(-1, _HEADER.size + 2 * _BYTES) for _ in range(processes)]
        self._has_overflowed = False

    def write(self, number: int, snapshot: Snapshot) -> None:
        """Replace the snapshot of a place by that of this process."""
        body = marshal.dumps((snapshot.counts, snapshot.histograms, snapshot.gauges))
        if len(body) > _BYTES:
            if not self._has_overflowed:
                log.error("metrics are too many to be shared", extra={"bytes": len(body)})
            self._has_overflowed = True
            return
        place = self._places[number]
        _, latest, _, _ = _HEADER.unpack_from(place)
        offset = _HEADER.size + (_BYTES if latest == _HEADER.size else 0)
        place[offset : offset + len(body)] = body
        place[: _HEADER.size] = _HEADER.pack(os.getpid(), offset, len(body), zlib.crc32(body))

    def earlier(self, number: int) -> Snapshot:
        """Return what the last process at this place has counted, without its gauges."""
        found = self._read(number)
        return Snapshot(found[1].counts, found[1].histograms) if found else Snapshot()

    def all(self) -> list[Snapshot]:
        """Return the snapshot of each place: of a process that has ended, without its gauges."""
        found = [each for number in range(len(self._places)) if (each := self._read(number))]
        return [each if _lives(pid) else Snapshot(each.counts, each.histograms) for pid, each in found]

    def _read(self, number: int) -> tuple[int, Snapshot] | None:
        place = self._places[number]
        for _ in range(_TRIES):
            pid, offset, length, checksum = _HEADER.unpack_from(place)
            body = place[offset : offset + length]
            if pid and zlib.crc32(body) == checksum:
                return pid, Snapshot(*marshal.loads(body))  # noqa: S302 (of our own processes)
        return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
