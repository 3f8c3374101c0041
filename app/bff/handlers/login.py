"""Login: the redirect to the provider, the callback, and the silent variant of both."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from tornado.web import HTTPError

from app.bff.backoff import repeat_poll_seconds
from app.bff.crypto import Unsealable
from app.bff.errors import (
    AppError,
    BadRequest,
    CsrfRejected,
    Forbidden,
    GrantRefused,
    InteractionRequired,
    LoginFailed,
    MistimedToken,
    NotAllowed,
    StoreUnavailable,
    UntrustedToken,
    WrongSid,
)
from app.bff.handlers.base import BaseHandler, name_of
from app.bff.handlers.login_outcome import login_outcome
from app.bff.handlers.web import (
    MOVED,
    READING,
    RETURN_URL,
    exception_from,
    in_own_case,
    is_denied,
    single_values,
)
from app.bff.hooks import HookRunner
from app.bff.oidc.claims import LEEWAY_SECONDS, check_authentication, wrong_clock
from app.bff.oidc.dpop import new_key
from app.bff.oidc.keys import unverified_claims
from app.bff.oidc.login_attempt import ATTEMPT_SECONDS, LoginAttempt
from app.bff.oidc.step_up import login_parameters, provider_parameters
from app.bff.paths import CALLBACK_PATH, LOGIN_PATH
from app.bff.services import Services
from app.bff.sessions.interfaces import Pending
from app.bff.sessions.session import Reason, Session, excess_sessions, session_ref
from app.bff.telemetry import observer
from app.bff.web.cross_origin import FRAMES, is_prefetch, is_sent_from_elsewhere, login_refusal
from app.bff.web.return_paths import part_for_cookie, path_on
from app.bff.web.user_agents import describe_user_agent

log = logging.getLogger(__name__)

REPEAT_SECONDS = 30  # how long a repeated callback gets the answer of the first
_CLAIM_SECONDS = ATTEMPT_SECONDS + 60  # longer than an attempt lives, by the clock of any process
_UNDECIDED_SECONDS = 60  # after the time that a hook has: by then its process has died
# By the user, or by the provider because it may not show what it would have to (OIDC Core §3.1.2.6).
_DECLINED = frozenset(
    {"access_denied", "login_required", "consent_required", "interaction_required"}
    | {"account_selection_required"}
)
_PROMPTS = frozenset({"none", "login", "consent", "select_account"})  # OIDC Core §3.1.2.1


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
        until = self.services.clock() + _CLAIM_SECONDS
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
    silent_path: str | None = None  # where a silent login ends; None: with the message
    attempt: LoginAttempt | None = None

    @property
    def is_silent(self) -> bool:
        return self.framed_by_same_site

    def set_silent(self, silent: bool, *, path: str | None = None) -> None:
        self.silent_path = path
        if silent != self.framed_by_same_site:
            self.framed_by_same_site = silent
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


class Login(LoginStep):
    """Starts a login attempt. Several may be pending in one browser, one in each tab.

    Another site may initiate it (OIDC Core §4): `iss`, `login_hint` and `target_link_uri`, by GET or POST.
    """

    own_params = (RETURN_URL, "prompt", "login_hint", "hint", "acr_values", "max_age")

    async def prepare(self) -> None:
        silent = self.request.method in READING and self._requests_silent_login()
        self.set_silent(silent, path=self._silent_end())
        await super().prepare()

    async def get(self) -> None:
        self._check_navigation()
        if not self.is_silent and MOVED not in self.params:
            here = f"{LOGIN_PATH}?{urlencode(self.params)}".removesuffix("?")
            if (there := self.at_base_url(here)) != here:
                self.redirect(there)
                return
        settings, configured = self.services.settings, self.services.settings.login_params
        self._check_issuer()
        request_params = login_parameters({**configured, **self.params})
        await self._check_prompt(request_params)
        further = provider_parameters(
            self.params, configured=configured, allowed=settings.login_params_allowed
        )
        if "login_hint" in request_params:  # nothing in the response depends on it
            further["login_hint"] = request_params.pop("login_hint")
        attempt = LoginAttempt.start(
            return_path=part_for_cookie(self.requested_return_path),
            issuer=self.services.provider.issuer,
            replaces=self.session.ref if self.session else None,
            now=self.services.clock(),
            dpop_key=new_key() if settings.dpop else None,
            request_params=request_params,
            notifies_opener=self.is_silent and self.silent_path is None,
        )
        if any(map(self.services.cookies.is_login_name, self.request_cookies)):
            # An attempt that has not come back: the page that it was sent to may have moved.
            await self.services.provider.moved(self.services.provider.login_page)
        url = await self.services.oidc.login_url(attempt, further)
        if not self.is_silent:
            # The browser is back from a logout, though not by the provider's way. This login may share the
            # grant of the earlier one, so that must not be revoked later.
            await self.services.tokens.revoke_after_logout(self.waiting_revocations)
        if attempt.return_path != self.requested_return_path and not attempt.notifies_opener:
            is_saved = await self.save_return_path(self.requested_return_path, attempt.state)
            attempt = replace(attempt, return_path_is_saved=is_saved)
        self._set_attempt_cookie(attempt)
        self.redirect(url)

    async def head(self) -> None:
        """Answer as `get`, and start no attempt: the provider's page has no parameters."""
        self._check_navigation()
        request_params = login_parameters({**self.services.settings.login_params, **self.params})
        await self._check_prompt(request_params)
        self._check_issuer()
        self.redirect((await self.services.provider.metadata()).authorization_endpoint)

    def post(self) -> None:
        """Repeat the request as a GET: another site's form is a navigation without the Strict cookie.

        Not by a redirect if the form is on a page of ours: browsers apply its `form-action` to where that
        leads in the end, which is the provider.
        """
        self._check_navigation()
        sent = in_own_case(self.request.body_arguments, self.own_params)
        params = {**self.params, **single_values(sent, optional=(RETURN_URL,))}
        url = f"{LOGIN_PATH}?{urlencode(params)}"
        if is_sent_from_elsewhere(self.request.headers):
            self.redirect(url, status=303)
        else:
            self.navigate_same_site(url)

    def check_trusted_origin(self, origin: str) -> bool:
        return True  # a login may start at any site, by a link as well

    def _check_navigation(self) -> None:
        if refusal := login_refusal(self.request.headers, self.services.settings.allowed_origins):
            raise CsrfRejected(refusal)

    @cached_property
    def requested_return_path(self) -> str:
        """`returnUrl`; of a login that another site initiates, the path of `target_link_uri`."""
        if "iss" not in self.params:
            return super().requested_return_path
        base_url, target = self.services.settings.base_url, self.params.get("target_link_uri")
        return self.local_path_or_home(lambda: path_on(base_url, target))

    def _check_issuer(self) -> None:
        """Raise BadRequest for another issuer than the provider."""
        issuer, provider = self.params.get("iss"), self.services.provider
        if issuer not in (None, provider.issuer) and issuer not in provider.issuers:
            raise BadRequest("iss is not the provider of this application")

    def _requests_silent_login(self) -> bool:
        # Read from the raw query: no page may be shown, even if the other parameters are invalid.
        return set(self.request.query_arguments.get("prompt", [])) == {b"none"}

    def _silent_end(self) -> str | None:
        """Where a silent login ends: in a window at its return path; None: with the message."""
        try:
            self._check_issuer()
            if self.request.headers.get("Sec-Fetch-Dest") in FRAMES:
                return None
            return self.requested_return_path if {RETURN_URL, "iss"} & self.params.keys() else None
        except BadRequest:
            return None

    async def _check_prompt(self, params: dict[str, str]) -> None:
        """Raise BadRequest for a prompt that the provider does not have.

        Pages of ours offer another account with any provider: `login` stands in for `select_account`.
        """
        prompt, allowed = params.get("prompt"), (await self.services.provider.metadata()).prompts or _PROMPTS
        if prompt == "select_account" and prompt not in allowed and "login" in allowed:
            params["prompt"] = "login"
        elif prompt is not None and prompt not in allowed:
            raise BadRequest(f"prompt must be one of {', '.join(sorted(allowed))}")

    def _set_attempt_cookie(self, attempt: LoginAttempt) -> None:
        name = self.services.cookies.login_name(attempt.state, attempt.created_at)
        self.set_sealed_cookie(name, attempt.sealed(self.services.vault, cookie_name=name))


