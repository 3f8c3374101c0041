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
from dataclasses import dataclass, field

import httpx2
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from app.bff.testing.application import RunningApp
from app.bff.testing.browsers import FETCH, NAVIGATION, Browser
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
HINT = "does its `prepare` await super().prepare()?"
ANOTHER_ORIGIN = "https://another.example"
_TIMEOUT_SECONDS = 10
_READ_BYTES = 1_000_000  # at most so much of an answer is searched for tokens
_TOKEN = re.compile(r"\b(?:at|rt)-[\w-]{43}")  # as the development provider makes them
_OWN_CLIENT = ("httpx2", "httpcore2")  # loggers of the browser that sends the requests


async def check_routes(
    app: RunningApp, *, examples: Mapping[str, str] | None = None, ignore: Collection[str] = ()
) -> None:
    """Raise AssertionError, with a line for each rule that a route breaks.

    `examples` gives a path for a regular expression (`{r"/orders/(\\d+)": "/orders/17"}`) where the one that
    is made up does not do; `ignore` has the regular expressions of routes that are left out.
    """
    __tracebackhide__ = True
    routes = [route for route in routes_in(app.routes, examples or {}) if route.pattern not in ignore]
    async with Browser(app.base_url) as anonymous, Browser(app.base_url) as alice:
        await alice.login("alice")
        problems = [problem async for problem in _problems(app, routes, anonymous, alice)]
    assert not problems, "\n".join(["Routes break rules:", *(f"  - {problem}" for problem in problems)])


@dataclass
class Answer:
    """What a route has answered, and what was logged meanwhile."""

    status: int
    headers: httpx2.Headers
    text: str
    log: list[logging.LogRecord] = field(default_factory=list)


async def _problems(
    app: RunningApp, routes: list[Route], anonymous: Browser, alice: Browser
) -> AsyncIterator[str]:
    for route in routes:
        if route.path is None:
            yield f'{route}: no example path was found; pass one: examples={{r"{route.pattern}": "/…"}}'
        elif route.is_socket:
            for who in (anonymous, alice):
                async for problem in _socket_problems(app, route, who, signed_in=who is alice):
                    yield f"{route}: {problem}"
        else:
            for method in route.methods:
                async for problem in _method_problems(app, route, method, anonymous, alice):
                    yield f"{method} {route}: {problem}"


async def _method_problems(
    app: RunningApp, route: Route, method: str, anonymous: Browser, alice: Browser
) -> AsyncIterator[str]:
    if route.is_data:
        answer = await _request(alice, route, method, csrf=False)
        if answer.status != 403:
            yield f"answers {answer.status} without {CSRF_HEADER}; {HINT}"
    for who in (anonymous, alice):
        try:
            answer = await _request(who, route, method)
        except TimeoutError:
            yield f"does not answer within {_TIMEOUT_SECONDS} s"
            continue
        for problem in _answer_problems(route, answer, signed_in=who is alice):
            yield problem
        for problem in _leaks(answer, await _secrets(app, who)):
            yield problem


def _answer_problems(route: Route, answer: Answer, *, signed_in: bool) -> Iterator[str]:
    if answer.status == 500 and not signed_in:
        yield f"answers a browser that is not signed in with 500{_reason(answer.log)}"
    missing = [name for name in SECURITY_HEADERS if name not in answer.headers]
    if missing and not 300 <= answer.status < 400:
        yield f"lacks the security headers {', '.join(missing)}; does the handler extend BaseHandler?"


def _leaks(answer: Answer, secrets: Mapping[str, str]) -> Iterator[str]:
    headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items() if name != "set-cookie")
    for where, text in {
        "body": answer.text,
        "headers": headers,
        "log": "\n".join(map(_as_text, answer.log)),
    }.items():
        found = [kind for kind, value in secrets.items() if value in text]
        if found or _TOKEN.search(text):
            yield f"a secret shows up in its {where}: {', '.join(found) or 'a token'}"


async def _secrets(app: RunningApp, browser: Browser) -> dict[str, str]:
    """What neither an answer nor the log may contain, by what it is called."""
    session = await app.session_of(browser)
    if session is None:
        return {}
    tokens = session.tokens
    secrets = {
        "the access token": tokens.access_token,
        "the refresh token": tokens.refresh_token,
        "the ID token": tokens.id_token,
        "the session id": browser.cookie(app.services.cookies.session_name),
    }
    return {kind: value for kind, value in secrets.items() if value}


async def _request(browser: Browser, route: Route, method: str, *, csrf: bool = True) -> Answer:
    """Request the route as its page would, and read as much as is searched."""
    own = {CSRF_HEADER: CSRF_VALUE} if csrf else {}
    headers = {**FETCH, **own} if route.is_data else {**NAVIGATION, "Sec-Fetch-Site": "same-origin"}
    with _log() as records:
        async with (
            asyncio.timeout(_TIMEOUT_SECONDS),
            browser.http.stream(method, route.path or "", headers=headers) as response,
        ):
            return Answer(response.status_code, response.headers, await _text(response), records)


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


async def _socket_problems(
    app: RunningApp, route: Route, browser: Browser, *, signed_in: bool
) -> AsyncIterator[str]:
    with _log() as records:
        foreign = await _handshake(app, route, browser, ANOTHER_ORIGIN)
        own = await _handshake(app, route, browser, app.base_url)
    if foreign != 403:
        yield f"answers the handshake of another origin with {foreign}; {HINT}"
    if own == 500 and not signed_in:
        yield f"answers a browser that is not signed in with 500{_reason(records)}"
    answer = Answer(own, httpx2.Headers(), "", records)
    for problem in _leaks(answer, await _secrets(app, browser)):
        yield problem


async def _handshake(app: RunningApp, route: Route, browser: Browser, origin: str) -> int:
    """Open the socket and close it; return the status of the handshake."""
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.http.cookies.jar)
    url = f"{app.base_url.replace('http', 'ws', 1)}{route.path}"
    request = HTTPRequest(
        url, headers={"Origin": origin, "Cookie": cookies}, request_timeout=_TIMEOUT_SECONDS
    )
    try:
        socket = await websocket_connect(request)
    except HTTPClientError as error:
        return error.code
    socket.close()
    return 101


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
