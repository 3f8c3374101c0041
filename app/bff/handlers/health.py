"""Liveness and readiness, for load balancers and operators."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from app.bff.errors import AppError
from app.bff.handlers.web import WebHandler

_TIMEOUT_SECONDS = 0.8  # probes commonly time out after 1 s


class Alive(WebHandler):
    """Liveness: the process answers. No dependency is checked, since a restart would not repair one."""

    def get(self) -> None:
        self.finish({"status": "ok"})

    head = get


class Ready(WebHandler):
    """Readiness: the session store and the provider answer too."""

    async def get(self) -> None:
        store, provider = await asyncio.gather(
            _check(self.services.sessions.ping()), _check(self.services.provider.metadata())
        )
        ready = store == provider == "ok"
        self.set_status(200 if ready else 503)
        self.finish(
            {"status": "ok" if ready else "unavailable", "session_store": store, "provider": provider}
        )


async def _check(check: Awaitable[object]) -> str:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            await check
    except AppError as error:
        return error.detail or error.title
    except TimeoutError:
        return f"no answer within {_TIMEOUT_SECONDS} s"
    return "ok"