class SilentLogin(Login):
    """Duende.BFF's older route for `/bff/login?prompt=none`; it always ends with the message."""

    SUPPORTED_METHODS = ("GET", "HEAD")

    @cached_property
    def params(self) -> dict[str, str]:
        return {**super().params, "prompt": "none"}

    @cached_property
    def requested_return_path(self) -> str:
        return "/"

    def _requests_silent_login(self) -> bool:
        return True

    def _silent_end(self) -> None:
        return None


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
        self.set_silent(self.request.headers.get("Sec-Fetch-Dest") in FRAMES)  # until the attempt is read
        if self.request.method == "POST" and self.services.settings.response_mode != "form_post":
            raise HTTPError(405)
        self.retry_for_strict_cookies = self.is_silent
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
        claimed_until = attempt.created_at + _CLAIM_SECONDS
        # Without a code there is nothing to redeem: a repeated error is told again.
        is_first = not code or await services.replay_cache.add(claim, until=claimed_until)
        self.clear_cookie(claim, **cookies.login_cookie_attributes)  # single use
        if is_first:
            try:
                await self._start_session(attempt, await self._redeem_code(attempt, session_ids[0]))
            except Exception:
                with suppress(StoreUnavailable):
                    await services.replay_cache.add(_failed(claim), until=claimed_until)
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
                    await self._make_room(session, replaced)
            except StoreUnavailable:
                # Its id was never sent to a browser, so no reason is shown: it counts as one that ran out.
                with suppress(StoreUnavailable):
                    await self.services.sessions.delete(session.ref, reason=Reason.EXPIRED)
                raise
        except Forbidden:
            await self._refuse(session, replaced)
            raise
        except Exception:
            if not replaced:  # otherwise the replaced session may live on the same grant
                await self.services.revocation.revoke_best_effort(session, self._queued)
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

    async def _refuse(self, session: Session, replaced: set[str]) -> None:
        """Revoke the tokens of a user who may not sign in, and end what this browser has of that user."""
        self._refused = session
        await self.services.revocation.revoke_best_effort(session, self._queued)
        for ref in replaced:
            if _is_same_user(await self.services.sessions.get(ref), session):
                await self.services.tokens.end(ref, Reason.NOT_ALLOWED)

    async def _make_room(self, session: Session, replaced: set[str]) -> None:
        """End the sessions that the new one replaces, and those that exceed the limit."""
        if self.services.settings.max_sessions_per_user:
            await self._enforce_session_limit(session, replaced)
        for ref in replaced:
            await self._end_replaced(ref, session)

    async def _end_replaced(self, ref: str, session: Session) -> None:
        earlier, end = await self.services.sessions.get(ref), self.services.tokens.end
        if _is_same_user(earlier, session):
            await end(ref, Reason.RENEWED, revoke=False)
        else:
            await end(ref, Reason.SIGNED_IN_AGAIN)

    async def _enforce_session_limit(self, session: Session, replaced: set[str]) -> None:
        settings, tokens = self.services.settings, self.services.tokens
        of_user = await self.services.sessions.of_user(session.issuer, session.subject)
        remaining = [other for other in of_user if other.ref not in replaced]
        excess = excess_sessions(settings.max_sessions_per_user, remaining, settings.too_many_sessions)
        others = [other for other in excess if other.ref != session.ref]
        await tokens.end_all(others, Reason.TOO_MANY)
        if len(others) < len(excess):
            with suppress(StoreUnavailable):
                await tokens.end(session.ref, Reason.TOO_MANY, revoke=False)
            raise LoginFailed(
                "You are signed in in too many other places. Please sign out in one of them first."
            )


