"""The key ring, and the records that it has to open. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from app.bff.doctor.probe_mongo import MongoFacts, Sealed
from app.bff.doctor.report import Finding, info, ok, warning, wrong
from app.bff.settings.load import BffSettings


def key_findings(settings: BffSettings, facts: MongoFacts | None) -> list[Finding]:
    """`facts` are missing where sessions are kept in memory, and their keys with them."""
    if "encryption_keys" not in settings.model_fields_set:
        return [
            warning(
                "each start makes a key of its own, which signs everybody out",
                "Put the output of `openssl rand -base64 32` into BFF_ENCRYPTION_KEYS.",
            )
        ]
    ring = info(f"{len(settings.encryption_keys)} in BFF_ENCRYPTION_KEYS: the first one seals, all open")
    return [ring, *_records(facts)] if facts and facts.server else [ring]


def _records(facts: MongoFacts) -> list[Finding]:
    if facts.sealed_problem:
        return [info(f"which key has sealed how many records was not to be counted: {facts.sealed_problem}")]
    found = [finding for sealed in facts.sealed for finding in _counted(sealed)]
    return [*found, *_old_keys(facts.sealed)]


def _counted(sealed: Sealed) -> list[Finding]:
    counts = ", ".join(f"{count} with key {number}" for number, count in enumerate(sealed.by_key, 1))
    counted = ok(f"{sealed.collection}: {counts}")
    if not sealed.by_none:
        return [counted]
    lost = wrong(
        f"{sealed.collection}: {sealed.by_none} sealed with a key that is not there",
        "Put the key that is missing back, at the end of BFF_ENCRYPTION_KEYS: these people are signed out.",
    )
    return [counted, lost]


def _old_keys(collections: Sequence[Sealed]) -> list[Finding]:
    """What can be said of each key but the first."""
    _, *old = zip(*(sealed.by_key for sealed in collections), strict=True)
    return [_old_key(number, sum(counts)) for number, counts in enumerate(old, 2)]


def _old_key(number: int, records: int) -> Finding:
    if records:
        return info(f"key {number} still opens {records}: run `python -m app rotate-keys`, then it can go")
    return info(f"key {number} opens nothing any more: it can go")
