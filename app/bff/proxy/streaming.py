"""Low-level HTTP delegate for the proxy hot path: without RequestHandler, whose overhead exceeds our work."""

from __future__ import annotations

import asyncio
import functools
import json
import secrets
import time
from collections.abc import Awaitable, Iterable, Mapping
from http.client import responses

from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import StreamClosedError

from app.bff.clients.registry import as_app_error
from app.bff.errors import AppError, TooLarge
from app.bff.handlers.request_log import CLIENT_CLOSED_REQUEST, log_access, log_failure
from app.bff.paths import LOGIN_PATH
from app.bff.proxy.patience import Patience
from app.bff.proxy.request_body import RequestBody, declared_length
from app.bff.services import Services
from app.bff.sessions.session import Session
from app.bff.telemetry import logs
from app.bff.web.cors import cors_headers
from app.bff.web.headers import security_headers
from app.bff.web.problems import CONTENT_TYPE, error_headers, problem

_NO_LIMIT = 2**63  # Tornado's own limit closes the connection without a response; RequestBody has ours


@functools.cache
def _default_headers(https: bool) -> dict[str, tuple[str, str]]:
    """Return the security headers by lower-case name."""
    headers = security_headers(nonce=None, https=https)
    return {name.lower(): (name, value) for name, value in headers.items()}


def has_body(headers: Mapping[str, str]) -> bool:
    declares_length = "Content-Length" in headers and headers["Content-Length"] != "0"
    return declares_length or "Transfer-Encoding" in headers


