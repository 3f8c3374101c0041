"""Doctor: the user that the process runs as, and the memory that it may use. The probe reads both."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from app.bff.doctor.report import Finding, info, ok, warning

_WORKER_MB = 128  # a worker process takes 80 to 100 MB under load (docs/bff/operating.md)
_CGROUPS = Path("/sys/fs/cgroup")
_LIMITS = (_CGROUPS / "memory.max", _CGROUPS / "memory/memory.limit_in_bytes")  # cgroups v2, v1
_UNLIMITED = 1 << 60  # v1 reports a number close to 2**63


@dataclass(frozen=True)
class Machine:
    """`memory_mb` is None where nothing limits the memory of this container."""

    is_root: bool
    processes: int
    memory_mb: int | None


def probe_machine(processes: int) -> Machine:
    """`processes` is BFF_PROCESSES: 0 is one per core."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    limits = [limit for file in _LIMITS if (limit := _limit(file)) is not None]
    return Machine(is_root, processes or os.cpu_count() or 1, min(limits) >> 20 if limits else None)


def _limit(file: Path) -> int | None:
    try:
        limit = int(file.read_text())
    except (OSError, ValueError):  # "max"
        return None
    return limit if limit < _UNLIMITED else None


def check_machine(machine: Machine) -> list[Finding]:
    return [_user(machine), *_memory(machine)]


def _user(machine: Machine) -> Finding:
    if not machine.is_root:
        return ok("the process does not run as root")
    return info("this command runs as root: the application needs no privileges, and a user of its own")


def _memory(machine: Machine) -> list[Finding]:
    if machine.memory_mb is None:
        return []
    needed = machine.processes * _WORKER_MB
    found = f"{machine.memory_mb} MB of memory for {machine.processes} worker processes"
    if machine.memory_mb >= needed:
        return [ok(found)]
    return [warning(found, f"Allow {needed} MB ({_WORKER_MB} each), or lower BFF_PROCESSES.")]
