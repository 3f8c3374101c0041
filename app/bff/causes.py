"""Names the cause of a failed connection, for logs and the doctor. Pure; passes on nothing received."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator

# X.509 verification codes of OpenSSL whose own text does not name the cause, or names the host.
_NOT_TRUSTED = {
    **dict.fromkeys((19, 20, 21), "unknown authority; see SSL_CERT_FILE"),
    **dict.fromkeys((62, 64), "it is for another host"),
}
_NO_SUCH_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


def cause_of(error: BaseException) -> str | None:
    """Return the cause in a failed connection's chain of exceptions, or None if it has no known one.

    The innermost OSError is the cause: libraries wrap it, and lose detail. The text contains no URL, no name
    or address of a host (responses show it), and nothing that was received.
    """
    known = (reason for reason in reversed(list(_chain(error))) if isinstance(reason, OSError))
    return next((text for text in map(_of_the_network, known) if text), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):  # one for each address that was tried
            yield from _chain(error.exceptions[0])
        error = error.__cause__ or error.__context__


def _of_the_network(error: OSError) -> str | None:
    match error:
        case ssl.SSLCertVerificationError():
            why = _NOT_TRUSTED.get(error.verify_code, error.verify_message)
            return f"its certificate is not trusted: {why}"
        case ssl.SSLWantReadError() | ssl.SSLWantWriteError():
            return None  # what a handshake waited for
        case ssl.SSLEOFError():
            return "TLS handshake failed: the connection was closed"
        case ssl.SSLError():
            reason = getattr(error, "reason", None)
            return f"TLS handshake failed: {reason}" if reason else "TLS handshake failed"
        case socket.gaierror():
            return "DNS name not found" if error.errno in _NO_SUCH_NAME else "DNS lookup failed"
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionResetError() | BrokenPipeError():
            return "connection reset"
        case TimeoutError():
            return "timed out"
        case OSError(errno=int(number)) if number in errno.errorcode:
            return os.strerror(number)  # asyncio's own text has the address
    return None
