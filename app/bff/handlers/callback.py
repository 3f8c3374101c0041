"""The callback of a login: from the provider's response to the session and its cookie."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any

from tornado.web import HTTPError

from app.bff.errors import (
    AppError,
    Forbidden,
    GrantRefused,
    InteractionRequired,
    LoginFailed,
    MistimedToken,
    NotAllowed,
    StoreUnavailable,
    UntrustedToken,
)
from app.bff.handlers.auth import CLAIM_SECONDS, LoginStep
from app.bff.handlers.base import name_of
from app.bff.handlers.earlier_sessions import end_those_of_refused, make_room
from app.bff.handlers.repeated_callbacks import failure_of, session_id_of_first
from app.bff.handlers.web import READING, exception_from
from app.bff.hooks import HookRunner
from app.bff.oidc.claims import LEEWAY_SECONDS, check_authentication, wrong_clock
from app.bff.oidc.keys import unverified_claims
from app.bff.oidc.login_attempt import LoginAttempt
from app.bff.paths import CALLBACK_PATH
from app.bff.sessions.interfaces import Pending
from app.bff.sessions.session import Reason, Session, session_ref
from app.bff.telemetry import observer
from app.bff.web.cross_origin import FRAMES, is_sent_from_elsewhere
from app.bff.web.query import single_values
from app.bff.web.user_agents import describe_user_agent

log = logging.getLogger(__name__)

_UNDECIDED_SECONDS = 60  # after the time that a hook has: by then its process has died
# By the user, or by the provider because it may not show what it would have to (OIDC Core §3.1.2.6).
_DECLINED = frozenset(
    {"access_denied", "login_required", "consent_required", "interaction_required"}
    | {"account_selection_required"}
)


class Callback(LoginStep):
    """Completes a login attempt: the provider has redirected the browser back.

    That navigation lacks the `SameSite=Strict` session cookie. It is repeated as a same-site one, so that the
    session which this browser has by now ends, also if another login has started it since this one began.

    With BFF_RESPONSE_MODE=form_post the provider's page posts the response (Form Post Response Mode 1.0);
    with `jwt` it is a signed token, which `OidcClient.sign_in` verifies (JARM).
    """

    retry_in_frames = True
    _refused: Session | None = None  # what would have been the session of a user who may not sign in
    _claims: Mapping[str, Any] = {}  # all that the provider has sent
    _queued: Sequence[Pending] = ()  # revocations, while the application decides

    @cached_property
    def params(self) -> dict[str, str]:
        posted = self.request.method == "POST"
        params = single_values(self.request.body_arguments if posted else self.request.query_arguments)
        if self.services.settings.response_mode != "jwt":
            return params
        unverified = unverified_claims(params.get("response", ""))  # these find the attempt, and no more
        return {**{name: value for name, value in unverified.items() if isinstance(value, str)}, **params}

    @property
    def refused_session(self) -> Session | None:
        return self._refused or self.session

    @property
    def account_name(self) -> str | None:
        return name_of(self._refused) if self._refused else super().account_name

    @cached_property
    def current_path(self) -> str:
        """With the response of the provider, however long the code is."""
        return f"{CALLBACK_PATH}?{self.request.query}"

    async def prepare(self) -> None:
        is_framed = self.request.headers.get("Sec-Fetch-Dest") in FRAMES
        if is_framed:
            self.set_silent(True)  # until the attempt is read
        if self.request.method == "POST" and self.services.settings.response_mode != "form_post":
            raise HTTPError(405)
        self.retry_for_strict_cookies = is_framed
        try:
            reads = self.request.method in (*READING, "POST")
            self.attempt = attempt = self._read_attempt() if reads else None
        except AppError:
            if self.is_silent:
                await super().prepare()  # the message tells whether there is a session
            if self._finished:
                return
            raise
        self.retry_for_strict_cookies |= attempt is not None
        if attempt is not None:
            if attempt.return_path_is_saved:
                path = await self.saved_return_path(attempt.state, attempt.return_path)
                self.attempt = attempt = replace(attempt, return_path=path)
            silent, self.return_path = attempt.is_silent, attempt.return_path
            self.login_requirements = attempt.requirements
            self.set_silent(silent, path=None if attempt.notifies_opener else attempt.return_path)
        await super().prepare()

    async def get(self) -> None:
        attempt, services, cookies = self.attempt, self.services, self.services.cookies
        if attempt is None:
            self._answer_without_attempt()
            return
        claim, code = self._attempt_cookie or "", self.params.get("code")
        session_ids = services.vault.ids(f"{attempt.verifier} {code}")
        claimed_until = attempt.created_at + CLAIM_SECONDS
        # Without a code there is nothing to redeem: a repeated error is told again.
        is_first = not code or await services.replay_cache.add(claim, until=claimed_until)
        self.clear_cookie(claim, **cookies.login_cookie_attributes)  # single use
        if is_first:
            try:
                await self._start_session(attempt, await self._redeem_code(attempt, session_ids[0]))
            except Exception:
                with suppress(StoreUnavailable):
                    await services.replay_cache.add(failure_of(claim), until=claimed_until)
                raise
        else:
            session_ids = [await session_id_of_first(services, claim, session_ids)]
        if is_first and observer.current.is_on:
            observer.current.login_ended("success")
        self.set_cookie(cookies.session_name, session_ids[0], **cookies.session_attributes)
        if self.is_silent:
            self.end_silently()
        else:
            self.navigate_same_site(attempt.return_path)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """A login with a `prompt` that is declined ends at its return path, as with Duende.BFF.

        One without ends with an error page: the page at the return path may have started it by itself, and
        would start another.
        """
        error, attempt = exception_from(kwargs), self.attempt
        is_declined = isinstance(error, LoginFailed) and error.reason in _DECLINED
        if attempt is None or self.is_silent or not is_declined or "prompt" not in attempt.request_params:
            super().write_error(status_code, **kwargs)
            return
        self.set_status(200)
        self.navigate_same_site(attempt.return_path)

    async def head(self) -> None:
        """Answer as `get` where there is no attempt, and complete none."""
        if self.attempt is None:
            self._answer_without_attempt()
        else:
            self.set_status(204)

    async def post(self) -> None:
        """Complete the attempt once a page of ours has repeated the POST, with the Strict cookie."""
        headers, base_url = self.request.headers, self.services.settings.base_url
        knows_site = "Sec-Fetch-Site" in headers
        if is_sent_from_elsewhere(headers) if knows_site else headers.get("Origin") != base_url:
            self.set_header("Referrer-Policy", "same-origin")  # without a referrer, Origin would be null
            self.render_page("bff/post.html", action=CALLBACK_PATH, fields=self.params)
        else:
            await self.get()

    def check_trusted_origin(self, origin: str) -> bool:
        return True  # `state` and the cookie of the attempt are what is trusted

    def _answer_without_attempt(self) -> None:
        if self.session is None or self.is_silent:
            raise LoginFailed(
                "This browser remembers no such sign-in: it took too long, or it is done already."
            )
        self.redirect("/")  # a repeated or bookmarked callback of a signed-in user

    @cached_property
    def _attempt_cookie(self) -> str | None:
        return self.services.cookies.login_name_of(self.params.get("state", ""), self.request_cookies)

    def _read_attempt(self) -> LoginAttempt | None:
        """Return the attempt that `state` names, if this browser has made it."""
        name = self._attempt_cookie
        if name is None:
            return None
        return LoginAttempt.opened(self.request_cookies[name], self.services.vault, cookie_name=name)

    async def _redeem_code(self, attempt: LoginAttempt, session_id: str) -> Session:
        """Return the new session, which is not stored yet, or raise LoginFailed."""
        services = self.services
        try:
            self._claims, claims, tokens = await services.oidc.sign_in(attempt, self.params)
        except (GrantRefused, InteractionRequired, UntrustedToken) as error:
            raise _login_failed(error, services.oidc.seconds_ahead) from error
        sid = claims.get("sid")
        device = describe_user_agent(self.request.headers.get("User-Agent", ""))
        now = services.clock()
        return Session(
            ref=session_ref(session_id),
            issuer=claims["iss"],
            subject=claims["sub"],
            sid=sid if sid and isinstance(sid, str) else secrets.token_urlsafe(16),
            session_state=self.params.get("session_state"),
            claims=claims,
            claims_renewed_at=now,
            tokens=tokens,
            dpop_key=attempt.dpop_key,
            device=device,
            created_at=now,
            renewed_at=now,
            expires_at=services.lifetime.end(created_at=now, now=now),
        )

    async def _start_session(self, attempt: LoginAttempt, session: Session) -> None:
        replaced = {attempt.replaces or "", self.session.ref if self.session else ""} - {""}
        try:
            check_authentication(
                session.claims,
                self.login_requirements,
                auth_time_floor=attempt.auth_time_floor,
                now=self.services.clock(),
            )
            if self.services.hooks is not None:
                session = await self._hooked(self.services.hooks, session, may_revoke=not replaced)
            rule = self.services.settings.require
            if rule is not None and not rule.allows(session.claims):
                raise NotAllowed("With this account you cannot use this application.", rule=str(rule))
            try:
                await self.services.sessions.create(session)
                if replaced or self.services.settings.max_sessions_per_user:
                    await make_room(self.services, session, replaced)
            except StoreUnavailable:
                # Its id was never sent to a browser, so no reason is shown: it counts as one that ran out.
                with suppress(StoreUnavailable):
                    await self.services.sessions.delete(session.ref, reason=Reason.EXPIRED)
                raise
        except Exception as error:
            await self._give_up(session, replaced, refused=isinstance(error, Forbidden))
            raise
        steps_up = replaced and (self.login_requirements.acr or self.login_requirements.max_age is not None)
        audited = self.services.audit.fields("step_up" if steps_up else "sign_in", session)
        log.info("session started", extra=audited)

    async def _hooked(self, hooks: HookRunner, session: Session, *, may_revoke: bool) -> Session:
        """Return the session with what the application adds to it; raises what its hook raises.

        Should this process die meanwhile, another one revokes the tokens.
        """
        revocation = self.services.revocation
        if may_revoke:
            self._queued = await revocation.enqueue(
                session, due_in_seconds=hooks.timeout_seconds + _UNDECIDED_SECONDS
            )
        hooked = await hooks.sign_in(session, self._claims)
        await revocation.withdraw(self._queued)  # before the session is stored: it must not lose its token
        self._queued = ()
        return hooked

    async def _give_up(self, session: Session, replaced: set[str], *, refused: bool) -> None:
        """Revoke the tokens of a session that has not come about; `refused`: its user may not sign in."""
        if refused:
            self._refused = session
        if refused or not replaced:  # otherwise the replaced session may live on the same grant
            await self.services.revocation.revoke_best_effort(session, self._queued)
        if refused:
            await end_those_of_refused(self.services, session, replaced)


def _login_failed(error: AppError, seconds_ahead: int | None) -> LoginFailed:
    """Log why a code brought no login, and return what the user is told."""
    if isinstance(error, GrantRefused):
        return LoginFailed(f"The sign-in service does not know this answer any more: {error}.")
    if isinstance(error, InteractionRequired):
        log.info("code refused", extra={"reason": str(error)})
        return LoginFailed(f"The sign-in service did not let you in: {error}.")
    log.error("login refused", extra={"reason": str(error), "seconds_ahead": seconds_ahead})
    if isinstance(error, MistimedToken) and abs(error.seconds_ahead) > LEEWAY_SECONDS:
        return LoginFailed(wrong_clock(error.seconds_ahead))
    return LoginFailed("The answer of the sign-in service could not be trusted.")
