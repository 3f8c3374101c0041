"""The front end that a project builds by itself, in `frontend/`: installs, checks and serves it, with npm.

`python -m app.bff.dev.frontend` runs the scripts of `frontend/package.json` that check and build it.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from app.bff.dev.children import child, exit_code
from app.bff.paths import PROJECT

FOLDER = PROJECT / "frontend"
CHECKS = ("lint", "typecheck", "test", "build")
OLDEST_NODE = (20, 19)  # that Vite 8 runs on
NO_NODE = """\
frontend/ needs Node.js 20.19 or newer, with npm: {}.
Install it from https://nodejs.org, with nvm, or as a package (apt-get install nodejs npm)."""
_VERSION = re.compile(r"v(\d+)\.(\d+)\.")


def is_there(folder: Path = FOLDER) -> bool:
    return (folder / "package.json").is_file()


def missing_node(which: Callable[[str], str | None], version: Callable[[], str]) -> str | None:
    """Return what is wrong with Node.js and npm, or None. `version` is asked only where both are there."""
    for name in ("node", "npm"):
        if not which(name):
            return f"{name} is not there"
    found = _VERSION.match(said := version())
    numbers = (int(found[1]), int(found[2])) if found else (0, 0)
    return None if numbers >= OLDEST_NODE else f"this is {said.strip() or 'unknown'}"


def node_version() -> str:
    return subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout


def install(folder: Path = FOLDER) -> None:
    """Install what package-lock.json names, unless that is done. Raises SystemExit with what to do."""
    if missing := missing_node(shutil.which, node_version):
        raise SystemExit(NO_NODE.format(missing))
    stamp = folder / "node_modules/.installed"
    if is_newer(stamp, [folder / "package.json", folder / "package-lock.json"]):
        return
    print("Installing what frontend/ needs; the first time this takes half a minute …", flush=True)
    command = "ci" if (folder / "package-lock.json").is_file() else "install"
    npm(folder, command, "--no-audit", "--no-fund", "--loglevel=error")
    stamp.parent.mkdir(exist_ok=True)  # without dependencies npm makes none
    stamp.touch()


def is_newer(stamp: Path, sources: list[Path]) -> bool:
    times = [source.stat().st_mtime_ns for source in sources if source.is_file()]
    return stamp.is_file() and stamp.stat().st_mtime_ns > max(times)


def npm(folder: Path, *arguments: str) -> None:
    """Raises SystemExit with npm's code; npm has said why."""
    if code := subprocess.run(["npm", *arguments], cwd=folder, check=False).returncode:
        raise SystemExit(exit_code(code))


def check(folder: Path = FOLDER) -> None:
    install(folder)
    for script in CHECKS:
        npm(folder, "run", "--silent", "--if-present", script)


@asynccontextmanager
async def development_server(port: int, folder: Path = FOLDER) -> AsyncIterator[Mapping[str, str]]:
    """Run the script `dev` on a port until the block is left; yield the setting that names it."""
    task = asyncio.create_task(_keep_running(port, folder))
    try:
        yield {"BFF_SPA": f"http://127.0.0.1:{port}"}
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _keep_running(port: int, folder: Path) -> None:
    """Start it again when its configuration changes, after it has ended: a mistake there ends it."""
    # With a stdin of its own: some servers end with it, and a terminal's belongs to this process.
    command = ("npm", "run", "--silent", "dev", "--", "--host", "127.0.0.1", "--port", str(port))
    while True:
        async with child(*command, cwd=folder, stdin=PIPE) as server:
            code = exit_code(await server.wait())
        print(
            f"The development server of frontend/ ended with exit code {code}. "
            "It starts again when a file directly in frontend/ changes.",
            flush=True,
        )
        before = _times(folder)
        while _times(folder) == before:  # noqa: ASYNC110  the file system sets no event
            await asyncio.sleep(0.2)


def _times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}


if __name__ == "__main__":
    if is_there():
        check()
    sys.exit()
