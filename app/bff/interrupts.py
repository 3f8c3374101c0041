"""Ctrl-C without a traceback, from the first import on: exit code 130, as a shell reports SIGINT."""

from __future__ import annotations

import sys
from types import TracebackType

INTERRUPTED = 130  # 128 + SIGINT


def exit_silently_when_interrupted() -> None:
    """Install an exception hook that turns an uncaught KeyboardInterrupt into a silent exit.

    Nothing else changes: a program that catches KeyboardInterrupt still does, and so does a Python prompt.
    """
    earlier = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        causes = (error, error.__cause__)  # Python itself wraps what is raised while a class is made
        if any(isinstance(each, KeyboardInterrupt) for each in causes) and not hasattr(sys, "ps1"):
            raise SystemExit(INTERRUPTED)
        earlier(kind, error, trace)

    sys.excepthook = hook


exit_silently_when_interrupted()
