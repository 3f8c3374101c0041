"""What the rest of the engine tells telemetry. By default nothing listens, is measured or loaded.

Telemetry is of the process, as logging is: `current` is set at start, before the services are built. Where
every request passes, the caller looks at `is_on`, or has been given None: switched off, telemetry costs a
comparison there. Elsewhere a method is called that does nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

NOTHING: AbstractContextManager[None] = nullcontext()


class Call(Protocol):
    """A call that has begun: it ends with the block, and fails with its exception."""

    status: int  # of the response, once it has begun; 0: there is none

    def __enter__(self) -> Call: ...
    def __exit__(self, *exception: Any) -> None: ...


class Calls(Protocol):
    """The calls of one client."""

    def begin(
        self, method: str, host: str | None, port: int | None, headers: MutableMapping[str, str]
    ) -> Call:
        """Begin a call. `headers`, which are about to be sent, get its trace context (W3C Trace Context)."""


class Operations(Protocol):
    """The operations on the database."""

    def begin(self, operation: str, collection: str) -> AbstractContextManager[Any]: ...


class Observer:
    """Hears nothing."""

    is_on = False
    operations: Operations | None = None

    def serves(self, application: Any, services: Any) -> None:
        """The application is about to serve requests with these services."""

    def answered(self, request: Any, status: int, seconds: float) -> None:
        """A request has been answered; not called while `is_on` is False."""

    def refused(self, code: str) -> None:
        """A request is about to be answered with this error code."""

    def login_ended(self, outcome: str) -> None:
        """A login attempt has ended here: `success`, or why it has failed."""

    def calls_of(self, client: str, *, provider_request: str = "") -> Calls | None:
        """Return what the calls of a client are told to, or None."""
        return None

    def refreshing(self) -> AbstractContextManager[None]:
        """Wrap one refresh, in a task of its own."""
        return NOTHING

    def granting(self) -> AbstractContextManager[None]:
        """Wrap one request with a refresh token; its outcome is its exception, if it raises one."""
        return NOTHING

    def lease_is_held(self) -> None:
        """Another process holds the lease that a refresh needs."""

    def lease_is_acquired(self) -> None:
        """A refresh has its lease."""

    def waiting_for(self, refresh: asyncio.Task[Any]) -> AbstractContextManager[None]:
        """Wrap a caller's wait for a refresh."""
        return NOTHING

    def working(self, name: str) -> AbstractContextManager[None]:
        """Wrap work in the background."""
        return NOTHING

    def audited(self, event: str) -> None:
        """An event of the audit log; not called while `is_on` is False."""

    def session_started(self) -> None: ...

    def session_ended(self, reason: str) -> None: ...


current = Observer()


@contextmanager
def installed(observer: Observer) -> Iterator[None]:
    """Let `observer` hear what happens while the block runs."""
    global current
    earlier, current = current, observer
    try:
        yield
    finally:
        current = earlier
