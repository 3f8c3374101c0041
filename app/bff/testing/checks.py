"""Rules that every route of an application must keep; one test checks them all.

    from app.bff.testing import RunningApp, checks

    async def test_every_route_keeps_the_rules(app: RunningApp) -> None:
        await checks.check_routes(app)

A data route (`ApiHandler`) must refuse a request without `X-CSRF: 1`, a socket (`SocketHandler`) a page of
another origin, and any other route must send the security headers. No route may answer a browser that is not
signed in with 500. No access, refresh or ID token and no session id may show up in an answer or in the log.

Each method that a handler implements is requested, once signed in and once not, with an empty body, and with
the stand-in in place of the APIs. A route that must not be requested so is named in `ignore`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import traceback
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketError, websocket_connect

from app.bff.testing.application import RunningApp
from app.bff.testing.browsers import FETCH_HEADERS, NAVIGATION_HEADERS, Browser
from app.bff.testing.routes import Route, routes_in
from app.bff.web.cross_origin import CSRF_HEADER, CSRF_VALUE

SECURITY_HEADERS = (
    "Content-Security-Policy",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "Referrer-Policy",
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Resource-Policy",
)
ANOTHER_ORIGIN = "https://another.example"
_READ_BYTES = 1_000_000  # at most so much of an answer is searched for tokens
_TOKEN = re.compile(r"\b(?:at|rt)-[\w-]{43}")  # as the development provider makes them
_OWN_CLIENT = ("httpx2", "httpcore2")  # loggers of the browser that sends the requests


async def check_routes(
    app: RunningApp,
    *,
    examples: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
    timeout_seconds: float = 10,
) -> None:
    """Raise AssertionError, with a line for each rule that a route breaks.

    `examples` gives a path for a regular expression (`{r"/orders/(\\d+)": "/orders/17"}`) where the one that
    is made up does not do; `ignore` has the regular expressions of routes that are left out. An answer that
    takes longer than `timeout_seconds` breaks a rule, too.
    """
    __tracebackhide__ = True
    routes = [route for route in routes_in(app.routes, examples or {}) if route.pattern not in ignore]
    async with Browser(app.base_url) as anonymous, Browser(app.base_url) as alice:
        walk = _Walk(app, anonymous, alice, timeout_seconds)
        problems = [f"{route}: {problem}" for route in routes async for problem in walk.problems_of(route)]
    lines = [f"  - {problem}" for problem in dict.fromkeys(problems)]
    if lines:
        raise AssertionError("\n".join(["Routes break rules:", *lines]))


@dataclass
class Answer:
    """What a route has answered, and what was logged meanwhile."""

    status: int
    headers: httpx2.Headers
    text: str
    log: list[logging.LogRecord]


@dataclass
class _Walk:
    """Requests the routes, as two browsers: one that is signed in, and one that is not."""

    app: RunningApp
    anonymous: Browser
    alice: Browser
    timeout_seconds: float

    async def problems_of(self, route: Route) -> AsyncIterator[str]:
        if route.path is None:
            yield f'no path is known that it matches: pass one, examples={{r"{route.pattern}": "/…"}}'
            return
        for method in route.methods:
            for browser in (self.anonymous, self.alice):
                try:
                    async for problem in self._problems_of(route, method, browser):
                        yield f"{method} {problem}"
                except TimeoutError:
                    yield f"{method} is not answered within {self.timeout_seconds} s"
                except (httpx2.TransportError, WebSocketError, OSError) as error:
                    yield f"{method} is not answered: {type(error).__name__} {error}"

    async def _problems_of(self, route: Route, method: str, browser: Browser) -> AsyncIterator[str]:
        if browser is self.alice and await self.app.session_of(self.alice) is None:  # a route may end it
            await self.alice.login("alice")
        secrets = await self._secrets(browser)
        request = self._shake_hands if route.is_socket else self._request
        if route.is_data or route.is_socket:
            foreign = await request(browser, route, method, ours=False)
            if foreign.status != 403:
                yield _not_refused(route, foreign.status)
        answer = await request(browser, route, method, ours=True)
        for problem in _problems_in(route, answer, signed_in=browser is self.alice):
            yield problem
        for problem in _leaks(answer, secrets):
            yield problem

    async def _secrets(self, browser: Browser) -> dict[str, str]:
        """What neither an answer nor the log may contain, by what it is called."""
        session = await self.app.session_of(browser)
        if session is None:
            return {}
        secrets = {
            "the access token": session.tokens.access_token,
            "the refresh token": session.tokens.refresh_token,
            "the ID token": session.tokens.id_token,
            "the session id": browser.cookie(self.app.services.cookies.session_name),
        }
        return {kind: value for kind, value in secrets.items() if value}

    async def _request(self, browser: Browser, route: Route, method: str, *, ours: bool) -> Answer:
        """Request the route as its page does, or without X-CSRF; read as much as is searched."""
        own = {CSRF_HEADER: CSRF_VALUE} if ours else {}
        headers = (
            {**FETCH_HEADERS, **own}
            if route.is_data
            else {**NAVIGATION_HEADERS, "Sec-Fetch-Site": "same-origin"}
        )
        with _log() as records:
            async with (
                asyncio.timeout(self.timeout_seconds),
                browser.http.stream(method, route.path or "", headers=headers) as response,
            ):
                return Answer(response.status_code, response.headers, await _text(response), records)

    async def _shake_hands(self, browser: Browser, route: Route, method: str, *, ours: bool) -> Answer:
        """Open the socket, as a page of this origin or of another one, and close it."""
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.http.cookies.jar)
        headers = {"Origin": self.app.base_url if ours else ANOTHER_ORIGIN, "Cookie": cookies}
        url = f"{self.app.base_url.replace('http', 'ws', 1)}{route.path}"
        with _log() as records:
            async with asyncio.timeout(self.timeout_seconds):
                status = await _handshake(HTTPRequest(url, headers=headers))
        return Answer(status, httpx2.Headers(), "", records)


async def _handshake(request: HTTPRequest) -> int:
    """Return the status of the answer."""
    try:
        socket = await websocket_connect(request)
    except HTTPClientError as error:
        return error.code
    socket.close()
    return 101


async def _text(response: httpx2.Response) -> str:
    """The body; of a stream of events nothing, since it has no end."""
    if response.headers.get("Content-Type", "").startswith("text/event-stream"):
        return ""
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _READ_BYTES:
            break
    return body.decode(errors="replace")


def _not_refused(route: Route, status: int) -> str:
    sent = "a page of another origin" if route.is_socket else f"a request without {CSRF_HEADER}: {CSRF_VALUE}"
    return f"answers {sent} with {status}; does its `prepare` await super().prepare()?"


def _problems_in(route: Route, answer: Answer, *, signed_in: bool) -> Iterator[str]:
    if answer.status == 500 and not signed_in:
        yield f"answers a browser that is not signed in with 500{_reason(answer.log)}"
    missing = [name for name in SECURITY_HEADERS if name not in answer.headers]
    if missing and not route.is_socket and not 300 <= answer.status < 400:
        yield f"lacks the security headers {', '.join(missing)}; does the handler extend BaseHandler?"


def _leaks(answer: Answer, secrets: Mapping[str, str]) -> Iterator[str]:
    headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items() if name != "set-cookie")
    log = "\n".join(map(_as_text, answer.log))
    for where, text in (("body", answer.text), ("headers", headers), ("log", log)):
        found = [kind for kind, value in secrets.items() if value in text]
        if found or _TOKEN.search(text):
            yield f"shows {' and '.join(found) or 'a token'} in its {where}"


def _reason(records: list[logging.LogRecord]) -> str:
    """The error that was logged last, and the line that raised it."""
    for record in reversed(records):
        if record.exc_info and (error := record.exc_info[1]):
            frame = traceback.extract_tb(error.__traceback__)[-1]
            return f": {type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
    return ""


def _as_text(record: logging.LogRecord) -> str:
    """The message, what is logged with it, and the traceback."""
    return f"{logging.Formatter().format(record)} {record.__dict__}"


class _Recorder(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def _log() -> Iterator[list[logging.LogRecord]]:
    """Everything that is logged in the block, from DEBUG on."""
    recorder, levels = _Recorder(), {"": logging.DEBUG, **dict.fromkeys(_OWN_CLIENT, logging.WARNING)}
    before = {name: logging.getLogger(name).level for name in levels}
    logging.getLogger().addHandler(recorder)
    _set_levels(levels)
    try:
        yield recorder.records
    finally:
        _set_levels(before)
        logging.getLogger().removeHandler(recorder)


def _set_levels(levels: Mapping[str, int]) -> None:
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
