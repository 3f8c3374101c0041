"""Which requests are the single-page app's: those that no route claims, and files that `static/` lacks."""

from __future__ import annotations

import logging
import os
from typing import Protocol

from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.web import Application

from app.bff.handlers.base import NoRoute
from app.bff.services import Services
from app.bff.settings.models import BffSettings
from app.bff.spa.files import relative_path
from app.bff.spa.folder import Build
from app.bff.spa.handler import SpaFolder
from app.bff.spa.problems import problems_of
from app.bff.spa.server import MAX_BODY_BYTES, ServerRequest, ServerSocket

log = logging.getLogger(__name__)

_MOST_LOGGED = 20
STATIC_PATHS = ("/static/", "/favicon.ico", "/robots.txt")  # of Tornado's own routes


class SinglePageApp(Protocol):
    """What BFF_SPA names, as far as routing is concerned."""

    def has(self, name: str) -> bool:
        """Whether it may have the file of this name."""

    def delegate(self, application: Application, request: HTTPServerRequest) -> HTTPMessageDelegate:
        """Return what answers a request that no route claims."""


class NoApp:
    """Without BFF_SPA there is nothing where no route is."""

    def has(self, name: str) -> bool:
        return False

    def delegate(self, application: Application, request: HTTPServerRequest) -> HTTPMessageDelegate:
        return application.get_handler_delegate(request, NoRoute)


class BuiltApp(Build):
    def delegate(self, application: Application, request: HTTPServerRequest) -> HTTPMessageDelegate:
        return application.get_handler_delegate(request, SpaFolder, {"build": self})


class AppInDevelopment:
    def __init__(self, services: Services) -> None:
        self._services = services

    def has(self, name: str) -> bool:
        return True

    def delegate(self, application: Application, request: HTTPServerRequest) -> HTTPMessageDelegate:
        if request.path.startswith("/bff/"):  # which are the engine's
            return application.get_handler_delegate(request, NoRoute)
        if request.method == "GET" and request.headers.get("Upgrade", "").lower() == "websocket":
            return application.get_handler_delegate(request, ServerSocket)
        return ServerRequest(self._services, request, max_body_bytes=MAX_BODY_BYTES)


def single_page_app(services: Services) -> SinglePageApp:
    settings = services.settings
    if settings.spa_server:
        return AppInDevelopment(services)
    return BuiltApp(settings.spa_folder) if settings.spa_folder else NoApp()


def comes_before_static(app: SinglePageApp, path: str, services: Services) -> bool:
    """Whether the app has what is at one of STATIC_PATHS, where Tornado looks into `static/` only."""
    name = relative_path(path)
    # Not Path.is_file, which raises OSError for a path that is too long.
    is_ours = path.startswith("/static/") and os.path.isfile(services.settings.project_folder / (name or ""))
    return name is not None and not is_ours and app.has(name)


def log_problems(settings: BffSettings) -> None:
    """Log what in the build its policy would block: `doctor` says the same."""
    if settings.spa_folder is None:
        return
    build = Build(settings.spa_folder)
    names = build.names()
    for problem in problems_of(build.texts(names), set(names), settings.csp)[:_MOST_LOGGED]:
        fields = {"file": problem.file, "reason": problem.what, "advice": problem.advice}
        log.warning("build does not work as it is", extra=fields)
