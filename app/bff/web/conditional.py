"""Conditional and range requests (RFC 9110 §13, §14). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime
from typing import NamedTuple

_ETAG = re.compile(r'\s*(?:W/)?"[^"]*"\s*')
_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE)


class Validators(NamedTuple):
    """What a representation is recognised by: a strong ETag, and when it was modified, if that decides."""

    etag: str
    modified: int | None = None  # seconds since the epoch


def unmet_condition(headers: Mapping[str, str], validators: Validators) -> int | None:
    """Return 412 or 304 if a GET or HEAD is to be answered so (RFC 9110 §13.2.2), or None."""
    if "If-Match" in headers:
        if not _lists(headers["If-Match"], validators.etag, weakly=False):
            return 412
    elif _is_after(validators.modified, headers.get("If-Unmodified-Since")):
        return 412
    if "If-None-Match" in headers:
        return 304 if _lists(headers["If-None-Match"], validators.etag, weakly=True) else None
    since = _seconds(headers.get("If-Modified-Since"))
    return (
        304
        if validators.modified is not None and since is not None and validators.modified <= since
        else None
    )


def requested_range(headers: Mapping[str, str], size: int, validators: Validators) -> tuple[int, int] | None:
    """Return the first byte to send and the one after the last, or None for all of them.

    Several ranges, and those of an earlier version (`If-Range`), are answered with everything. Raises
    ValueError for one that cannot be satisfied (416).
    """
    found = _RANGE.fullmatch(headers.get("Range", ""))
    if found is None or found[0].strip() == "bytes=-" or not _is_current(headers.get("If-Range"), validators):
        return None
    first, last = (int(each) if each else None for each in found.groups())
    if first is not None and last is not None and last < first:
        return None  # invalid, and so ignored
    if first is None:
        start, end = max(0, size - (last or 0)), size
    else:
        start, end = first, min(size, size if last is None else last + 1)
    if start >= end:
        raise ValueError("no byte of it is there")
    return start, end


def http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def _lists(value: str, etag: str, *, weakly: bool) -> bool:
    if value.strip() == "*":
        return True
    listed = (each.strip() for each in _ETAG.findall(value))
    return etag in ({each.removeprefix("W/") for each in listed} if weakly else set(listed))


def _is_after(modified: int | None, date: str | None) -> bool:
    seconds = _seconds(date)
    return modified is not None and seconds is not None and modified > seconds


def _is_current(if_range: str | None, validators: Validators) -> bool:
    """A date must be exactly that of the representation (RFC 9110 §13.1.5)."""
    if if_range is None or if_range.strip() == validators.etag:
        return True
    return validators.modified is not None and _seconds(if_range) == validators.modified


def _seconds(date: str | None) -> int | None:
    try:
        parsed = parsedate_to_datetime(date or "")
        return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
