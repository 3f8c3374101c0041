"""Logs: past tense, constant text, everything variable in fields, never a secret."""

from __future__ import annotations

import functools
import json
import logging
import time
from contextvars import ContextVar
from typing import Any

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

# Libraries that write what they send to the log: URLs, headers, verifiers.
_QUIET = ("authlib", "httpx2", "httpcore2", "asyncio", "pymongo")
_to_json = json.JSONEncoder(default=str).encode
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure_logging(*, debug: bool) -> None:
    """Log to standard error: words for a person in development, JSON lines otherwise."""
    handler = logging.StreamHandler()
    handler.setFormatter(WordsFormatter() if debug else JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Not in our lines, and slow to find out: see "Optimization" in Python's logging HOWTO.
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return what was passed as `extra`, and the id of the request it happened in."""
    extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    current = request_id.get()
    return {"request_id": current, **extra} if current else extra


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        standard = {
            "time": _written_out(int(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line = {**standard, **fields(record), **standard}  # a field cannot pose as one of the line's own
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _to_json(line)


@functools.lru_cache(maxsize=1)  # hundreds of lines have the same second
def _written_out(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(second))


class WordsFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        extra = " ".join(f"{key}={value}" for key, value in fields(record).items() if key != "request_id")
        return f"{super().formatMessage(record)} {extra}".rstrip()


def short(ref: str) -> str:
    """Return enough of a session's ref to follow it through a log, and too little to find it with."""
    return ref[:8]
