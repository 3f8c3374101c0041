"""An API to call with an access token: it echoes the request, and keeps to-do lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from tornado.httputil import HTTPServerRequest

from app.bff.dev.grants import TokenRecord
from app.bff.dev.protected_resource import ProtectedResource, with_nonce
from app.bff.dev.provider import Provider
from app.bff.dev.server import Answer, Endpoint, LocalServer, json_answer
from app.bff.dev.sockets import OPEN, EchoSocket

EXAMPLES = ("Sign in", "Register a client for your own API")

Work = Callable[..., Answer]


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it arrived, Authorization and DPoP included."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]] = field(repr=False)
    body: str

    def repeated(self) -> dict[str, object]:
        """Safe to show: of the access token and its proof it says only that they were there."""
        headers = [(name, _shown(name.lower(), value)) for name, value in self.headers]
        return {**asdict(self), "headers": headers}


def _shown(name: str, value: str) -> str:
    if name == "authorization":
        return "DPoP …" if value.lower().startswith("dpop ") else "Bearer …"
    return "…" if name == "dpop" else value


class Todos:
    """One list per user; each begins with two examples."""

    def __init__(self) -> None:
        self._lists: dict[str, dict[int, str]] = {}

    def of(self, sub: str) -> list[dict[str, object]]:
        return [_todo(number, title) for number, title in self._list(sub).items()]

    def add(self, sub: str, title: str) -> dict[str, object]:
        number = max(self._list(sub), default=0) + 1
        self._list(sub)[number] = title
        return _todo(number, title)

    def remove(self, sub: str, number: int) -> bool:
        return self._list(sub).pop(number, None) is not None

    def totals(self) -> dict[str, object]:
        return {sub: len(todos) for sub, todos in self._lists.items()}

    def clear(self) -> None:
        for todos in self._lists.values():
            todos.clear()

    def _list(self, sub: str) -> dict[int, str]:
        return self._lists.setdefault(sub, dict(enumerate(EXAMPLES, start=1)))


def _todo(number: int, title: str) -> dict[str, object]:
    return {"id": number, "title": title, "done": title == EXAMPLES[0]}


class DemoApi(LocalServer):
    """Answers requests with a live access token of the provider; others get 401.

    With `audience` it accepts only tokens that have it.
    The names of its endpoints, for `holds`, `holds_answer`, `fails` and `counts`: echo, todos,
    redirect, status, socket. A request without a good token is counted, held and failed like any other.
    `holds["message"]` keeps an open socket from reading on.
    """

    def __init__(self, provider: Provider, *, audience: str | None = None) -> None:
        super().__init__()
        self.audience = audience
        self.rejects: set[str] = set()  # access tokens that get 401 although they are alive
        self.dpop_nonce: str | None = None  # what every DPoP proof must carry
        self.last_request: ReceivedRequest | None = None
        self.sockets: list[EchoSocket] = []  # all that were ever opened
        self._provider = provider
        self._guard = ProtectedResource(provider, self._takes)
        self._todos = Todos()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/"

    def routes(self) -> list[Any]:
        return [
            self._route(r"/api/echo(?:/.*)?", "echo", self._echo),
            self._route(r"/api/todos", "todos", self._todo_list, "GET", "POST"),
            self._route(r"/api/todos/([0-9]+)", "todos", self._todo, "DELETE"),
            self._route(r"/api/admin/todos", "todos", self._all_todos, "GET", "DELETE"),
            self._route(r"/api/redirect", "redirect", self._redirect),
            self._route(r"/api/status/([2-5][0-9][0-9])", "status", self._status),
            self._socket(r"/api/socket(?:/.*)?", "socket"),
        ]

    def record(self, endpoint: str, request: HTTPServerRequest) -> None:
        super().record(endpoint, request)
        self.last_request = received(request)

    def _route(self, path: str, name: str, work: Work, *methods: str) -> tuple[str, type[Endpoint], Any]:
        options = {"server": self, "name": name, "work": self._guarded(work), "methods": methods}
        return path, Endpoint, options

    def _socket(self, path: str, name: str) -> tuple[str, type[Endpoint], Any]:
        work = self._guarded(lambda request, token: OPEN)
        return path, EchoSocket, {"server": self, "name": name, "work": work, "sockets": self.sockets}

    def _guarded(self, work: Work) -> Work:
        def guarded(request: HTTPServerRequest, *path: str) -> Answer:
            nonce = self.dpop_nonce
            return with_nonce(
                self._guard.admit(request, lambda token: work(request, token, *path), nonce), nonce
            )

        return guarded

    def _takes(self, token: TokenRecord) -> bool:
        return token.value not in self.rejects and self.audience in (None, token.resource)

    def _echo(self, request: HTTPServerRequest, token: TokenRecord) -> Answer:
        return json_answer({**received(request).repeated(), **self._described(token)})

    def _described(self, token: TokenRecord) -> dict[str, object]:
        who = {"user": token.sub, "client": token.client_id}
        what = {"scope": token.scope, "audience": token.resource}
        return {**who, **what, "expires_in": self._seconds_left(token)}

    def _seconds_left(self, token: TokenRecord) -> int:
        return round(token.expires_at - self._provider.clock())

    def _todo_list(self, request: HTTPServerRequest, token: TokenRecord) -> Answer:
        owner = token.sub or token.client_id
        if request.method == "GET":
            return json_answer(self._todos.of(owner))
        title = title_in(request.body)
        if title is None:
            return json_answer({"error": 'send JSON like {"title": "Water the plants"}'}, 400)
        return json_answer(self._todos.add(owner, title), 201)

    def _todo(self, request: HTTPServerRequest, token: TokenRecord, number: str) -> Answer:
        if self._todos.remove(token.sub or token.client_id, int(number)):
            return Answer(204)
        return json_answer({"error": "no such to-do"}, 404)

    def _all_todos(self, request: HTTPServerRequest, token: TokenRecord) -> Answer:
        """For admins, as the application knows and this API does not."""
        if request.method == "GET":
            return json_answer(self._todos.totals())
        self._todos.clear()
        return Answer(204)

    def _redirect(self, request: HTTPServerRequest, token: TokenRecord) -> Answer:
        return Answer(302, headers={"Location": request.arguments["to"][-1].decode()})

    def _status(self, request: HTTPServerRequest, token: TokenRecord, code: str) -> Answer:
        return Answer(204) if code == "204" else json_answer({}, int(code))


def received(request: HTTPServerRequest) -> ReceivedRequest:
    headers = list(request.headers.get_all())
    body = request.body.decode(errors="replace")
    return ReceivedRequest(request.method or "", request.path, request.query, headers, body)


def title_in(body: bytes) -> str | None:
    try:
        title = json.loads(body)["title"]
    except (ValueError, TypeError, KeyError):
        return None
    return title.strip() if isinstance(title, str) and title.strip() else None
