"""The command line, `python -m app`: serves requests, or runs an operator's command."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import signal
import socket
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from app.bff.errors import LifespanFailed, SettingsError
from app.bff.hooks import Hooks
from app.bff.interrupts import INTERRUPTED
from app.bff.processes import Sockets, bind, supervise
from app.bff.server import Lifespan, Routes, no_lifespan, serve
from app.bff.settings.load import load_settings
from app.bff.settings.models import BffSettings
from app.bff.settings.otlp import wants_pushed_metrics, wants_traces
from app.bff.shutdown import nothing
from app.bff.telemetry.logs import configure_logging, log_audit_only, operator_name
from app.bff.telemetry.uncaught import log_uncaught_exceptions
from app.bff.version import describe_versions

log = logging.getLogger(__name__)

_SERVE = "Without a command: serve requests until SIGTERM or Ctrl-C."
_EXIT_CODES = "Settings come from the environment and from .env; exit code 2: the settings are wrong."
_DOCTOR = (
    "Check the settings against the provider and what is registered there, MongoDB, keys, cookies, proxies"
    " and APIs. Exit code 0: nothing is wrong (there may be warnings); 1: something is; 2: the settings are."
)
_SESSIONS = (
    "List sessions, one per line, separated by tabs: public id, user, device, created, last used, expires."
    " Or end them: for every process at once; their refresh tokens are revoked."
    " Exit code 0: done, even if there was none; 1: the session store does not answer."
)
_ROTATE_KEYS = (
    "Re-encrypt the session store with the first key of BFF_ENCRYPTION_KEYS, while the application runs."
    " Exit code 0: the old keys can be removed; 1: records are left, and the output names them."
)
_SETTINGS = (
    "Print every setting, its value as JSON and where it comes from (environment, .env, a file, the default),"
    " separated by tabs. Secrets are hidden."
)
_AUDIT_ID = (
    "Print the field `user` of log lines about a user: a keyed hash. One line for each key of"
    " BFF_ENCRYPTION_KEYS; the lines of now have the first one."
)
_AUDITED = ("sessions", "rotate-keys", "audit-id")  # the other commands change and show nothing of users
_SID = "sessions that belong to this session of the provider; --sid=SID if it begins with a dash"


def run(
    settings_class: type[BffSettings],
    routes: Routes,
    lifespan: Lifespan = no_lifespan,
    *,
    hooks: Hooks | None = None,
) -> int:
    """Serve the application, or run the command that the command line names; return the exit code.

    `routes` are Tornado's (`url(…)`, or tuples); the engine's own routes come first. `lifespan` is an
    asynchronous context manager, entered in each worker process before its first request and left when its
    last request is answered. What it yields is `self.state` in every handler. What it raises ends the process
    with one line on stderr (the log has the traceback), as does a task group in it that fails. `hooks` are
    called when users sign in and out.

    Exit code 0: stopped by a signal; 1: the port is taken, or the lifespan failed; 2: the settings are wrong,
    with a line for each mistake, also those that the lifespan raises as SettingsError; 130: Ctrl-C before the
    lifespan was entered, or during a command.

    Example::

        import asyncio
        from collections.abc import AsyncIterator
        from contextlib import asynccontextmanager

        class Prices:
            def __init__(self) -> None:
                self.current: dict[str, int] = {}

            async def keep_current(self) -> None:
                while True:
                    self.current = {"tulips": 3}
                    await asyncio.sleep(60)

        @asynccontextmanager
        async def lifespan(services: Services) -> AsyncIterator[Prices]:
            prices = Prices()
            async with asyncio.TaskGroup() as jobs:
                job = jobs.create_task(prices.keep_current())
                yield prices  # self.state
                job.cancel()

        class ShowPrices(ApiHandler):
            def get(self) -> None:
                self.finish_json(self.state.current)

        ROUTES = [url("/prices", ShowPrices)]

        if __name__ == "__main__":
            raise SystemExit(run(BffSettings, ROUTES, lifespan))
    """
    args = command_line().parse_args()
    if args.version:
        print(describe_versions())
        return 0
    try:
        settings = load_settings(settings_class)
        if args.module:
            return run_command(settings, Namespace(**vars(args), lifespan=lifespan, hooks=hooks))
        return run_server(settings, routes, lifespan, hooks)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:  # the interpreter waits for threads, and an interrupt meanwhile would print a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def command_line() -> ArgumentParser:
    """Return the parser; `module` names the command's module, whose `run(settings, args)` is awaited."""
    parser = ArgumentParser("python -m app", description=_SERVE, epilog=_EXIT_CODES)
    parser.set_defaults(module=None)
    parser.add_argument("--version", action="store_true", help="print the versions")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    doctor = commands.add_parser("doctor", help="check settings and surroundings", description=_DOCTOR)
    doctor.set_defaults(module="app.bff.doctor.command")
    doctor.add_argument("--json", action="store_true", help="for machines")

    settings = commands.add_parser("settings", help="print every setting", description=_SETTINGS)
    settings.set_defaults(module="app.bff.commands.settings")
    settings.add_argument("--json", action="store_true", help="for machines")

    sessions = commands.add_parser("sessions", help="list or end sessions", description=_SESSIONS)
    sessions.set_defaults(module="app.bff.commands.sessions")
    actions = sessions.add_subparsers(dest="action", metavar="list|end", required=True)
    _add_selection(actions.add_parser("list", help="all of them without a selection"), required=False)
    _add_selection(actions.add_parser("end", help="at once, without confirmation"), required=True)

    rotate_keys = commands.add_parser(
        "rotate-keys", help="re-encrypt the session store with the first key", description=_ROTATE_KEYS
    )
    rotate_keys.set_defaults(module="app.bff.commands.rotate_keys")

    audit_id = commands.add_parser("audit-id", help="what log lines call a user", description=_AUDIT_ID)
    audit_id.set_defaults(module="app.bff.commands.audit_id")
    audit_id.add_argument("--user", metavar="SUB", required=True, help="the `sub` of the user")
    audit_id.add_argument("--issuer", metavar="URL", help="of the tenant, if there are several")
    return parser


