"""Why somebody could not be reached, in words for a person."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from socket import gaierror


def in_words(error: BaseException) -> str:
    """Return the reason that lies deepest: libraries wrap it, and each time it loses a part."""
    known = (reason for reason in reversed(list(_chain(error))) if isinstance(reason, OSError))
    return next((_of_the_network(reason) for reason in known), str(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _of_the_network(error: OSError) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted here: {error.verify_message}"
        case ssl.SSLError():
            return "what answers there does not speak TLS as we do"
        case gaierror():
            return "its name is not known here (DNS)"
        case ConnectionRefusedError():
            return "nobody listens there"
        case TimeoutError():
            return "no answer in time"
    return error.strerror or str(error)
