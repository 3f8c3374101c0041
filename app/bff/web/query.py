"""Parameters of queries and forms."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from app.bff.errors import BadRequest


def single_values(
    arguments: Mapping[str, Sequence[bytes]], *, optional: Collection[str] = ()
) -> dict[str, str]:
    """Return query or form parameters, or raise BadRequest for a repeated one; leave out an `optional` one.

    Two parsers of one URL may each use another of its values (RFC 6749 §3.1).
    """
    values = {}
    for name, each in arguments.items():
        try:
            values[name] = _only_value(name, each)
        except BadRequest:
            if name not in optional:
                raise
    return values


def in_own_case(arguments: Mapping[str, list[bytes]], names: Iterable[str]) -> dict[str, list[bytes]]:
    """Return parameters with `names` as they are written there, however the request has written them."""
    spelled, found = {name.lower(): name for name in names}, dict[str, list[bytes]]()
    for name, values in arguments.items():
        found.setdefault(spelled.get(name.lower(), name), []).extend(values)
    return found


def _only_value(name: str, values: Sequence[bytes]) -> str:
    if len(values) != 1:
        raise BadRequest(f"the parameter {name[:40]!r} is there more than once")
    try:
        return values[0].decode()
    except UnicodeDecodeError:
        raise BadRequest(f"the parameter {name[:40]!r} is not text") from None
