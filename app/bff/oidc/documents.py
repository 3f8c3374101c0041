"""JSON objects in bytes from outside."""

from __future__ import annotations

import json
from typing import Any


def parse_json_object(data: bytes) -> dict[str, Any] | None:
    """Return the JSON object in `data`, or None if it is anything else."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
