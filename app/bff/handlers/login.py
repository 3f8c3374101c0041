"""Login: the navigations out to the provider, and back."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Set
from contextlib import suppress
from functools import cached_property

from app.bff.errors import BadRequest, GrantRefused, LoginFailed, StoreUnavailable, UntrustedToken
from app.bff.handlers.auth import AuthHandler
from app.bff.handlers.silent import SilentLoginMixin
from app.bff.oidc.claims import check_authentication, string_claim
from app.bff.oidc.dpop import new_key
from app.bff.oidc.login_attempt import ATTEMPT_SECONDS, LoginAttempt
from app.bff.oidc.step_up import login_parameters
from app.bff.sessions.session import Reason, Session, excess_sessions, new_session_id, session_ref
from app.bff.telemetry.logs import session_log_id
from app.bff.web.cross_origin import is_in_frame, is_prefetch
from app.bff.web.return_paths import local_path
from app.bff.web.user_agents import describe_user_agent

log = logging.getLogger(__name__)

_PROMPTS = frozenset({"none", "login", "consent", "select_account"})  # OIDC Core §3.1.2.1


class Login(SilentLoginMixin, AuthHandler):
    """Starts a login attempt; several may be under way, one in each tab."""

    async def prepare(self) -> None:
        self.set_silent(self._requests_silent_login(), path=self._requested_return_path())
        await super().prepare()

    async def get(self) -> None:
        if is_prefetch(self.request.headers):
            self.set_status(204)
            return
        request_params = login_parameters(self.params)
        await self._check_prompt(request_params.get("prompt"))
        login_hint = request_params.pop("login_hint", None)
        attempt = LoginAttempt.start(
            return_path=local_path(self.params.get("returnUrl")),
            issuer=self.services.provider.issuer,
            replaces=self.session.ref if self.session else None,
            now=self.services.clock(),
            dpop_key=new_key() if self.services.settings.dpop else None,
            request_params=request_params,
            notifies_opener=self.is_silent and self.silent_path is None,
        )
        url = await self.services.oidc.login_url(attempt, login_hint=login_hint)
        self._set_attempt_cookie(attempt)
        self.redirect(url)

    def _requests_silent_login(self) -> bool:
        # As it was sent: whatever is wrong with the other parameters, no page may be shown.
        return set(self.request.query_arguments.get("prompt", [])) == {b"none"}

    def _requested_return_path(self) -> str | None:
        try:
            return local_path(self.params["returnUrl"]) if "returnUrl" in self.params else None
        except BadRequest:
            return None

    async def _check_prompt(self, prompt: str | None) -> None:
        allowed = (await self.services.provider.metadata()).prompts or _PROMPTS
        if prompt is not None and prompt not in allowed:
            raise BadRequest(f"prompt must be one of {', '.join(sorted(allowed))}")

    def _set_attempt_cookie(self, attempt: LoginAttempt) -> None:
        cookies = self.services.cookies
        for name in cookies.oldest_attempts(self.request.cookies):
            self.clear_cookie(name, **cookies.login_cookie_attributes())
        name = cookies.login_name(attempt.state, attempt.created_at)
        self.set_cookie(
            name,
            attempt.sealed(self.services.vault, cookie_name=name),
            max_age=ATTEMPT_SECONDS,
            **cookies.login_cookie_attributes(),
        )


class SilentLogin(Login):
    """Duende.BFF's older name for `/bff/login?prompt=none`; it always ends with the message."""

    @cached_property
    def params(self) -> dict[str, str]:
        sent = {name: value for name, value in super().params.items() if name != "returnUrl"}
        return {**sent, "prompt": "none"}

    def _requests_silent_login(self) -> bool:
        return True


