"""The stand-in for every API that the application calls: a small server whose answers a test chooses."""

from __future__ import annotations

import json as json_module
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from tornado.httputil import HTTPHeaders, HTTPServerRequest

from app.bff.dev.provider import Provider
from app.bff.dev.server import Answer, Endpoint, LocalServer, credentials, json_answer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ApiRequest:
    """A request that reached the API. `path` and `query` are what follows the client's base URL."""

    client: str  # the name of the client that sent it
    method: str
    path: str
    query: dict[str, str]  # of a repeated parameter, the last
    headers: HTTPHeaders = field(repr=False)
    body: bytes
    user: str | None  # whose access token it brought; None: none, or one of the application itself

    @property
    def json(self) -> Any:
        """The body, parsed. Raises ValueError if it is no JSON."""
        return json_module.loads(self.body)


class StandInApi(LocalServer):
    """Answers every named client of the settings, as the test has set it up.

    A request whose access token is not valid at the development provider gets 401. One without an answer gets
    404, with a text that shows how to set one up; pytest shows that too. `await api.stop()` takes it down.
    """

    def __init__(self, provider: Provider) -> None:
        super().__init__()
        self.requests: list[ApiRequest] = []  # the oldest first
        self._provider = provider
        self._answers: dict[tuple[str, str, str | None], Answer] = {}

    def answers(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        text: str | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        client: str | None = None,
    ) -> None:
        """Answer every such request, from now on, with a JSON value or a text.

        `path` is what a handler passes to its client, without the query: `orders/17`. `client` is the name of
        the client that calls; without it the answer is for all. A later answer replaces an earlier one.
        """
        answer = json_answer(json, status, headers)
        if text is not None:
            answer = Answer(status, text.encode(), {"Content-Type": "text/plain", **(headers or {})})
        if status in (204, 304):
            answer = Answer(status, b"", headers or {})
        self._answers[method.upper(), path.strip("/"), client] = answer

    def base_url_for(self, client: str) -> str:
        return f"http://127.0.0.1:{self.port}/{client}/"

    def routes(self) -> list[Any]:
        return [(r"/([^/]+)/(.*)", Endpoint, {"server": self, "name": "api", "work": self._work})]

    def _work(self, request: HTTPServerRequest, client: str, path: str) -> Answer:
        _, token = credentials(request)
        known = self._provider.access_token(token) if token else None
        self.requests.append(_api_request(request, client, path, known.sub if known else None))
        if token and known is None:
            return json_answer({"error": "invalid_token"}, 401, {"WWW-Authenticate": "Bearer"})
        return self._answer_for(request.method or "", path.strip("/"), client)

    def _answer_for(self, method: str, path: str, client: str) -> Answer:
        for key in ((method, path, client), (method, path, None)):
            if key in self._answers:
                return self._answers[key]
        hint = self._hint(method, path, client)
        log.warning(hint)  # pytest shows it when the test fails
        return json_answer({"error": hint}, 404)

    def _hint(self, method: str, path: str, client: str) -> str:
        known = ", ".join(f"{method} {path}" for method, path, _ in self._answers) or "none"
        return (
            f"The stand-in has no answer to {method} {path} of the client {client!r}. Give it one in the "
            f'test: api.answers("{method}", "{path}", json=...). Answers so far: {known}.'
        )


def _api_request(request: HTTPServerRequest, client: str, path: str, user: str | None) -> ApiRequest:
    query = dict(parse_qsl(request.query, keep_blank_values=True))
    return ApiRequest(client, request.method or "", path, query, request.headers, request.body, user)
