"""Query parameters, each at most once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.bff.errors import BadRequest


def single_values(arguments: Mapping[str, Sequence[bytes]]) -> dict[str, str]:
    """Return the parameters as they were sent, or raise BadRequest for one that is there twice.

    Two readers of one URL might each believe another of the two (RFC 6749 §3.1).
    """
    return {name: _only(name, values) for name, values in arguments.items()}


def _only(name: str, values: Sequence[bytes]) -> str:
    if len(values) != 1:
        raise BadRequest(f"the parameter {name[:40]!r} is there more than once")
    try:
        return values[0].decode()
    except UnicodeDecodeError:
        raise BadRequest(f"the parameter {name[:40]!r} is not text") from None