class ResponseHeaders:
    """Minimal, faster stand-in for HTTPHeaders: the methods that HTTP1Connection.write_headers calls."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = list(pairs)
        self._values = {name.lower(): value for name, value in self._pairs}

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __setitem__(self, name: str, value: str) -> None:
        self.remove(name)
        self._values[name.lower()] = value
        self._pairs.append((name, value))

    def add_missing(self, headers: Mapping[str, tuple[str, str]]) -> None:
        self._pairs += [header for name, header in headers.items() if name not in self._values]

    def remove(self, name: str) -> None:
        if self._values.pop(name.lower(), None) is not None:
            self._pairs = [pair for pair in self._pairs if pair[0].lower() != name.lower()]

    def get_all(self) -> list[tuple[str, str]]:
        return self._pairs


class ReadDelay:
    """A future, `elapsed`, that completes after `seconds`, or when `end()` is called."""

    def __init__(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.elapsed: asyncio.Future[None] = loop.create_future()
        self._timer = loop.call_later(seconds, self.end)

    def end(self) -> None:
        self._timer.cancel()
        if not self.elapsed.done():
            self.elapsed.set_result(None)


class StreamingDelegate(HTTPMessageDelegate):
    """Answers one request for data: streams in both directions, never renders HTML.

    A subclass implements `answer`, which runs in a task of its own: Tornado reads the request meanwhile,
    and a closed connection cancels the task. The request and the response advance independently:

        request     headers ──data_received()*── finish() ──▶ read      (`_is_read`)
        response    none ──start()──▶ begun ──write()*── _finish() ──▶ complete
                    (`_status` 0)     (`_status` set)

        both at their end                   the connection finishes, and serves the next request
        response complete, request without  `_finish_when_read`: finished by `finish()`, since Tornado
          body not read yet                 closes a connection whose request it has not read
        response complete, body not read    the body is discarded if the browser is sending it
          yet                               (`_sends_unasked`, or `body.is_requested` after 100 Continue),
                                            then the connection closes
        error, response not begun           a problem document
        error, response begun               the connection is cut: the response is incomplete

    After reading a request Tornado registers a close callback (about 6 % of the request's CPU). For requests
    without body that is delayed by `pause_seconds`; most responses are complete before it is needed.
    """

    pause_seconds: float = 0.05
    session: Session | None = None  # of the request, once it is loaded

    def __init__(
        self,
        services: Services,
        request: HTTPServerRequest,
        *,
        max_body_bytes: int = 0,
    ) -> None:
        assert request.connection is not None
        self.services = services
        self.request = request
        self.request_id = secrets.token_hex(8)
        self.max_body_bytes = max_body_bytes
        self._connection = request.connection
        self._started_at = time.monotonic()
        self._status = 0  # of the response, once it has begun
        self.body: RequestBody | None = None
        self._read_delay: ReadDelay | None = None
        self._is_read = False
        self._finish_when_read = False
        self._is_left = False  # by the browser: Tornado calls `finish` no more
        self._sends_unasked = False  # the browser sends its body without `Expect: 100-continue`

    async def answer(self) -> None:
        raise NotImplementedError

    def default_headers(self, status: int) -> dict[str, tuple[str, str]]:
        """Return the headers that every response has, by lower-case name."""
        return _default_headers(self.services.settings.https)

    @property
    def exposed_headers(self) -> Iterable[str]:
        """Names of headers that scripts of allowed origins may read, beyond those of every response."""
        return ()

    # Called by Tornado.

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self.services.in_flight_requests.begin(self)
        self._task = asyncio.create_task(self._run())
        if not has_body(headers):
            return self._delay_reading(headers)
        self.body = RequestBody(self.max_body_bytes, Patience.of(self.services.settings))
        self._connection.set_max_body_size(_NO_LIMIT)  # type: ignore[attr-defined]
        self._connection.set_body_timeout(None)  # type: ignore[attr-defined]
        self._connection.stream.set_close_callback(self.on_connection_close)  # type: ignore[attr-defined]
        return self.body.requested()

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self.body.put(chunk) if self.body else None

    def finish(self) -> None:
        self._is_read = True
        if self._finish_when_read:
            self._connection.finish()
            self.services.in_flight_requests.end(self)
            return
        if self.body:
            self.body.end()
        self._connection.set_close_callback(self.on_connection_close)  # type: ignore[attr-defined]
        if self._connection.stream.closed():  # type: ignore[attr-defined]
            asyncio.get_running_loop().call_soon(self.on_connection_close)  # it is not called any more

    def on_connection_close(self) -> None:
        self._is_left = True
        # Not at once: a task that is cancelled before its first step would not even clean up.
        asyncio.get_running_loop().call_soon(self._task.cancel)
        if self._finish_when_read:
            self.services.in_flight_requests.end(self)

    def _delay_reading(self, headers: HTTPHeaders) -> Awaitable[None] | None:
        # With Expect, Tornado sends "100 Continue" after this future: that must not follow our response.
        if "Expect" in headers:
            return None
        self._read_delay = ReadDelay(self.pause_seconds)
        return self._read_delay.elapsed

    # The response.

    def start(self, status: int, headers: Iterable[tuple[str, str]], chunk: bytes = b"") -> Awaitable[None]:
        """Send status, headers and the first bytes of the body; a given header replaces the default one."""
        response_headers = ResponseHeaders(
            [*headers, *self._cors_headers(), ("X-Request-Id", self.request_id)]
        )
        response_headers.add_missing(self.default_headers(status))
        if status == 204:
            response_headers.remove("Content-Length")
        if self.services.stopping.is_set() or self._is_receiving():
            response_headers["Connection"] = "close"
        self._status = status
        line = ResponseStartLine("HTTP/1.1", status, responses.get(status, "Unknown"))
        return self._connection.write_headers(line, response_headers, chunk or None)  # type: ignore[arg-type]

    def _cors_headers(self) -> Iterable[tuple[str, str]]:
        if not (origins := self.services.settings.allowed_origins):
            return ()
        return cors_headers(self.request.headers, origins, exposed=self.exposed_headers).items()

    def write(self, chunk: bytes) -> Awaitable[None]:
        return self._connection.write(chunk)

    def send(self, status: int, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> None:
        """Send a complete response."""
        length = () if status in (204, 304) else (("Content-Length", str(len(body))),)
        self.start(status, [*headers, *length], b"" if self.request.method == "HEAD" else body)

    async def _run(self) -> None:
        logs.request_id.set(self.request_id)
        try:
            self._check_length()
            await self.answer()
            await self._finish()
        except (asyncio.CancelledError, StreamClosedError):
            self._status = self._status or CLIENT_CLOSED_REQUEST
        except Exception as error:
            await self._fail((self.body and self.body.error) or as_app_error(error) or error)
        finally:
            self._release()
            log_access(self.services, self.request, self._status, time.monotonic() - self._started_at)

    def _release(self) -> None:
        if self.body:
            self.body.release()
        if self._read_delay:
            self._read_delay.end()
        if not self._finish_when_read:
            self.services.in_flight_requests.end(self)

    def _is_receiving(self) -> bool:
        return self.body is not None and not self.body.ended

    def _check_length(self) -> None:
        if self.body is None:
            return
        length = declared_length(self.request.headers)
        self._sends_unasked = "Expect" not in self.request.headers
        if length is not None and length > self.max_body_bytes:
            raise TooLarge(f"the request body is limited to {self.max_body_bytes} bytes")

    async def _finish(self) -> None:
        """Complete the response. Closing on a browser that still sends could lose it (RFC 9112 §9.6)."""
        if self.body and not self.body.ended and (self.body.is_requested or self._sends_unasked):
            self._connection.stream.awaits_body = True  # type: ignore[attr-defined]
            await self.body.discard()
            self._connection.stream.awaits_body = False  # type: ignore[attr-defined]
        if self._is_read or self.body:
            self._connection.finish()
        else:
            self._finish_when_read = not self._is_left

    async def _fail(self, error: BaseException) -> None:
        log_failure(self.request.path, error, self.services, self.session)
        if self._status:  # too late for a problem document
            self._connection.close()  # type: ignore[attr-defined]
            return
        status = error.status if isinstance(error, AppError) else 500
        document = problem(status, error, request_id=self.request_id, login_url=LOGIN_PATH)
        headers = [("Content-Type", CONTENT_TYPE), *error_headers(error)]
        self.send(status, headers, json.dumps(document).encode())
        await self._finish()
