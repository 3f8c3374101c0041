"""Doctor: the files with secrets, and who else on this machine may read them. The probe reads their mode."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path

from app.bff.doctor.report import Finding, ok, warning, wrong
from app.bff.settings.models import ENV_FILE, BffSettings
from app.bff.settings.sources import read_variables, secret_files


def probe_files(settings: BffSettings) -> dict[Path, int]:
    """Return the mode of each file with secrets that exists; nothing on systems without file modes."""
    keys = [settings.client_key_file] if settings.client_key_file else []
    files = [Path(ENV_FILE), *keys, *secret_files(type(settings), read_variables()).values()]
    return {
        file: stat.S_IMODE(file.stat().st_mode) for file in files if os.name == "posix" and file.is_file()
    }


def check_files(modes: Mapping[Path, int]) -> list[Finding]:
    """`modes` are those that `probe_files` returned."""
    return [_mode(str(file), mode) for file, mode in modes.items()]


def _mode(file: str, mode: int) -> Finding:
    advice = f"chmod 600 {shlex.quote(file)}"
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return wrong(f"{file} has mode {mode:03o}: others than its owner may change it", advice)
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        return warning(f"{file} has mode {mode:03o}: others than its owner may read its secrets", advice)
    return ok(f"{file} has mode {mode:03o}: for its owner only")
