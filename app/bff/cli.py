"""`python -m app`: read the settings, listen, serve; or run a command of the operator."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import sys
from argparse import Namespace
from collections.abc import Callable

from app.bff.commands.command_line import command_line
from app.bff.errors import SettingsError
from app.bff.processes import listening, supervise
from app.bff.server import Lifespan, Routes, no_lifespan, serve
from app.bff.settings.load import BffSettings
from app.bff.telemetry.logs import configure_logging


def run(settings_class: type[BffSettings], routes: Routes, lifespan: Lifespan = no_lifespan) -> int:
    """Serve, or run the command that the command line names; return the exit code."""
    args = command_line().parse_args()
    try:
        settings = settings_class.load()
        return run_command(settings, args) if args.module else run_server(settings, routes, lifespan)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2


def run_command(settings: BffSettings, args: Namespace) -> int:
    """Run a command, imported only now. It says itself what there is to say, so the log is silent."""
    logging.basicConfig(handlers=[logging.NullHandler()])
    try:
        return int(asyncio.run(importlib.import_module(args.module).run(settings, args)))
    except KeyboardInterrupt:
        return 130  # as of any program that Ctrl-C has ended


def run_server(settings: BffSettings, routes: Routes, lifespan: Lifespan) -> int:
    try:
        sockets = listening(settings.port, settings.address, settings.processes)
    except OSError as error:
        print(f"Cannot listen on {settings.address}:{settings.port}: {error.strerror}", file=sys.stderr)
        return 1
    configure_logging(debug=settings.debug)
    own_or_exit_code = supervise(sockets)
    if isinstance(own_or_exit_code, int):
        return own_or_exit_code
    collect_garbage_rarely()
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        runner.run(serve(settings, own_or_exit_code, routes, lifespan))
    return 0


def collect_garbage_rarely() -> None:
    """Let Python's collector look less often, and never at what stays as long as we do.

    Requests leave nothing for it: what they make is gone with them. It looked at all that were under
    way again and again, which took a twelfth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop if it is installed, the extra `speed`; else None, Python's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