async def session_id_of_first(
    services: Services, claim: str, session_ids: Sequence[str], pauses: Iterable[float] | None = None
) -> str:
    """Return the session id of the callback that has claimed the attempt, once its session is there.

    `session_ids` are those that the attempt and its code may have: one for each key of the ring. Raises
    LoginFailed if that login fails, takes too long, or was REPEAT_SECONDS ago: a callback that is
    replayed later signs no browser in.
    """
    for pause in pauses or repeat_poll_seconds():
        for session_id in session_ids:
            if session := await services.sessions.get(session_ref(session_id)):
                if services.clock() < session.created_at + REPEAT_SECONDS:
                    return session_id
                raise LoginFailed("This sign-in is done already.")
        if await services.replay_cache.has(_failed(claim)):
            break
        await asyncio.sleep(pause)
    raise LoginFailed("This sign-in did not work. Please start another one.")


def _is_same_user(earlier: Session | None, session: Session) -> bool:
    return earlier is not None and (earlier.issuer, earlier.subject) == (session.issuer, session.subject)


def _failed(claim: str) -> str:
    """The key that tells a repeated callback that the first one failed."""
    return f"{claim} failed"


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


def _message_code(error: BaseException | None) -> str:
    if isinstance(error, LoginFailed):
        return error.reason
    return error.code if isinstance(error, AppError) else AppError.code
