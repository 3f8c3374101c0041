"""Logs: past tense, constant text, everything variable in fields, never a secret."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import time
from contextlib import suppress
from contextvars import ContextVar
from select import PIPE_BUF
from typing import Any

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

# Libraries that write what they send to the log: URLs, headers, verifiers.
_QUIET = ("authlib", "httpx2", "httpcore2", "asyncio", "pymongo")
_to_json = json.JSONEncoder(default=str).encode
_UNKNOWN = dict.fromkeys(("thread", "threadName", "process", "processName"))
_UNASKED = vars(logging.makeLogRecord({"levelno": logging.INFO, "levelname": "INFO", **_UNKNOWN}))
_STANDARD = set(_UNASKED) | {"message", "asctime", "taskName"}


def configure_logging(*, debug: bool) -> None:
    """Log to standard error: words for a person in development, JSON lines otherwise."""
    handler = logging.StreamHandler() if debug else BatchingStreamHandler()
    handler.setFormatter(TextFormatter() if debug else JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Not in our lines, and slow to find out: see "Optimization" in Python's logging HOWTO.
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return what was passed as `extra`, and the id of the request it happened in."""
    if isinstance(record, RequestRecord):
        extra = record.fields
    else:
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    current = request_id.get()
    return {"request_id": current, **extra} if current else extra


class BatchingStreamHandler(logging.StreamHandler[Any]):
    """Writes what one turn of the event loop has logged at once: to write costs more than all the rest.

    Warnings are written immediately, and so is what a thread without a loop logs. Never more than
    PIPE_BUF bytes at once, so that the lines of several processes do not break each other in a pipe.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []
        self._size = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + self.terminator
        except Exception:
            self.handleError(record)
            return
        if self._size + len(line) > PIPE_BUF:
            self.flush()
        self._lines.append(line)
        self._size += len(line)
        self._flush_soon(record)

    def _flush_soon(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            with suppress(RuntimeError):  # there is no loop here
                asyncio.get_running_loop().call_soon(self.flush)
                return
        self.flush()

    def flush(self) -> None:
        if self._lines:
            self.acquire()
            try:
                lines, self._lines, self._size = self._lines, [], 0
                self.stream.write("".join(lines))
                self.stream.flush()
            except (OSError, ValueError):
                pass  # nobody reads it any more
            finally:
                self.release()


class RequestRecord(logging.LogRecord):
    """A record for the line that every request writes.

    Nobody asks which line of the code, thread and process it comes from, and logging would find out.
    """

    fields: dict[str, Any]

    def __init__(self, logger: str, text: str, fields: dict[str, Any]) -> None:
        vars(self).update(_UNASKED, name=logger, msg=text, created=time.time(), fields=fields)
        vars(self).update(fields)


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


class TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        extra = " ".join(f"{key}={value}" for key, value in fields(record).items() if key != "request_id")
        return f"{super().formatMessage(record)} {extra}".rstrip()


def short(ref: str) -> str:
    """Return enough of a session's ref to follow it through a log, and too little to find it with."""
    return ref[:8]
