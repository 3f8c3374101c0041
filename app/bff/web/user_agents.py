"""Describes a User-Agent, so that users recognise their browser in a list of sessions."""

from __future__ import annotations

from ua_parser import parse

_MAX_PARSED = 500  # characters: bounds the parsing time
_UNKNOWN = "Other"


def describe_user_agent(user_agent: str) -> str:
    """Return browser and device, as far as a User-Agent names them.

    >>> describe_user_agent("Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0")
    'Firefox on Linux'
    >>> describe_user_agent("curl/8")
    'curl'
    """
    parsed = parse(user_agent[:_MAX_PARSED])
    browser = _family(parsed.user_agent) or "An unknown browser"
    device = _family(parsed.device) or _family(parsed.os)
    return f"{browser} on {device}" if device else browser


def _family(part: object) -> str:
    family = getattr(part, "family", "")
    return "" if family == _UNKNOWN else family
