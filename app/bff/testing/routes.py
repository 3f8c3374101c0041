"""The application's routes, as the checks walk over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tornado.routing import PathMatches, RuleRouter
from tornado.web import RequestHandler

from app.bff.handlers.base import ApiHandler
from app.bff.handlers.socket import SocketHandler
from app.bff.handlers.web import WebHandler, methods_of
from app.bff.server import Routes
from app.bff.testing.example_paths import example_path

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@dataclass(frozen=True)
class Route:
    """One route: its regular expression, a path that it matches, its handler."""

    pattern: str
    path: str | None  # None: there is no example
    handler: type[RequestHandler]

    @property
    def is_data(self) -> bool:
        return issubclass(self.handler, ApiHandler)

    @property
    def is_socket(self) -> bool:
        return issubclass(self.handler, SocketHandler)

    @property
    def methods(self) -> list[str]:
        """Those that the handler has itself: the engine's HEAD runs its GET; of a socket, what opens it."""
        names = set(methods_of(self.handler))
        if self.handler.head is WebHandler.head:
            names.discard("HEAD")
        return [name for name in METHODS if name in names]

    def __str__(self) -> str:
        return f"{self.pattern} ({self.handler.__module__}.{self.handler.__qualname__})"


def routes_in(routes: Routes, examples: Mapping[str, str]) -> Iterator[Route]:
    """All routes that lead from a path to a handler, nested ones too."""
    for rule in RuleRouter(list(routes)).rules:
        if isinstance(rule.target, list | tuple):
            yield from routes_in(rule.target, examples)
        elif isinstance(rule.matcher, PathMatches) and _is_handler(rule.target):
            pattern = rule.matcher.regex.pattern.removesuffix("$")
            yield Route(pattern, examples.get(pattern) or example_path(rule.matcher.regex), rule.target)


def _is_handler(target: Any) -> bool:
    return isinstance(target, type) and issubclass(target, RequestHandler)
