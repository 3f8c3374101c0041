"""The programs that a measurement needs, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.machine import taskset
from tests.bff.subprocesses import free_ports, is_listening

ROOT = Path(__file__).parent.parent
_PATIENCE_SECONDS = 20


class Server:
    """A program that listens on `port` of 127.0.0.1; what it says goes to a file in `folder`."""

    def __init__(
        self, command: Iterable[str], folder: Path, port: int, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._command = list(command)
        self._output = folder / f"output-{port}"
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process, "it does not run"
        return self._process.pid

    def __enter__(self) -> Self:
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                self._command, cwd=self._output.parent, env=self._environment, stdout=output, stderr=output
            )
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not is_listening(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self._command} did not start:\n{self._output.read_text()[-2000:]}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        assert self._process
        self._process.terminate()
        try:
            self._process.wait(timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def nginx(conf: str, folder: Path, port: int, cores: Iterable[int]) -> Server:
    file = folder / f"nginx-{port}.conf"
    file.write_text(conf)
    return Server([*taskset(cores), "nginx", "-c", str(file)], folder, port)


def control(folder: Path, cores: Iterable[int], *, upstream: str) -> Server:
    port = free_ports()
    command = [sys.executable, "-m", "bench.control", str(port), upstream]
    return Server([*taskset(cores), *command], folder, port)


def application(folder: Path, cores: Iterable[int], settings: Mapping[str, str], **changed: str) -> Server:
    """`python -m app` as it runs in production."""
    port = free_ports()
    own = {"BFF_PORT": str(port), "BFF_BASE_URL": f"http://localhost:{port}"}
    command = [*taskset(cores), sys.executable, "-m", "app"]
    return Server(command, folder, port, environment={**settings, **own, **changed})


def application_settings(*, store: str, key: str, upstream: str, **api: Any) -> dict[str, str]:
    """Settings of an application that forwards `/api` to `upstream`; nobody has to sign in."""
    client = {"base_url": f"{upstream}/", "token": "user", "max_connections": 2000}
    return {
        "BFF_ISSUER": "http://127.0.0.1:9",  # nobody is there, and nobody has to be
        "BFF_LOG_REQUESTS": "false",  # nobody here logs them
        "BFF_CLIENT_ID": "bench",
        "BFF_CLIENT_SECRET": "bench",
        "BFF_ENCRYPTION_KEYS": key,
        "BFF_SESSION_STORE": store,
        "BFF_HTTP_CLIENTS": json.dumps({"apiClient": client}),
        "BFF_REMOTE_APIS": json.dumps([{"path": "/api", "client": "apiClient", **api}]),
    }
