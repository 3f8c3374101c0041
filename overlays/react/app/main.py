"""The routes of your data, and what lives as long as the process. The pages are those of `frontend/`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.bff import Services, url
from app.handlers.todos import TodoCounts

ROUTES = [
    url(r"/data/todos", TodoCounts),
]


@asynccontextmanager
async def lifespan(services: Services) -> AsyncIterator[None]:
    """Open what lives as long as the process, such as a database pool or a job; close it after `yield`.

    What you yield is `self.state` in every handler. What you raise stops the start.
    """
    yield None
