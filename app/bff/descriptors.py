"""How many connections a process may hold, by the number of file descriptors that it may open."""

from __future__ import annotations

import resource
from contextlib import suppress

from app.bff.proxy.strict_server import MAX_CONNECTIONS

_ENOUGH = 65_536  # a hard limit may be a thousand million
_RESERVED = 1_000  # for the connections that this process opens itself: MongoDB, provider, APIs


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit to its hard limit (at most 65,536), if it may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < target:
        with suppress(ValueError, OSError):  # macOS: the kernel's limit is lower than the hard one
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _ENOUGH if soft == resource.RLIM_INFINITY else soft


def connection_limit(max_connections: int, descriptors: int) -> int:
    """Return how many connections to accept: `max_connections` (0: 10,000), if descriptors are left then.

    1,000 of them are reserved, or half if there are few.
    """
    return min(max_connections or MAX_CONNECTIONS, max(descriptors - _RESERVED, descriptors // 2))
