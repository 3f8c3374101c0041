"""How long to wait before the next attempt: every retry and poll interval of the engine. Pure."""

from __future__ import annotations

from collections.abc import Iterator

# Requests to an endpoint of the provider: see oidc/breaker.py.
BREAKER_FAILURES_ALLOWED = 3
BREAKER_FIRST_SECONDS, BREAKER_LONGEST_SECONDS = 1, 30
BREAKER_LONGEST_RETRY_AFTER_SECONDS = 60  # a longer Retry-After would stop all logins for its duration

# Revocation of a refresh token: see tokens/revocation.py.
REVOCATION_FIRST_SECONDS, REVOCATION_LONGEST_SECONDS = 5, 600
REVOCATION_DRAIN_SECONDS = 5
REVOCATION_AFTER_LOGOUT_SECONDS = 60  # unless the provider has sent the browser back before

# A document of the provider after a failed fetch: see oidc/cache.py.
DOCUMENT_RETRY_SECONDS = 30
# Metadata, when an endpoint fails, which may have moved: so many fetches at once, then one in each cooldown.
METADATA_BURST, METADATA_COOLDOWN_SECONDS = 3, 10
KEYS_BURST = 10  # fetches of keys for tokens from the token endpoint, in BFF_PROVIDER_KEYS_COOLDOWN_SECONDS
# Readiness tells what was true so many seconds ago; failed fetches for it are repeated once a second.
READY_SECONDS, READY_BURST = 5, 10

# The session store: at start, and for the ends of watched sessions (sessions/events.py).
STORE_RETRY_SECONDS = 5
SESSION_POLL_SECONDS = 1  # while there is no change stream
SESSION_SAFETY_POLL_SECONDS = 5  # beside a change stream; also before a broken one is opened again

# A worker process that has ended: see processes.py.
RESTART_FIRST_SECONDS, RESTART_LONGEST_SECONDS = 0.5, 30
RESTART_SETTLED_SECONDS = 60  # a worker that has lived so long counts as sound

# A callback that is repeated, until the first one has answered: see handlers/repeated_callbacks.py.
REPEAT_WAIT_SECONDS = 15

# Refresh under a lease: see tokens/refresh.py. Both well below the patience of a browser, and of its user.
LEASE_WAIT_SECONDS = 8  # for what another process refreshes; then the caller is told to try again
UNSAVED_WAIT_SECONDS = 1  # for expired tokens in memory to be saved, which is tried more often than that
LEASE_RELEASE_SECONDS = 1  # between two releases of a lease whose answer was lost: it may arrive late


def breaker_seconds(failures: int, retry_after_seconds: int | None) -> float:
    """Return how long the breaker stays open after so many failures in a row; 0 while it stays closed."""
    exponent = min(failures - BREAKER_FAILURES_ALLOWED, 10)
    own = min(BREAKER_FIRST_SECONDS * 2**exponent, BREAKER_LONGEST_SECONDS) if exponent >= 0 else 0
    return max(own, min(retry_after_seconds or 0, BREAKER_LONGEST_RETRY_AFTER_SECONDS))


def revocation_seconds(tries: int) -> float:
    """Return how long to wait after so many failed attempts to revoke a token."""
    return min(REVOCATION_FIRST_SECONDS << min(tries, 10), REVOCATION_LONGEST_SECONDS)


def restart_seconds(short_lives: int) -> float:
    """Return the pause before a worker is replaced, after so many in a row that did not last."""
    return min(RESTART_FIRST_SECONDS * (1 << min(short_lives, 10)), RESTART_LONGEST_SECONDS)


def repeat_poll_seconds() -> Iterator[float]:
    """Yield the waits of a repeated callback for the session of the first one; REPEAT_WAIT_SECONDS in all."""
    left = float(REPEAT_WAIT_SECONDS)
    for seconds in lease_poll_seconds():
        if left <= 0:
            return
        left -= seconds
        yield seconds


def lease_poll_seconds() -> Iterator[float]:
    """Yield the waits between looks at a session that another process refreshes, or that cannot be saved.

    From 20 ms, growing by half each time, to half a second.
    """
    seconds = 0.02
    while True:
        yield seconds
        seconds = min(seconds * 1.5, 0.5)
