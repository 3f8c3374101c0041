"""HTTPServer whose connections refuse a chunk size that ends in LF alone, instead of waiting for its CRLF."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream

_CRLF = b"\r\n"
# Nothing at all if the first LF comes without a CR, which Tornado then refuses as a size (RFC 9112 §7.1).
_SIZE_LINE = re.compile(rb"\A(?:(?=[^\n]{0,64}(?<!\r)\n)|[^\n]{0,64}\r\n)")


class StrictStream(IOStream):
    """The stream of a connection. Tornado's server reads until CRLF for the sizes of chunks only."""

    def read_until(self, delimiter: bytes, max_bytes: int | None = None) -> Awaitable[bytes]:
        if delimiter != _CRLF:
            return super().read_until(delimiter, max_bytes)
        return self.read_until_regex(_SIZE_LINE.pattern, max_bytes)


class StrictServer(HTTPServer):
    """HTTPServer with a StrictStream for each connection."""

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        strict = StrictStream(
            stream.socket, max_buffer_size=self.max_buffer_size, read_chunk_size=self.read_chunk_size
        )
        super().handle_stream(strict, address)
