"""What is written of a library's log record: text that is a constant of the code, and numbers.

Libraries log what they could not parse: Tornado writes a malformed request's Cookie. A list of such messages
would never be complete, so the rule is the other way round, an allow-list:

- the message, if it is a constant in the source of the code that logs it; arguments that are numbers, or
  files of this project
- of an exception its class, `errno` and stack of source lines, without its message
- no `extra` fields

Everything else becomes `…`.
"""

from __future__ import annotations

import copy
import errno
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

from app.bff.paths import PROJECT

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"taskName"}
_WITHHELD = "…"
_OURS = ("app", "__main__")
_WARNINGS = "py.warnings"  # logging.captureWarnings: "path:line: Category: text"
_WARNING = re.compile(r"(?P<place>[^\n]+?:\d+: \w+): (?P<text>.*)\n", re.DOTALL)
_CONVERSION = re.compile(r"%%|%(\(\w+\))?[-#0 +]*(\*|\d+)?(\.(\*|\d+))?[hlL]?[a-zA-Z]")
_MAX_FRAMES = 40
# asyncio composes its messages at run time. Each begins with one of these.
_COMPOSED = (
    "Exception in callback",
    "Future exception was never retrieved",
    "Task exception was never retrieved",
    "Task was destroyed but it is pending!",
    "Unclosed client session",
    "Unclosed connection",
    "Unclosed connector",
)


def is_ours(logger: str) -> bool:
    """Whether a logger belongs to this application: `app`, and those below it."""
    return logger.partition(".")[0] in _OURS


def without_data(record: logging.LogRecord) -> logging.LogRecord:
    """Return the record, or a library's without anything that it may have received.

    Must be called while the record is being logged: it looks for the message on the stack.
    """
    if is_ours(record.name):
        return record
    clean = copy.copy(record)
    for name in set(vars(record)) - _STANDARD:
        delattr(clean, name)
    clean.msg, clean.args = _text(record), None
    clean.exc_info, clean.exc_text = None, _stack(record)
    return clean


def _text(record: logging.LogRecord) -> str:
    text = str(record.msg)
    if record.name == _WARNINGS:
        return _warning_text(record.getMessage())
    if not _is_constant(text):
        return next((start for start in _COMPOSED if text.startswith(start)), _WITHHELD)
    return _with_numbers(text, record.args) if record.args else text


def _warning_text(message: str) -> str:
    found = _WARNING.match(message)
    if found is None:
        return _WITHHELD
    text = found["text"].partition("\n")[0]
    return f"{found['place']}: {text if _is_constant(text) else _WITHHELD}"


def _with_numbers(template: str, args: Any) -> str:
    is_mapping = isinstance(args, Mapping)
    shown = {key: _argument(args[key]) for key in args} if is_mapping else tuple(map(_argument, args))
    try:
        return _CONVERSION.sub(_as_text, template) % shown
    except (TypeError, ValueError, KeyError):
        return template


def _as_text(conversion: re.Match[str]) -> str:
    """Arguments are text now: `%d` becomes `%s`."""
    return conversion[0] if conversion[0] == "%%" else f"%{conversion[1] or ''}s"


def _argument(value: object) -> str:
    if value is None or isinstance(value, int | float):
        return str(value) if not isinstance(value, int) or abs(value) < 2**63 else _WITHHELD
    if isinstance(value, str) and value.startswith(f"{PROJECT}{os.sep}") and os.path.isfile(value):
        return value  # a file of this project: Tornado names the one for which it reloads
    return _name(value) if isinstance(value, BaseException) else _WITHHELD


def _is_constant(text: str) -> bool:
    """Whether the code that runs now contains `text` as it is."""
    return any(text in code.co_consts for code in _running())


def _running() -> Iterator[CodeType]:
    frame = sys._getframe(1)
    for _ in range(_MAX_FRAMES):
        yield frame.f_code
        if frame.f_back is None:
            return
        frame = frame.f_back


def _stack(record: logging.LogRecord) -> str | None:
    error = record.exc_info[1] if record.exc_info else None
    return "".join(_lines(error)).rstrip() if error is not None else None


def _lines(error: BaseException, visited: frozenset[int] = frozenset()) -> Iterator[str]:
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None and id(earlier) not in visited:
        yield from _lines(earlier, visited | {id(error)})
        yield "\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{_name(error)}\n"


def _name(error: BaseException) -> str:
    name = type(error).__qualname__
    number = error.errno if isinstance(error, OSError) else None
    return f"{name} {errno.errorcode.get(number, number)}" if number is not None else name
