"""Rules over claims: who may do what. Pure.

A rule names claims, and for each the values of which it must have one: `{"groups": ["admins", "ops"]}`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import iscoroutinefunction
from typing import Any

from app.bff.errors import UsageError

Claims = Mapping[str, Any]
Value = str | bool | int | float
# In no other claim a space separates values: "Domain Admins" is one group, and "Ops Manager" one title.
_SPACE_SEPARATED = ("scope", "scp")  # RFC 8693 §4.2; Entra's and Okta's name for it
Path = tuple[tuple[str, "Path"], ...]  # names to look for, the longest first, each with the path below it


@dataclass(frozen=True)
class Condition:
    """One claim of a rule, and the values of which it must have one."""

    claim: str
    values: tuple[Value, ...]

    def holds(self, claims: Claims) -> bool:
        value = claims.get(self.claim)
        if value is None:
            value = _found(claims, self._path)
        if isinstance(value, str):
            if not self._is_space_separated:
                return self._matches(value)
            value = value.split(" ")
        if not isinstance(value, list | tuple):
            return self._matches(value)
        return any(map(self._matches, value))

    def _matches(self, member: object) -> bool:
        """Whether a claim, or a member of it, is one of the values; types are never converted."""
        if isinstance(member, str):
            if member in self._texts:
                return True
            glob = self._glob  # for text without control characters, such as line breaks
            return glob is not None and member.isprintable() and glob.fullmatch(member) is not None
        if isinstance(member, bool):
            return member in self._booleans
        return isinstance(member, int | float) and member in self._numbers

    @cached_property
    def _path(self) -> Path:
        """Every way to read the name: its dots separate the names of nested claims, or belong to one."""
        parts = self.claim.split(".")
        paths: list[Path] = [()]  # those of the rest of the name, the longest rest first
        for start in reversed(range(len(parts))):
            ends = range(len(parts), start, -1)
            paths.insert(0, tuple((".".join(parts[start:end]), paths[end - start - 1]) for end in ends))
        return paths[0]

    @cached_property
    def _is_space_separated(self) -> bool:
        return self.claim.rpartition(".")[2] in _SPACE_SEPARATED

    @cached_property
    def _texts(self) -> frozenset[str]:
        return frozenset(value for value in self.values if isinstance(value, str))

    @cached_property
    def _glob(self) -> re.Pattern[str] | None:
        """All patterns as one, in which `*` stands for any characters, also none; no text is empty."""
        globs = [text for text in self._texts if "*" in text]
        return re.compile(f"(?=.)(?:{'|'.join(map(_glob, globs))})") if globs else None

    @cached_property
    def _booleans(self) -> frozenset[bool]:
        return frozenset(value for value in self.values if isinstance(value, bool))

    @cached_property
    def _numbers(self) -> frozenset[float]:
        return frozenset(value for value in self.values if not isinstance(value, bool | str))

    @property
    def names(self) -> set[str]:
        """The claims in which the value may be: of a name with dots, all that it may begin with."""
        return {name for name, _ in self._path}

    def __str__(self) -> str:
        values = (value if isinstance(value, str) else json.dumps(value) for value in self.values)
        return f"{self.claim} is {' or '.join(values)}"


@dataclass(frozen=True)
class Rule:
    """Conditions that claims must meet, all of them; or a function of the claims.

    A claim meets its condition if it is one of the values, or a list with one of them as a member. Text is
    compared letter for letter, and with a `*` in it as a glob; `scope` and `scp` are lists, separated by
    spaces. Types are never converted: neither 1 nor "true" is `true`. A name with dots is looked for as it
    is, then as a path into nested claims. A claim that is missing, `null`, empty or an object meets none.

    >>> rule = Rule.of({"groups": ["admins", "ops"], "email_verified": True})
    >>> str(rule)
    'groups is admins or ops, and email_verified is true'
    >>> rule.allows({"groups": ["staff", "ops"], "email_verified": True})
    True
    >>> rule.allows({"groups": ["staff", "ops"]})
    False
    """

    conditions: tuple[Condition, ...] = ()
    function: Callable[[Claims], bool] | None = None

    @classmethod
    def of(cls, source: RuleSource) -> Rule:
        """Return the rule that a mapping states, or a function is. Raises ValueError, with every mistake."""
        if isinstance(source, Rule):
            return source
        if callable(source):
            if iscoroutinefunction(source):
                raise ValueError(f"the rule {_name(source)} must not be a coroutine function")
            return cls(function=source)
        if not isinstance(source, Mapping):
            raise ValueError('a rule is an object of claims and values, such as {"groups": "admins"}')
        if mistakes := _mistakes(source):
            raise ValueError("; ".join(mistakes))
        return cls(tuple(Condition(claim, _values(value)) for claim, value in source.items()))

    def allows(self, claims: Claims) -> bool:
        """Whether the claims meet the rule. What a function raises passes on.

        Raises UsageError for a function that returns something else than True or False: most objects are
        true, a coroutine among them.
        """
        if self.function is None:
            for condition in self.conditions:
                if not condition.holds(claims):
                    return False
            return bool(self.conditions)
        allowed = self.function(claims)
        if not isinstance(allowed, bool):
            raise UsageError(f"the rule {self} returned {type(allowed).__name__}, and not True or False")
        return allowed

    @property
    def names(self) -> set[str]:
        """The claims that it looks at, as far as it says so: a function does not."""
        return {name for condition in self.conditions for name in condition.names}

    def __str__(self) -> str:
        """Return the rule in words, for a log."""
        return _name(self.function) if self.function else ", and ".join(map(str, self.conditions))


RuleSource = Mapping[str, object] | Callable[[Claims], bool] | Rule


def _glob(text: str) -> str:
    """Return a glob as a regular expression; atomic groups (`(?>…)`) make the time linear."""
    first, *inner, last = map(re.escape, text.split("*"))
    return first + "".join(f"(?>.*?{part})" for part in inner) + ".*" + last


def _found(claims: Claims, path: Path) -> object:
    """Return what the claims have there, or None: the longest name counts that is there."""
    for name, below in path:
        value = claims.get(name)
        if not below and name in claims:
            return value
        if below and isinstance(value, Mapping):
            return _found(value, below)
    return None


def _values(value: object) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,)


def _mistakes(source: Mapping[Any, object]) -> list[str]:
    """Return what is wrong in a rule; what could never be met is a mistake, too."""
    if not source:
        return ["the rule is empty: it would allow everything, or nothing"]
    found = []
    for claim, value in source.items():
        if not isinstance(claim, str) or not all(claim.split(".")):
            found.append(f"{claim!r} is no name of a claim")
        elif isinstance(value, Collection) and not isinstance(value, str) and not value:
            found.append(f"{claim}: there is no value")
        else:
            found += [f"{claim}: {mistake}" for each in _values(value) if (mistake := _mistake(claim, each))]
    return found


def _mistake(claim: str, value: object) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is no number"
    if not isinstance(value, Value):
        return f"a value is text, a number, true or false, or a list of these, and not {type(value).__name__}"
    if value == "":
        return "a value is empty text"
    if isinstance(value, str) and " " in value and claim.rpartition(".")[2] in _SPACE_SEPARATED:
        return f"{value!r} is several values: write a list for one of them, or a rule for each"
    return None


def _name(function: Callable[..., object]) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)
