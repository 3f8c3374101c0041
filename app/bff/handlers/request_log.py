"""What the log says of a request: the access log, and why a request has failed."""

from __future__ import annotations

import logging

from tornado.httputil import HTTPServerRequest
from tornado.web import HTTPError, RequestHandler

from app.bff.errors import ApiError, AppError, CsrfRejected, Forbidden, NotAllowed
from app.bff.services import Services
from app.bff.sessions.session import Session
from app.bff.telemetry import observer
from app.bff.telemetry.logs import RequestRecord
from app.bff.web.forwarded import client_address

log = logging.getLogger(__name__)

CLIENT_CLOSED_REQUEST = 499  # in the access log only, as in nginx
LOGGED_CHARACTERS = 1_000  # of a path, which may have 64 KB: requests must not fill the log


def log_failure(
    path: str, error: BaseException | None, services: Services, session: Session | None = None
) -> None:
    """Log why a request fails; of a user who may not do something also who that is (see `Audit`)."""
    path = path[:LOGGED_CHARACTERS]
    if isinstance(error, AppError) and error.status != 500:
        observer.current.refused(error.code)
        more = error.call if isinstance(error, ApiError) else {}
        more = {"rule": error.rule} if isinstance(error, NotAllowed) else more
        if session and isinstance(error, Forbidden) and not isinstance(error, CsrfRejected):
            more = {**more, **services.audit.fields("refusal", session)}
        log.info("request refused", extra={"path": path, "reason": str(error), "code": error.code, **more})
    elif isinstance(error, HTTPError):
        log.info("request refused", extra={"path": path, "status": error.status_code})
    else:
        log.error("request failed", extra={"path": path}, exc_info=error)


def log_handler(handler: RequestHandler) -> None:
    """Write the access log of a handler; Tornado calls it as its `log_function`."""
    request = handler.request
    log_access(handler.settings["services"], request, handler.get_status(), request.request_time())


def log_access(services: Services, request: HTTPServerRequest, status: int, seconds: float) -> None:
    """Log method, path and status, if `log_requests` is set; no query, which may contain a code or sid."""
    if observer.current.is_on:
        observer.current.answered(request, status, seconds)
    if not services.settings.log_requests or not log.isEnabledFor(logging.INFO):
        return
    proxies = services.settings.trusted_proxies
    fields = {
        "client": client_address(request.remote_ip or "", request.headers, proxies),
        # Anything may stand there: the rest of a body that is longer than it says.
        "method": request.method if request.method in RequestHandler.SUPPORTED_METHODS else "…",
        "path": request.path[:LOGGED_CHARACTERS],
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
    }
    log.handle(RequestRecord(log.name, "request answered", fields))
