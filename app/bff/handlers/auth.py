"""AuthHandler, the base of login and logout; LoginStep, what a login and its callback share."""

from __future__ import annotations

import logging
from contextlib import suppress
from types import TracebackType
from typing import Any

from app.bff.crypto import Unsealable
from app.bff.errors import AppError, LoginFailed, StoreUnavailable, WrongSid
from app.bff.handlers.base import BaseHandler
from app.bff.handlers.login_outcome import login_outcome
from app.bff.handlers.web import exception_from, is_denied
from app.bff.oidc.login_attempt import ATTEMPT_SECONDS, LoginAttempt
from app.bff.telemetry import observer
from app.bff.web.cross_origin import is_prefetch

log = logging.getLogger(__name__)

# How long the store remembers an attempt: longer than it lives, by the clock of any process.
CLAIM_SECONDS = ATTEMPT_SECONDS + 60


class AuthHandler(BaseHandler):
    """Base of the login and logout handlers. A login that an error page offers returns to `return_path`."""

    return_path: str | None = "/"  # the handler's own URL is no place to return to
    serves_allowed_origins = True
    referrer_policy = "no-referrer"  # these URLs carry codes and sids

    async def prepare(self) -> None:
        if is_prefetch(self.request.headers):
            self.set_status(204)  # a navigation, should it follow, sends the request anew
            self.finish()
        else:
            await super().prepare()

    def set_sealed_cookie(self, name: str, value: str) -> None:
        """Set the cookie of a login attempt or a logout; those of the oldest attempts make room for it."""
        cookies = self.services.cookies
        for excess in cookies.excess_attempts(self.request_cookies, name, value):
            self.clear_cookie(excess, **cookies.login_cookie_attributes)
        self.set_cookie(name, value, max_age=ATTEMPT_SECONDS, **cookies.login_cookie_attributes)

    def read_logout_cookie(self) -> dict[str, str]:
        """Return what a logout of this browser, from which it has not come back, has saved; see logout.py."""
        name = self.services.cookies.logout_name
        try:
            return dict(self.services.vault.open_json(self.request_cookies.get(name, ""), place=name))
        except Unsealable:
            return {}

    async def save_return_path(self, path: str, key: str) -> bool:
        """Store a path that is too long for a cookie; return whether it is stored."""
        until = self.services.clock() + CLAIM_SECONDS
        try:
            is_saved = await self.services.return_paths.put(key, path, until=until)
        except StoreUnavailable:
            is_saved = False
        if not is_saved:
            log.warning("return path shortened", extra={"bytes": len(path.encode())})
        return is_saved

    async def saved_return_path(self, key: str, part: str) -> str:
        """Return the path that was stored under `key`, or `part` of it if the store does not have it."""
        with suppress(StoreUnavailable):
            return await self.services.return_paths.get(key) or part
        return part

    @property
    def waiting_revocations(self) -> list[str]:
        """The ids of the outbox entries that wait until this browser comes back from a logout."""
        return self.read_logout_cookie().get("revocations", "").split()

    def try_again_url(self, status_code: int, error: BaseException | None) -> str | None:
        return None if isinstance(error, WrongSid) or is_denied(error) else self.login_url


class LoginStep(AuthHandler):
    """The redirect or the callback of a login, which may be silent: `prompt=none`.

    A silent login runs in a frame or popup of a page of this site. It never shows an error page: it ends
    with a `postMessage` to that page, or at `silent_path`. So its responses may be framed by this site. Any
    login may run in a popup: no response of these routes cuts it off from the page that has opened it.
    """

    keeps_opener = True
    keeps_attempts = True
    is_silent = False
    silent_path: str | None = None  # where a silent login ends; None: with the message
    attempt: LoginAttempt | None = None

    def set_silent(self, silent: bool, *, path: str | None = None) -> None:
        self.silent_path = path
        if silent != self.is_silent:
            self.is_silent = self.framed_by_same_site = silent
            self.set_default_headers()  # they depend on it

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if not self.is_silent:
            super().write_error(status_code, **kwargs)
            return
        self.set_status(200)
        self.end_silently(error=_message_code(exception_from(kwargs)))

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        super().log_exception(typ, value, tb)
        observer.current.login_ended(login_outcome(value, begun_here=self.attempt is not None))

    def end_silently(self, *, error: str | None = None) -> None:
        """Answer with the message, in Duende.BFF's format, or with a page that navigates to `silent_path`.

        As with Duende, `isLoggedIn` tells whether there is a session now; `error`, that this login failed.
        """
        if self.silent_path is not None:
            self.navigate_same_site(self.silent_path)
            return
        is_logged_in = error is None or self.session is not None
        message = {"source": "bff-silent-login", "isLoggedIn": is_logged_in}
        self.render_page(
            "bff/silent_login.html",
            message={**message, "error": error} if error else message,
            origins=[self.services.settings.base_url, *self.services.settings.allowed_origins],
        )


def _message_code(error: BaseException | None) -> str:
    if isinstance(error, LoginFailed):
        return error.reason
    return error.code if isinstance(error, AppError) else AppError.code
