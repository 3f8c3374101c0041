"""Validators of settings: each returns the value, or raises ValueError. Pure."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from typing import Any
from urllib.parse import urlsplit

KEY_BYTES = 32


def from_json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None


def split_commas(value: Any) -> Any:
    """Split a comma-separated string; return any other value unchanged."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def key_bytes(value: Any) -> bytes:
    """Return the 32 bytes of a base64 key; the error message never contains the value."""
    try:
        key = base64.b64decode(value, validate=True) if isinstance(value, str) else value
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError("each key must be the base64 of 32 bytes")
    return bytes(key)


def absolute(url: str) -> str:
    if not _is_absolute(url):
        raise ValueError("must be an absolute http(s) URL without user name or password")
    return url


def resource_uri(value: str) -> str:
    """Return a resource indicator (RFC 8707 §2): an absolute URI without fragment."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[^#\s]+", value):
        raise ValueError("a resource must be an absolute URI without a fragment")
    return value


def _is_absolute(url: str) -> bool:
    try:
        parts = urlsplit(url)
        reachable = parts.hostname and parts.port != 0
    except ValueError:  # such as a port that is no number; the message could contain a password
        return False
    return parts.scheme in ("http", "https") and bool(reachable) and not (parts.username or parts.password)


def require_https(url: str, *, debug: bool) -> str:
    """Refuse unencrypted http (RFC 9700 §2.6), except to this machine or with BFF_DEBUG."""
    if not is_confidential(url) and not debug:
        raise ValueError("must be https (http is allowed on this machine, and with BFF_DEBUG)")
    return url


def is_confidential(url: str) -> bool:
    """Whether the connection is confidential: https, or loopback."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
