"""The machine: which cores it has, who runs where, and what a process costs."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("tornado", "aiohttp", "motor", "pymongo", "uvloop")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Places:
    """The cores of what is measured, and those of everything else."""

    measured: tuple[int, ...]
    others: tuple[int, ...]


def places(cores: Sequence[int], processes: int) -> Places:
    """Give each measured process a core of its own, if one is left for the others; else all share all."""
    if len(cores) > processes:
        return Places(tuple(cores[:processes]), tuple(cores[processes:]))
    return Places(tuple(cores), tuple(cores))


def cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def taskset(cores: Iterable[int]) -> list[str]:
    """What stands before a command that is to run on these cores."""
    return ["taskset", "-c", ",".join(map(str, cores))]


def tree(pid: int) -> list[int]:
    """The process, its children, and theirs."""
    children = [child for file in Path(f"/proc/{pid}/task").glob("*/children") for child in _numbers(file)]
    return [pid, *(each for child in children for each in tree(child))]


def _numbers(file: Path) -> list[int]:
    return [int(number) for number in file.read_text().split()]


def cpu_seconds(pids: Iterable[int]) -> float:
    """What these processes have used so far."""
    return sum(_cpu_ticks(pid) for pid in pids if _is_there(pid)) / _TICKS_PER_SECOND


def _cpu_ticks(pid: int) -> int:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = after_name[11:13]  # fields 14 and 15 of proc(5); the third is the first after the name
    return int(user) + int(system)


def rss_mb(pids: Iterable[int]) -> float:
    return sum(_status_kb(pid, "VmRSS") for pid in pids if _is_there(pid)) / 1024


def _is_there(pid: int) -> bool:
    """A helper of nginx's looks at its cache once, and leaves."""
    return Path(f"/proc/{pid}/stat").exists()


def peak_rss_mb(pid: int) -> float:
    """The most since `forget_peak`."""
    return _status_kb(pid, "VmHWM") / 1024


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): resets VmHWM to what is used now


def _status_kb(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def description() -> dict[str, str]:
    """What a reader has to know of this machine."""
    return {
        "processor": f"{_processor()}, {len(cores())} cores",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "nginx": _first_line("nginx", "-v").rpartition("/")[2],
        "wrk": " ".join(_first_line("wrk", "-v").split()[1:3]),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _first_line(*command: str) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return (said.stderr + said.stdout).splitlines()[0]
