"""Yours: the routes of your pages. Those under /bff are in `app/bff/server.py`."""

from __future__ import annotations

from tornado.web import url

from app.handlers.pages import Account, Home, SessionsPage, SignedOut

routes = [
    url(r"/", Home),
    url(r"/account", Account),
    url(r"/sessions", SessionsPage),
    url(r"/signed-out", SignedOut),
]
