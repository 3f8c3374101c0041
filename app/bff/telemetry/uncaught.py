"""What Python itself would print to standard error, as records of a logger that is not ours: without data.

The message of an exception may be what a browser sent, and the repr of an object may contain it.
"""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType

log = logging.getLogger("python")


def log_uncaught_exceptions() -> None:
    """Let the interpreter's hooks log class and stack of an exception, never its message."""
    sys.excepthook = _log_the_end
    sys.unraisablehook = _log_ignored
    threading.excepthook = _log_end_of_thread


def _log_the_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("the process ends with an exception", exc_info=(kind, error, trace))


def _log_ignored(unraisable: sys.UnraisableHookArgs) -> None:
    log.error("an exception was ignored", exc_info=unraisable.exc_value)


def _log_end_of_thread(args: threading.ExceptHookArgs) -> None:
    log.error("a thread has ended with an exception", exc_info=args.exc_value)
