"""`python -m app`: read the settings, listen, serve."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from app.errors import SettingsError
from app.main import serve
from app.observability import configure_logging
from app.processes import listening, supervise
from app.settings import Settings


def main() -> int:
    try:
        return run(Settings.load())
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2


def run(settings: Settings) -> int:
    try:
        sockets = listening(settings.port, settings.address, settings.processes)
    except OSError as error:
        print(f"Cannot listen on {settings.address}:{settings.port}: {error.strerror}", file=sys.stderr)
        return 1
    configure_logging(debug=settings.debug)
    own_or_exit_code = supervise(sockets)
    if isinstance(own_or_exit_code, int):
        return own_or_exit_code
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        runner.run(serve(settings, own_or_exit_code))
    return 0


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop if it is installed, the extra `speed`; else None, Python's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
