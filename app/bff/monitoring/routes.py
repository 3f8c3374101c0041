"""The route pattern of a request: one of a fixed set, whatever its path is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.routing import PathMatches, RuleRouter
from tornado.web import Application

from app.bff.paths import FORWARD_AUTH_PATH
from app.bff.proxy.forward_auth import ForwardAuth
from app.bff.spa.handler import SpaFolder

_GROUP = re.compile(r"\((?:[^()\\]|\\.)*\)")


def route_pattern(regex: str) -> str:
    """Return the pattern of a route, with `*` for each group.

    >>> route_pattern(r"/orders/(?P<number>[0-9]+)/lines$")
    '/orders/*/lines'
    """
    while regex != (shorter := _GROUP.sub("*", regex)):
        regex = shorter
    return regex.removesuffix("$")


def note_routes(application: Application) -> None:
    """Let each route of the application note its pattern at the requests that it matches."""
    for matcher in _matchers(application.default_router):
        if not hasattr(matcher, "pattern"):
            _note(matcher, route_pattern(matcher.regex.pattern))


def _matchers(router: RuleRouter) -> Iterator[Any]:
    for rule in router.rules:
        if isinstance(rule.matcher, PathMatches):
            yield rule.matcher
        if isinstance(rule.target, RuleRouter):
            yield from _matchers(rule.target)


def _note(matcher: Any, pattern: str) -> None:
    match = matcher.match

    def noted(request: Any) -> Any:
        found = match(request)
        if found is not None:
            request.route = pattern
        return found

    matcher.pattern, matcher.match = pattern, noted


def route_of(request: HTTPServerRequest, delegate: Any) -> str:
    """Return the pattern of the route that has been found; empty if there is none."""
    api = getattr(delegate, "api", None) or getattr(delegate, "handler_kwargs", {}).get("api")
    if api is not None:
        return f"{api.path}/*"
    if getattr(delegate, "handler_class", None) is SpaFolder:
        return "/*"
    if isinstance(delegate, ForwardAuth):
        return FORWARD_AUTH_PATH
    return getattr(request, "route", "")
