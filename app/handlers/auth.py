"""Login and callback: the navigations between the browser, us and the provider that sign somebody in."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence

from app.errors import (
    BadRequest,
    GrantRefused,
    LoginFailed,
    StoreUnavailable,
    UntrustedToken,
    WrongSid,
)
from app.handlers.base import BaseHandler
from app.handlers.plain import login_url
from app.observability import short
from app.oidc.claims import text
from app.oidc.dpop import new_key
from app.oidc.login import ATTEMPT_SECONDS, LoginAttempt
from app.sessions.limit import beyond
from app.sessions.session import Reason, Session, new_session_id, session_ref
from app.web.cross_origin import is_prefetch
from app.web.devices import device_in_words
from app.web.return_paths import local_path

log = logging.getLogger(__name__)

_PROMPTS = frozenset({"none", "login", "consent", "select_account"})  # OIDC Core §3.1.2.1


class AuthHandler(BaseHandler):
    return_path = "/"  # nobody wants to come back to one of these URLs themselves

    @property
    def login_url(self) -> str:
        return login_url(self.return_path)

    def try_again_url(self, status_code: int, error: BaseException | None) -> str | None:
        return None if isinstance(error, WrongSid) else self.login_url

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Referrer-Policy", "no-referrer")  # these URLs carry codes and sids


class Login(AuthHandler):
    """Starts a login attempt; several may be under way, one in each tab."""

    async def get(self) -> None:
        if is_prefetch(self.request.headers):
            self.set_status(204)
            return
        attempt = LoginAttempt.start(
            return_path=local_path(self.params.get("returnUrl")),
            issuer=self.services.provider.issuer,
            replaces=self.session.ref if self.session else None,
            now=self.services.clock(),
            dpop_key=new_key() if self.services.settings.dpop else None,
        )
        url = await self.services.oidc.login_url(attempt, prompt=await self._prompt())
        self._remember(attempt)
        self.redirect(url)

    async def _prompt(self) -> str | None:
        prompt = self.params.get("prompt")
        if prompt is None:
            return None
        known = (await self.services.provider.metadata()).prompts or _PROMPTS
        if prompt not in known:
            raise BadRequest(f"prompt must be one of {', '.join(sorted(known))}")
        return prompt

    def _remember(self, attempt: LoginAttempt) -> None:
        cookies = self.services.cookies
        for name in cookies.too_many_logins(self.request.cookies):
            self.clear_cookie(name, **cookies.passing_attributes())
        name = cookies.login_name(attempt.state, attempt.created_at)
        self.set_cookie(
            name,
            attempt.sealed(self.services.vault, cookie_name=name),
            max_age=ATTEMPT_SECONDS,
            **cookies.passing_attributes(),
        )


class Callback(AuthHandler):
    """Ends a login attempt: the provider has sent the browser back."""

    repeats_cross_site_navigations = False

    async def get(self) -> None:
        attempt = self._take_attempt()
        if attempt is None and self.session is not None:
            self.redirect("/")  # a repeated or bookmarked callback, and nothing left to do
            return
        if attempt is None:
            raise LoginFailed(
                "This browser remembers no such sign-in: it took too long, or it is done already."
            )
        session_id, session = await self._sign_in(attempt)
        await self._replace_session(attempt, session)
        log.info("session started", extra={"session": short(session.ref)})
        self.set_cookie(
            self.services.cookies.session_name, session_id, **self.services.cookies.session_attributes()
        )
        self.move_on_to(attempt.return_path)

    def _take_attempt(self) -> LoginAttempt | None:
        """Return the attempt that `state` names, and forget it: an answer counts once."""
        cookies = self.services.cookies
        name = cookies.login_name_of(self.params.get("state", ""), self.request.cookies)
        if name is None:
            return None
        self.clear_cookie(name, **cookies.passing_attributes())
        attempt = LoginAttempt.opened(self.get_cookie(name) or "", self.services.vault, cookie_name=name)
        self.return_path = attempt.return_path
        return attempt

    async def _sign_in(self, attempt: LoginAttempt) -> tuple[str, Session]:
        services = self.services
        announces_iss = (await services.provider.metadata()).announces_iss
        code = attempt.code(self.params, announces_iss=announces_iss, now=services.clock())
        try:
            claims, tokens = await services.oidc.sign_in(attempt, code)
        except GrantRefused as error:
            raise LoginFailed("The sign-in service does not know this answer any more.") from error
        except UntrustedToken as error:
            log.error("login refused", extra={"reason": str(error)})
            raise LoginFailed("The answer of the sign-in service could not be trusted.") from error
        now = services.clock()
        session_id = new_session_id()
        return session_id, Session(
            ref=session_ref(session_id),
            issuer=attempt.issuer,
            subject=claims["sub"],
            sid=text(claims, "sid") or secrets.token_urlsafe(16),
            session_state=self.params.get("session_state"),
            claims=claims,
            tokens=tokens,
            dpop_key=attempt.dpop_key,
            device=device_in_words(self.request.headers.get("User-Agent", "")),
            created_at=now,
            renewed_at=now,
            expires_at=services.lifetime.end(created_at=now, now=now),
        )

    async def _replace_session(self, attempt: LoginAttempt, session: Session) -> None:
        try:
            await self.services.sessions.create(session)
        except StoreUnavailable:  # nobody will ever use what the provider has just given us
            await self.services.revocation.try_once(session)
            raise
        earlier = {attempt.replaces, self.session.ref if self.session else None} - {None}
        await self._keep_to_limit(session, [str(ref) for ref in earlier])
        for ref in earlier:
            await self.services.tokens.end(str(ref), Reason.SIGNED_IN_AGAIN)

    async def _keep_to_limit(self, session: Session, leaving: Sequence[str]) -> None:
        settings = self.services.settings
        if not settings.max_sessions_per_user:
            return
        of_user = await self.services.sessions.of_user(session.issuer, session.subject)
        staying = [other for other in of_user if other.ref not in leaving]
        surplus = beyond(settings.max_sessions_per_user, staying, settings.too_many_sessions)
        for too_many in surplus:
            await self.services.tokens.end(too_many.ref, Reason.TOO_MANY)
        if session.ref in [too_many.ref for too_many in surplus]:
            raise LoginFailed(
                "You are signed in in too many other places. Please sign out in one of them first."
            )
