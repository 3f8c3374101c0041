"""Paths that a route's regular expression matches."""

from __future__ import annotations

import importlib
import re
from typing import Any

_PARSER: Any = importlib.import_module("re._parser")  # has no types, and no public name since Python 3.11
_IN_CATEGORY = {
    "CATEGORY_DIGIT": "1",
    "CATEGORY_WORD": "1",  # an id is a number more often than not
    "CATEGORY_SPACE": " ",
}
_CANDIDATES = "1x/-_. "


def example_path(pattern: re.Pattern[str]) -> str | None:
    """Return a path that the pattern matches, or None if none is found.

    >>> example_path(re.compile(r"/orders/(\\d+)$")), example_path(re.compile("/app(?:/.*)?$"))
    ('/orders/1', '/app/1')
    """
    path = _example(_PARSER.parse(pattern.pattern))
    return path if pattern.match(path) else None


def _example(tokens: Any) -> str:
    return "".join(_part(str(kind), value) for kind, value in tokens)


def _part(kind: str, value: Any) -> str:
    match kind, value:
        case "LITERAL", code:
            return chr(code)
        case "ANY", _:
            return "1"
        case "NOT_LITERAL", code:
            return next(character for character in _CANDIDATES if ord(character) != code)
        case "IN", members:
            return _member(members)
        case "BRANCH", (_, branches):
            return _example(branches[0])
        case "SUBPATTERN", (*_, tokens):
            return _example(tokens)
        case "ATOMIC_GROUP", tokens:
            return _example(tokens)
        case (("MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT"), (least, most, tokens)):
            return _example(tokens) * min(max(int(least), 1), int(most))
    return ""  # positions and look-arounds take no character


def _member(members: Any) -> str:
    """A character that a set such as `[a-z0-9]` or `[^/]` has."""
    (first, value), *_ = members
    match str(first), value:
        case "LITERAL", code:
            return chr(code)
        case "RANGE", (low, _):
            return chr(low)
        case "CATEGORY", category:
            return _IN_CATEGORY.get(str(category), "x")
    excluded = re.compile("".join(("[^", *(_as_written(*member) for member in members[1:]), "]")))
    return next((character for character in _CANDIDATES if excluded.match(character)), "")


def _as_written(kind: Any, value: Any) -> str:
    if str(kind) == "RANGE":
        return f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}"
    if str(kind) == "CATEGORY":
        classes = {"DIGIT": r"\d", "NOT_DIGIT": r"\D", "WORD": r"\w", "NOT_WORD": r"\W", "SPACE": r"\s"}
        return classes.get(str(value).removeprefix("CATEGORY_"), r"\S")
    return re.escape(chr(value))
