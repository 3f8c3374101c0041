"""ApiHandler without a RequestHandler, which costs more than all that we do: for what runs all day."""

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
    parse_cookie,
)
from tornado.iostream import StreamClosedError

from app.bff.clients.registry import as_app_error
from app.bff.errors import AppError, CsrfRejected, TooLarge
from app.bff.handlers.web import CLIENT_CLOSED_REQUEST, log_access, log_failure
from app.bff.paths import LOGIN_PATH
from app.bff.proxy.request_body import RequestBody, declared_length, has_body
from app.bff.services import Services
from app.bff.sessions.session import Session
from app.bff.telemetry import logs
from app.bff.web.cross_origin import csrf_refusal
from app.bff.web.headers import security_headers
from app.bff.web.problems import CONTENT_TYPE, error_headers, problem

_NO_LIMIT = 2**63  # of Tornado's own, which would answer without a word: ours is in RequestBody


@functools.cache
def _default_headers(https: bool) -> dict[str, tuple[str, str]]:
    """Return our headers under their names in small letters."""
    headers = security_headers(nonce=None, https=https)
    return {name.lower(): (name, value) for name, value in headers.items()}


class ResponseHeaders:
    """The headers of an answer, with the little that Tornado's connection does to them; its own cost more."""

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
    """For whoever awaits `elapsed`: it lasts so many seconds, or until somebody calls `end`."""

    def __init__(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.elapsed: asyncio.Future[None] = loop.create_future()
        self._timer = loop.call_later(seconds, self.end)

    def end(self) -> None:
        self._timer.cancel()
        if not self.elapsed.done():
            self.elapsed.set_result(None)


class StreamingDelegate(HTTPMessageDelegate):
    """Answers one request for data: wants `X-CSRF: 1`, streams both ways, never shows a page.

    A subclass writes `answer`. Tornado hands over headers and body as they arrive; the answer is a
    task of its own, which ends when the browser leaves.

    Once a request is read Tornado listens whether the browser leaves. That is a sixteenth of all the
    work, and for nothing if the answer comes soon; so if there is no body to read, it pauses first.
    """

    max_body_bytes = 0
    stall_seconds: float = 30
    pause_seconds: float = 0.05  # the whole answer is there by then, as a rule

    def __init__(self, services: Services, request: HTTPServerRequest) -> None:
        assert request.connection is not None
        self.services = services
        self.request = request
        self.request_id = secrets.token_hex(8)
        self._connection = request.connection
        self._started_at = time.monotonic()
        self._status = 0
        self.body: RequestBody | None = None
        self._read_delay: ReadDelay | None = None
        self._is_read = False  # the request, to its end
        self._finish_when_read = False  # the answer, as soon as it is
        self._sends_unasked = False  # whether the browser sends its body without being asked for it

    async def answer(self) -> None:
        raise NotImplementedError

    async def require_session(self) -> Session | None:
        """Return the session of the browser, if there is one; raises CsrfRejected."""
        refusal = csrf_refusal(self.request.headers)
        if refusal:
            raise CsrfRejected(refusal)
        cookies = parse_cookie(self.request.headers.get("Cookie", ""))
        return await self.services.load_session(cookies.get(self.services.cookies.session_name))

    def default_headers(self, status: int) -> dict[str, tuple[str, str]]:
        """Return the headers that every answer has, under their names in small letters."""
        return _default_headers(self.services.settings.https)

    # What Tornado calls.

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self.services.in_flight_requests.begin(self)
        self._task = asyncio.create_task(self._run())
        if not has_body(headers):
            return self._delay_reading(headers)
        self.body = RequestBody(max_bytes=self.max_body_bytes, stall_seconds=self.stall_seconds)
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
            asyncio.get_running_loop().call_soon(self.on_connection_close)  # nobody else says so any more

    def on_connection_close(self) -> None:
        self._task.cancel()

    def _delay_reading(self, headers: HTTPHeaders) -> Awaitable[None] | None:
        if "Expect" in headers:  # Tornado says 100 after the pause, and that must not follow an answer
            return None
        self._read_delay = ReadDelay(self.pause_seconds)
        return self._read_delay.elapsed

    # The answer.

    def start(self, status: int, headers: Iterable[tuple[str, str]], chunk: bytes = b"") -> Awaitable[None]:
        """Send status, headers and the first of the body; of our own headers, those that are not given."""
        response_headers = ResponseHeaders([*headers, ("X-Request-Id", self.request_id)])
        response_headers.add_missing(self.default_headers(status))
        if status == 204:
            response_headers.remove("Content-Length")
        if self.services.stopping.is_set() or self._is_receiving():
            response_headers["Connection"] = "close"
        self._status = status
        line = ResponseStartLine("HTTP/1.1", status, responses.get(status, "Unknown"))
        return self._connection.write_headers(line, response_headers, chunk or None)  # type: ignore[arg-type]

    def write(self, chunk: bytes) -> Awaitable[None]:
        return self._connection.write(chunk)

    def send(self, status: int, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> None:
        """Send a whole answer."""
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
            raise TooLarge(f"at most {self.max_body_bytes} bytes may be sent here")

    async def _finish(self) -> None:
        """A browser that is still sending would lose its answer if we hung up at once (RFC 9112 §9.6)."""
        if self.body and not self.body.ended and (self.body.is_requested or self._sends_unasked):
            await self.body.discard()
        if self._is_read or self.body:
            self._connection.finish()
        else:  # Tornado hangs up on whoever is not read to the end
            self._finish_when_read = True

    async def _fail(self, error: BaseException) -> None:
        log_failure(self.request.path, error)
        if self._status:  # it is too late for words: a cut connection says that this was not all
            self._connection.close()  # type: ignore[attr-defined]
            return
        status = error.status if isinstance(error, AppError) else 500
        document = problem(status, error, request_id=self.request_id, login_url=LOGIN_PATH)
        headers = [("Content-Type", CONTENT_TYPE), *error_headers(error)]
        self.send(status, headers, json.dumps(document).encode())
        await self._finish()
