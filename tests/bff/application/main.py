"""The routes of the suite's application."""

from app.bff import url
from tests.bff.application.handlers import Account, Home, SessionsPage, SignedOut, Tasks

ROUTES = [
    url(r"/", Home),
    url(r"/account", Account),
    url(r"/sessions", SessionsPage),
    url(r"/signed-out", SignedOut),
    url(r"/tasks", Tasks),
]
