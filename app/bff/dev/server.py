"""A small server on 127.0.0.1; tests count its requests, delay and replace its responses."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

JSON = {"Content-Type": "application/json", "Cache-Control": "no-store"}


@dataclass(frozen=True)
class Answer:
    """A response, before Tornado sends it."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def plus(self, headers: Mapping[str, str]) -> Answer:
        return Answer(self.status, self.body, {**self.headers, **headers})


@dataclass(frozen=True)
class Failure(Answer):
    """A response that an endpoint sends instead of its own."""

    status: int = 503


def json_answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(value).encode(), {**JSON, **(headers or {})})


def params(arguments: Mapping[str, list[bytes]]) -> dict[str, str]:
    """Tornado's arguments as text; of a repeated parameter, the last."""
    return {name: values[-1].decode(errors="replace") for name, values in arguments.items()}


def credentials(request: HTTPServerRequest) -> tuple[str, str]:
    """The scheme of the Authorization header, in lower case, and the token; or "" (RFC 6750 §2.1)."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower(), token.strip()


class LocalServer:
    """Counts every request, then holds it, fails it or answers it, as the switches say."""

    def __init__(self) -> None:
        self.port = 0
        self.holds: dict[str, asyncio.Event] = {}
        self.holds_answer: dict[str, asyncio.Event] = {}
        self.fails: dict[str, Failure] = {}
        self.counts: Counter[str] = Counter()
        self._held: set[asyncio.Task[Any]] = set()
        self._server: HTTPServer | None = None

    def routes(self) -> list[Any]:
        raise NotImplementedError

    def record(self, endpoint: str, request: HTTPServerRequest) -> None:
        self.counts[endpoint] += 1

    async def start(self, port: int = 0) -> None:
        """Listen on 127.0.0.1; port 0 takes any free one. OSError when it is taken."""
        sockets = bind_sockets(port, "127.0.0.1")
        self.port = sockets[0].getsockname()[1]
        self._server = HTTPServer(Application(self.routes(), log_function=lambda handler: None))
        self._server.add_sockets(sockets)

    async def stop(self) -> None:
        """Close the listening socket and every connection; a held request is dropped unprocessed."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.stop()
        for task in list(self._held):
            task.cancel()
        await server.close_all_connections()

    async def answer(self, endpoint: str, request: HTTPServerRequest, work: Callable[[], Answer]) -> Answer:
        self.record(endpoint, request)
        await self._hold(self.holds.get(endpoint))
        answer = self.fails.get(endpoint) or work()
        await self._hold(self.holds_answer.get(endpoint))
        return answer

    async def _hold(self, event: asyncio.Event | None) -> None:
        task = asyncio.current_task()
        if event is None or task is None:
            return
        self._held.add(task)
        try:
            await event.wait()
        finally:
            self._held.discard(task)


class Endpoint(RequestHandler):
    """One route of a LocalServer: an endpoint's name and the function that answers for it."""

    def initialize(
        self, server: LocalServer, name: str, work: Callable[..., Answer], methods: tuple[str, ...] = ()
    ) -> None:
        self.server = server
        self.name = name
        self.work = work
        self.methods = methods

    async def prepare(self) -> None:
        """Answers whatever the method is, so the methods of RequestHandler are never reached."""
        if self.methods and self.request.method not in self.methods:
            self.send_error(405)
            return
        try:
            answer = await self.server.answer(
                self.name, self.request, lambda: self.work(self.request, *self.path_args)
            )
        except asyncio.CancelledError:
            self.detach().close()  # the server stops: the connection is closed without a response
        else:
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        self.clear_header("Content-Type")
        self.set_status(answer.status)
        for name, value in answer.headers.items():
            self.set_header(name, value)
        self.finish(answer.body or None)

    def compute_etag(self) -> None:
        """No ETag, so that a repeated request is never answered by 304."""