def _add_selection(parser: ArgumentParser, *, required: bool) -> None:
    selection = parser.add_mutually_exclusive_group(required=required)
    selection.add_argument("--user", metavar="SUB", help="sessions of the user with this `sub`")
    selection.add_argument("--sid", metavar="SID", help=_SID)
    selection.add_argument("--all", action="store_true", help="sessions of all users")


def run_command(settings: BffSettings, args: Namespace) -> int:
    """Import and run a command. It prints its own output, so only the log lines of an audit are written."""
    log_audit_only()
    code = int(asyncio.run(importlib.import_module(args.module).run(settings, args)))
    name = args.module.rpartition(".")[2].replace("_", "-")
    if name in _AUDITED:
        command = " ".join([name, *([args.action] if "action" in args else [])])
        fields = {"command": command, "exit_code": code, "operator": operator_name()}
        log.info("operator command", extra={"audit": "operator_command", **fields})
    return code


def run_server(settings: BffSettings, routes: Routes, lifespan: Lifespan, hooks: Hooks | None = None) -> int:
    """Serve in `settings.processes` worker processes until a signal; return the exit code."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # by default they end a process
        signal.signal(number, nothing)
    try:
        sockets = bind(settings.port, settings.address, settings.processes)
    except (OSError, UnicodeError) as error:
        return _cannot_listen(settings.address, settings.port, error)
    configure_logging(debug=settings.debug)
    try:
        telemetry = telemetry_of(settings, len(sockets))
    except (OSError, UnicodeError) as error:
        return _cannot_listen(settings.metrics_address, settings.metrics_port, error)
    log_uncaught_exceptions()

    def work(own: Sockets, parent: socket.socket | None, number: int) -> int:
        collect_garbage_rarely()
        with asyncio.Runner(loop_factory=fastest_loop()) as runner:
            try:
                runner.run(serve(settings, own, routes, lifespan, parent, telemetry(number), hooks))
            except LifespanFailed as error:
                print(error, file=sys.stderr)
                return 1
        return 0

    return supervise(sockets, work)


def _cannot_listen(address: str, port: int, error: Exception) -> int:
    reason = error.strerror if isinstance(error, OSError) else "it is no host name"
    print(f"Cannot listen on {address}:{port}: {reason}", file=sys.stderr)
    return 1


def telemetry_of(settings: BffSettings, processes: int) -> Callable[[int], AbstractAsyncContextManager[Any]]:
    """Return what the process of a number enters; nothing is loaded for it if it is off.

    Raises OSError if the port of the metrics is taken, UnicodeError if their address is none.
    """
    if not (settings.metrics_port or wants_traces(os.environ) or wants_pushed_metrics(os.environ)):
        return nullcontext
    from app.bff.monitoring.process import Telemetry

    return Telemetry(settings, processes=processes).of


def collect_garbage_rarely() -> None:
    """Exclude long-lived objects from garbage collection, and run it less often.

    Requests leave no reference cycles. With the default threshold the collector traversed all in-flight
    requests again and again: 8 % of the CPU time under load.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop factory if it is installed (extra `speed`), else None: asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
