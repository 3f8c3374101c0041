"""Logging: JSON lines, or text in development. Messages are constant; variables and ids go into fields."""

from __future__ import annotations

import asyncio
import functools
import getpass
import json
import logging
import os
import sys
import time
from contextlib import suppress
from contextvars import ContextVar
from select import PIPE_BUF
from typing import Any, Protocol

from app.bff.crypto import Vault
from app.bff.telemetry import observer
from app.bff.telemetry.libraries import without_data

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
# The ref of the session of the request, for the audit: set in the task of the request.
acting_session: ContextVar[str | None] = ContextVar("acting_session", default=None)
trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)  # while traces are on

# Their debug and info lines are many, and nothing but data: URLs, headers, verifiers.
_QUIET = ("authlib", "httpx2", "httpcore2", "asyncio", "pymongo")
USER_LETTERS = 16  # of the keyed hash of a user: the beginning of `user` of a stored session
_to_json = json.JSONEncoder(default=str).encode
_THREAD_DEFAULTS = dict.fromkeys(("thread", "threadName", "process", "processName"))
_RECORD_DEFAULTS = vars(
    logging.makeLogRecord({"levelno": logging.INFO, "levelname": "INFO", **_THREAD_DEFAULTS})
)
_STANDARD = set(_RECORD_DEFAULTS) | {"message", "asctime", "taskName"}


def configure_logging(*, debug: bool) -> None:
    """Log to standard error: text lines if `debug`, else JSON lines."""
    handler = TerseStreamHandler() if debug else BatchingStreamHandler()
    handler.setFormatter(TextFormatter() if debug else JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Unused fields that are slow to look up: "Optimization" in Python's logging HOWTO.
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def log_audit_only() -> None:
    """Log to standard error, as JSON lines, what an audit reads (see `Audit`), and nothing else."""
    handler = TerseStreamHandler()
    handler.setFormatter(JsonFormatter())
    handler.addFilter(lambda record: hasattr(record, "audit"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def operator_name() -> str:
    """Return who runs a command: the account of the operating system, before `sudo`."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container has no name for its user
        return str(os.getuid())


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the record's `extra` fields, and the ids of the current request and trace."""
    if isinstance(record, RequestRecord):
        extra = record.fields
    else:
        extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    if trace := trace_id.get():
        extra = {"trace_id": trace, **extra}
    current = request_id.get()
    return {"request_id": current, **extra} if current else extra


class TerseStreamHandler(logging.StreamHandler[Any]):
    """Reports a record that cannot be written without its arguments: a library's may hold anything."""

    def handleError(self, record: logging.LogRecord) -> None:
        print(f"{record.pathname}:{record.lineno}: the log record cannot be written", file=sys.stderr)


class BatchingStreamHandler(TerseStreamHandler):
    """Writes the lines of one event loop iteration in one system call, the largest part of logging's cost.

    Warnings, and records of threads without an event loop, are written immediately. A write has at most
    PIPE_BUF bytes, which POSIX makes atomic: lines of several processes on one pipe stay whole.
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
            with suppress(RuntimeError):  # no running loop
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
                pass  # the reader has closed the pipe
            finally:
                self.release()


class RequestRecord(logging.LogRecord):
    """An access-log record: skips the lookup of caller, thread and process."""

    fields: dict[str, Any]

    def __init__(self, logger: str, text: str, fields: dict[str, Any]) -> None:
        vars(self).update(_RECORD_DEFAULTS, name=logger, msg=text, created=time.time(), fields=fields)
        vars(self).update(fields)


class JsonFormatter(logging.Formatter):
    """JSON. Of a library's record only text that its code contains, and numbers (see `libraries`)."""

    def format(self, record: logging.LogRecord) -> str:
        record = without_data(record)
        standard = {
            "time": _timestamp(int(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line = {**standard, **fields(record), **standard}  # a field cannot override a standard one
        if record.exc_info or record.exc_text:
            line["exception"] = record.exc_text or self.formatException(record.exc_info or (None, None, None))
        return _to_json(line)


@functools.lru_cache(maxsize=1)  # many lines share a second
def _timestamp(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(second))


class TextFormatter(logging.Formatter):
    """Text for a terminal. Of a library's record only text that its code contains, and numbers."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        return super().format(without_data(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        extra = " ".join(f"{key}={value}" for key, value in fields(record).items() if key != "request_id")
        return f"{super().formatMessage(record)} {extra}".rstrip()


class Audited(Protocol):
    """A session, as far as the audit log is concerned."""

    @property
    def ref(self) -> str: ...
    @property
    def issuer(self) -> str: ...
    @property
    def subject(self) -> str: ...


class Audit:
    """Makes the fields of log lines that an audit reads, and counts them: each event is one line.

    `audit` is the event, `user` a keyed hash by which lines of one user can be joined: who that is can be
    told only with BFF_ENCRYPTION_KEYS, by `python -m app audit-id`.
    """

    def __init__(self, vault: Vault | None = None) -> None:
        self._vault = vault

    def fields(self, event: str, session: Audited) -> dict[str, str]:
        """Return the fields of a line about a session, and count the event."""
        if observer.current.is_on:
            observer.current.audited(event)
        fields = {"audit": event, "session": session_log_id(session.ref)}
        acting = acting_session.get()
        if event == "sign_out" and acting is not None and acting != session.ref:
            fields["by"] = session_log_id(acting)
        if self._vault is None:
            return fields
        tag = self._vault.tag(f"{session.issuer} {session.subject}")
        return {**fields, "user": tag[:USER_LETTERS]}


def user_log_ids(vault: Vault, issuer: str, subject: str) -> list[str]:
    """Return what log lines call a user, under each key of the ring."""
    return [tag[:USER_LETTERS] for tag in vault.tags(f"{issuer} {subject}")]


def session_log_id(ref: str) -> str:
    """Return a prefix of a session's ref: enough to follow it through a log, too short to look it up."""
    return ref[:8]
