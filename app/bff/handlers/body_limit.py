"""The limit of request bodies, `max_body_bytes` of each handler: a larger one is answered with 413."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from tornado.httputil import (
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.web import Application, RequestHandler, stream_request_body

from app.bff.errors import BadRequest, TooLarge
from app.bff.handlers.web import WebHandler
from app.bff.proxy.request_body import declared_length

NO_LIMIT = 2**63  # Tornado answers a body beyond its own limit with 400, or not at all
_SECONDS, _BYTES_PER_SECOND = 60, 50_000  # a body must have arrived in so much time


def seconds_for_body(max_bytes: int) -> float:
    """Return how long the body of a request may take, if it may have so many bytes."""
    return _SECONDS + max_bytes / _BYTES_PER_SECOND


class BoundedBody(HTTPMessageDelegate):
    """Passes a request on to the delegate of its route, as long as its body is within the route's limit.

    A length that is too large is refused when the headers arrive (before "100 Continue"), chunks when
    more of them have arrived. The response closes the connection; `StrictStream` then lets the client
    read it, although it may still be sending.
    """

    def __init__(
        self, application: Application, request: HTTPServerRequest, delegate: HTTPMessageDelegate
    ) -> None:
        self._application = application
        self._request = request
        self._connection: Any = request.connection
        self._delegate: HTTPMessageDelegate | None = delegate  # None once the request is refused
        self._handler_class = getattr(delegate, "handler_class", RequestHandler)
        self._max_bytes = getattr(self._handler_class, "max_body_bytes", WebHandler.max_body_bytes)
        self._received = 0

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self._connection.stream.has_unread_body = True
        self._connection.set_max_body_size(NO_LIMIT)
        self._connection.set_body_timeout(seconds_for_body(self._max_bytes))
        try:
            length = declared_length(headers) or 0
        except BadRequest as error:
            raise HTTPInputError(error.detail) from error  # 400
        if length > self._max_bytes:
            return self._refuse()
        self._connection.stream.awaits_body = not getattr(self._delegate, "stream_request_body", False)
        return self._delegate.headers_received(start_line, headers) if self._delegate else None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        self._received += len(chunk)
        if self._delegate and self._received > self._max_bytes:
            self._delegate.on_connection_close()  # a handler that streams its body has begun
            return self._refuse()
        return self._delegate.data_received(chunk) if self._delegate else None

    def finish(self) -> None:
        self._connection.stream.has_unread_body = self._connection.stream.awaits_body = False
        if self._delegate:
            self._delegate.finish()

    def on_connection_close(self) -> None:
        if self._delegate:
            self._delegate.on_connection_close()

    def _refuse(self) -> Awaitable[None] | None:
        """Respond; Tornado reads on, and sends "100 Continue", when the returned future is done."""
        self._delegate = None
        if self._connection._response_start_line:  # too late for another response
            return self._connection.close()  # type: ignore[no-any-return]
        refused = {"refused": self._handler_class, "max_bytes": self._max_bytes}
        refusal = self._application.get_handler_delegate(self._request, BodyTooLarge, refused)
        return refusal.headers_received(self._connection._request_start_line, self._request.headers)


@stream_request_body
class BodyTooLarge(WebHandler):
    """Answers 413 instead of the handler `refused`: with a page where that would answer with one.

    It begins before the body arrives, as a handler that streams does, and needs none of it.
    """

    def initialize(self, refused: type[RequestHandler], max_bytes: int) -> None:
        self.renders_html = getattr(refused, "renders_html", False)
        self._max_bytes = max_bytes
        self.keeps_opener = getattr(refused, "keeps_opener", False)
        self.cors_methods = getattr(refused, "cors_methods", ())
        self.clear()  # the headers depend on it

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Connection", "close")

    def check_trusted_origin(self, origin: str) -> bool:
        return True  # a refusal changes no state

    def prepare(self) -> None:
        raise TooLarge(f"the request body is limited to {self._max_bytes} bytes")
