"""The findings of checks, and the report printed on the terminal. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "info", "warning", "wrong"]
_INDENT = " " * 11  # aligns advice with the text of its finding


@dataclass(frozen=True)
class Finding:
    """The result of one check and advice on what to do. Neither text may contain a secret."""

    level: Level
    what: str
    advice: str = ""


def ok(what: str) -> Finding:
    return Finding("ok", what)


def info(what: str) -> Finding:
    return Finding("info", what)


def warning(what: str, advice: str) -> Finding:
    return Finding("warning", what, advice)


def wrong(what: str, advice: str) -> Finding:
    return Finding("wrong", what, advice)


def report(chapters: Mapping[str, Sequence[Finding]]) -> str:
    """Return one line per finding, one per advice, and a last line with the counts."""
    lines = []
    for title, findings in chapters.items():
        lines += [title, *(line for finding in findings for line in _lines(finding)), ""]
    counts = Counter(finding.level for finding in _all(chapters))
    return "\n".join([*lines, f"{counts['wrong']} wrong, {counts['warning']} to look at, {counts['ok']} ok"])


def as_json(chapters: Mapping[str, Sequence[Finding]]) -> str:
    """Return the findings for machines: a list with `chapter`, `level`, `what` and `advice` of each."""
    found = [{"chapter": title, **asdict(each)} for title, findings in chapters.items() for each in findings]
    return json.dumps(found, indent=2, ensure_ascii=False)


def exit_code(chapters: Mapping[str, Sequence[Finding]]) -> int:
    return int(any(finding.level == "wrong" for finding in _all(chapters)))


def _all(chapters: Mapping[str, Sequence[Finding]]) -> Iterable[Finding]:
    return (finding for findings in chapters.values() for finding in findings)


def _lines(finding: Finding) -> list[str]:
    lines = [f"  {finding.level:<8} {plain(finding.what)}"]
    return [*lines, _INDENT + plain(finding.advice)] if finding.advice else lines


def plain(text: str) -> str:
    """Replace control characters: external text must not steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
