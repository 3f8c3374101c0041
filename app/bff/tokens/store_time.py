"""How long one request waits for the session store, in all of its operations together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from app.bff.errors import StoreUnavailable
from app.bff.sessions.interfaces import STORE_SECONDS

# What the request, in whose context this is read, has waited for its session: see `Services.load_session`.
session_waited_seconds: ContextVar[float] = ContextVar("session_waited_seconds", default=0)


class StoreTime:
    """What is left of `seconds`, by default of STORE_SECONDS after the look-up of the session."""

    def __init__(self, seconds: float = STORE_SECONDS) -> None:
        self.left = max(seconds - session_waited_seconds.get(), 0)

    @asynccontextmanager
    async def limit(self, *, at_least: float = 0) -> AsyncIterator[None]:
        """Raise StoreUnavailable when the time is over; `at_least` so many seconds are granted anyway."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(max(self.left, at_least)):
                yield
        except TimeoutError as error:
            raise StoreUnavailable("the session store did not answer") from error
        finally:
            self.left -= loop.time() - started