class Callback(SilentLoginMixin, AuthHandler):
    """Ends a login attempt: the provider has sent the browser back."""

    retry_for_strict_cookies = False
    attempt: LoginAttempt | None = None

    async def prepare(self) -> None:
        self.set_silent(is_in_frame(self.request.headers))  # until we know what was attempted
        self.attempt = attempt = self._read_attempt() if self.request.method == "GET" else None
        if attempt is not None:
            self.return_path, self.login_requirements = attempt.return_path, attempt.requirements
            self.set_silent(attempt.is_silent, path=None if attempt.notifies_opener else attempt.return_path)
        await super().prepare()

    async def get(self) -> None:
        if self.attempt is None:
            self._without_attempt()
            return
        self._clear_attempt_cookie()
        session_id, session = await self._redeem_code(self.attempt)
        await self._start_session(self.attempt, session)
        cookies = self.services.cookies
        self.set_cookie(cookies.session_name, session_id, **cookies.session_attributes())
        if self.is_silent:
            self.end_silently()
        else:
            self.navigate_same_site(self.return_path)

    def _without_attempt(self) -> None:
        if self.session is None or self.is_silent:
            raise LoginFailed(
                "This browser remembers no such sign-in: it took too long, or it is done already."
            )
        self.redirect("/")  # a repeated or bookmarked callback, and nothing left to do

    @property
    def _attempt_cookie(self) -> str | None:
        return self.services.cookies.login_name_of(self.params.get("state", ""), self.request.cookies)

    def _read_attempt(self) -> LoginAttempt | None:
        """Return the attempt that `state` names, if this browser has made it."""
        name = self._attempt_cookie
        if name is None:
            return None
        return LoginAttempt.opened(self.get_cookie(name) or "", self.services.vault, cookie_name=name)

    def _clear_attempt_cookie(self) -> None:
        """An answer counts once."""
        self.clear_cookie(self._attempt_cookie or "", **self.services.cookies.login_cookie_attributes())

    async def _redeem_code(self, attempt: LoginAttempt) -> tuple[str, Session]:
        services = self.services
        try:
            claims, tokens = await services.oidc.sign_in(attempt, self.params)
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
            sid=string_claim(claims, "sid") or secrets.token_urlsafe(16),
            session_state=self.params.get("session_state"),
            claims=claims,
            tokens=tokens,
            dpop_key=attempt.dpop_key,
            device=describe_user_agent(self.request.headers.get("User-Agent", "")),
            created_at=now,
            renewed_at=now,
            expires_at=services.lifetime.end(created_at=now, now=now),
        )

    async def _start_session(self, attempt: LoginAttempt, session: Session) -> None:
        now = self.services.clock()
        try:
            check_authentication(
                session.claims, attempt.requirements, auth_time_floor=attempt.auth_time_floor, now=now
            )
            await self._replace_session(attempt, session)
        except (LoginFailed, StoreUnavailable):
            await self._discard_session(attempt, session)
            raise
        log.info("session started", extra={"session": session_log_id(session.ref)})

    async def _replace_session(self, attempt: LoginAttempt, session: Session) -> None:
        await self.services.sessions.create(session)
        await self._enforce_session_limit(session, self._replaced_refs(attempt))
        for ref in self._replaced_refs(attempt):
            await self._end_replaced(ref, session)

    async def _end_replaced(self, ref: str, session: Session) -> None:
        earlier, end = await self.services.sessions.get(ref), self.services.tokens.end
        if earlier and (earlier.issuer, earlier.subject) == (session.issuer, session.subject):
            await end(ref, Reason.RENEWED, revoke=False)
        else:
            await end(ref, Reason.SIGNED_IN_AGAIN)

    async def _enforce_session_limit(self, session: Session, replaced: Set[str]) -> None:
        settings = self.services.settings
        if not settings.max_sessions_per_user:
            return
        of_user = await self.services.sessions.of_user(session.issuer, session.subject)
        remaining = [other for other in of_user if other.ref not in replaced]
        surplus = excess_sessions(settings.max_sessions_per_user, remaining, settings.too_many_sessions)
        end = self.services.tokens.end
        await asyncio.gather(
            *(end(other.ref, Reason.TOO_MANY) for other in surplus if other.ref != session.ref)
        )
        if session.ref in [other.ref for other in surplus]:
            raise LoginFailed(
                "You are signed in in too many other places. Please sign out in one of them first."
            )

    async def _discard_session(self, attempt: LoginAttempt, session: Session) -> None:
        """Revoke what nobody will ever use, unless an earlier session may live on the same grant."""
        with suppress(StoreUnavailable):
            await self.services.tokens.end(session.ref, Reason.TOO_MANY, revoke=False)
        if not self._replaced_refs(attempt):
            await self.services.revocation.revoke_best_effort(session)

    def _replaced_refs(self, attempt: LoginAttempt) -> set[str]:
        """Return the refs of the sessions that this login puts an end to."""
        return {ref for ref in (attempt.replaces, self.session and self.session.ref) if ref}
