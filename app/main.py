"""The routes of your pages, and what lives as long as the process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.bff import Services, url
from app.handlers.pages import Account, Home, SessionsPage, SignedOut
from app.handlers.todos import Everyone, Todos

ROUTES = [
    url(r"/", Home),
    url(r"/todos", Todos),
    url(r"/todos/everyone", Everyone),
    url(r"/account", Account),
    url(r"/sessions", SessionsPage),
    url(r"/signed-out", SignedOut),
]


@asynccontextmanager
async def lifespan(services: Services) -> AsyncIterator[None]:
    """Open what lives as long as the process, such as a database pool or a job; close it after `yield`.

    What you yield is `self.state` in every handler. What you raise stops the start.
    """
    yield None
