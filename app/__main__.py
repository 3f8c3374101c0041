"""`python -m app`: read the settings, listen, serve."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from tornado.netutil import bind_sockets

from app.errors import SettingsError
from app.main import serve
from app.observability import configure_logging
from app.processes import supervise
from app.settings import Settings


def main() -> int:
    try:
        return run(Settings.load())
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2


def run(settings: Settings) -> int:
    try:
        sockets = bind_sockets(settings.port, settings.address)
    except OSError as error:
        print(f"Cannot listen on {settings.address}:{settings.port}: {error.strerror}", file=sys.stderr)
        return 1
    configure_logging(debug=settings.debug)
    exit_code = supervise(settings.processes)
    if exit_code is None:
        with asyncio.Runner(loop_factory=fastest_loop()) as runner:
            runner.run(serve(settings, sockets))
    return exit_code or 0


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop if it is installed, the extra `speed`; else None, Python's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
