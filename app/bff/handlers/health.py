"""Liveness and readiness, for load balancers and operators."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress

from app.bff.errors import AppError
from app.bff.handlers.web import WebHandler

log = logging.getLogger(__name__)

NOTICEABLE_SECONDS = 5  # clocks that NTP keeps differ by less
_TIMEOUT_SECONDS = 0.8  # probes commonly time out after 1 s


class Alive(WebHandler):
    """Liveness: the process answers. No dependency is checked, since a restart would not repair one."""

    def get(self) -> None:
        self.finish({"status": "ok"})


class WholeServer(WebHandler):
    """`OPTIONS *`: a ping (RFC 9110 §9.3.7), since nothing can be said of all resources."""

    def options(self) -> None:
        self.set_status(204)


class Ready(WebHandler):
    """Readiness: session store and provider have just answered; warns if our clock is wrong."""

    async def get(self) -> None:
        store, provider, clock = await asyncio.gather(
            _check(self.services.sessions.ping()),
            _check(self.services.provider.problem()),
            self._clock_warning(),
        )
        ready = store == "ok" and (provider == "ok" or self.services.settings.ready_without_provider)
        self.set_status(200 if ready else 503)
        self.finish(
            {
                "status": "ok" if ready else "unavailable",
                "session_store": store,
                "provider": provider,
                **clock,
            }
        )

    async def _clock_warning(self) -> dict[str, str]:
        """Compare our clock, by which sessions and tokens expire, with the store's; empty if they agree."""
        with suppress(AppError, TimeoutError):
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                ahead = await self.services.sessions.clock_ahead_seconds()
            if abs(ahead) > NOTICEABLE_SECONDS:
                log.warning("clock differs from the session store's", extra={"ahead_seconds": round(ahead)})
                said = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the session store's"
                return {"clock": said}
        return {}


async def _check(check: Awaitable[str | None]) -> str:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            problem = await check
    except AppError as error:
        return error.detail or error.title
    except TimeoutError:
        return f"no answer within {_TIMEOUT_SECONDS} s"
    return problem or "ok"
