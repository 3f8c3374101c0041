"""Refreshes a session's tokens under a cross-process lease; persists the result before returning it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from app.bff.authorization import Rule
from app.bff.backoff import (
    LEASE_WAIT_SECONDS,
    REVOCATION_AFTER_LOGOUT_SECONDS,
    UNSAVED_WAIT_SECONDS,
    lease_poll_seconds,
)
from app.bff.errors import (
    GrantRefused,
    NoSession,
    ProviderUnavailable,
    ReauthenticationRequired,
    SessionEnded,
    StoreUnavailable,
    TokenUnavailable,
    UntrustedToken,
    UnusableToken,
)
from app.bff.oidc.client import OidcClient
from app.bff.sessions.interfaces import STORE_SECONDS, SessionStore
from app.bff.sessions.session import Reason, Session, Target, TokenSet
from app.bff.singleflight import SingleFlight
from app.bff.telemetry import observer
from app.bff.telemetry.logs import session_log_id
from app.bff.tokens.claims import ClaimsRenewal
from app.bff.tokens.leases import Lease, Leases
from app.bff.tokens.policy import (
    Refusal,
    TokenRequest,
    alive_or_raise,
    can_refresh,
    judge_refusal,
    unrenewed,
)
from app.bff.tokens.revocation import Revocation
from app.bff.tokens.store_time import StoreTime

log = logging.getLogger(__name__)


class Refresher:
    """Requests new tokens for sessions, one request at a time per session among all processes.

    All targets of a session share its one refresh token. Within a process a lock per session serialises
    them; among processes the session's lease does, and the others poll for what its holder writes, for at
    most `wait_seconds`. If the holder dies, its lease expires and another process takes over. A late
    write is rejected by `version` (fencing).

    While the store is down, new tokens are served from memory and saved as soon as it answers: with
    rotation the old refresh token is invalid, and the new one exists nowhere else.
    """

    def __init__(
        self,
        sessions: SessionStore,
        client: OidcClient,
        revocation: Revocation,
        *,
        lease_seconds: float,
        claims: ClaimsRenewal | None = None,
        require: Rule | None = None,
        wait_seconds: float = LEASE_WAIT_SECONDS,
        store_seconds: float = STORE_SECONDS,
        pauses: Callable[[], Iterator[float]] = lease_poll_seconds,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sessions = sessions
        self._client = client
        self._revocation = revocation
        self._wait_seconds = wait_seconds
        self._store_seconds = store_seconds
        self._pauses = pauses
        self._clock = clock
        self._claims = claims or ClaimsRenewal(sessions, client, clock=clock)
        self._require = require
        self._leases = Leases(sessions, seconds=lease_seconds, pauses=pauses)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._unsaved: dict[str, Session] = {}
        self._saving = SingleFlight[None]()

    async def renew(self, ref: str, request: TokenRequest) -> Session:
        """Return the session with tokens that satisfy the request, new if necessary; raises Unauthorized."""
        deadline = asyncio.get_running_loop().time() + self._wait_seconds
        store = StoreTime(self._store_seconds)
        with observer.current.refreshing():
            async with self._locks.setdefault(ref, asyncio.Lock()):
                return await self._renew(ref, request, deadline, store)

    async def _renew(self, ref: str, request: TokenRequest, deadline: float, store: StoreTime) -> Session:
        for pause in self._pauses():
            if ref in self._unsaved and (unsaved := await self._saved_or_in_memory(ref, request)):
                return unsaved
            # Read again: the caller's copy may be outdated, since another process refreshes and deletes, too.
            async with store.limit():
                session = await self._current(ref)
            if self._is_final(session, request):
                return session
            async with store.limit():
                lease = await self._leases.acquire(ref)
            if lease:
                observer.current.lease_is_acquired()
                renewed = await self._renew_leased(lease, request, store)
                return renewed or await self._renew(ref, request, deadline, store)
            if request.unexpired(session):  # another process refreshes: do not wait for it
                return session
            if asyncio.get_running_loop().time() > deadline:
                log.warning("refresh by another process takes too long", extra=_log_fields(session))
                raise TokenUnavailable("another process is refreshing this session", retry_after_seconds=5)
            observer.current.lease_is_held()
            await asyncio.sleep(pause)
        raise AssertionError("the iterator of pauses is infinite")

    async def drain(self) -> None:
        """Wait until all refreshed sessions are saved, and a moment for leases to be released."""
        await self._saving.drain()
        await self._leases.drain()

    async def _saved_or_in_memory(self, ref: str, request: TokenRequest) -> Session | None:
        """Return an unsaved session, or None once it is saved: the next refresh needs what it contains."""
        if request.unexpired(self._unsaved[ref]):
            return self._unsaved[ref]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(UNSAVED_WAIT_SECONDS):
                await self._saving.drain(ref)
        if ref in self._unsaved:
            raise StoreUnavailable("the session is not saved yet")
        return None

    async def _current(self, ref: str) -> Session:
        session = await self._sessions.get(ref)
        if session is None:
            raise NoSession("the session is over")
        return session

    def _is_final(self, session: Session, request: TokenRequest) -> bool:
        """Whether no refresh is needed; raises if one is, and the session cannot get another token."""
        if request.fresh(session):
            return True
        # BFF_ISSUER or BFF_CLIENT_ID was changed: no token is sent to another provider, or by another client.
        if can_refresh(session, request.target) and self._client.issued(session):
            return False
        request.unexpired_or_raise(session, ReauthenticationRequired("the session cannot get another token"))
        return True

    async def _renew_leased(self, lease: Lease, request: TokenRequest, store: StoreTime) -> Session | None:
        """Return the session, or None if it was changed by another process: look again."""
        session = lease.session
        with contextlib.ExitStack() as held:
            held.callback(self._leases.release, lease)
            if self._is_final(session, request):  # changed before the lease was acquired
                return session
            try:
                newer = await self._request_tokens(session, request.target)
            except GrantRefused:
                return await self._grant_rejected(lease, request, store)
            except ProviderUnavailable as error:
                log.warning("refresh failed", extra=_log_fields(session, error))
                request.unexpired_or_raise(session, unrenewed(error, request.target))
                return session
            checked, id_token = await self._with_checked_id_token(session, newer)
            changed = session.updated_by(checked, now=self._clock())
            if id_token:
                changed = self._claims.of_id_token(changed, session, id_token)
            try:
                async with store.limit(at_least=UNSAVED_WAIT_SECONDS):
                    saved = await self._try_save(changed, lease.owner)
            except StoreUnavailable:
                self._unsaved[session.ref] = saved = changed
                self._saving.start(session.ref, lambda: self._save_eventually(changed, session, lease.owner))
            if saved:
                held.pop_all()  # saving has released it; unsaved, it must keep the others from refreshing
                if saved is not changed:
                    saved = await self._finish(saved, session, newer)
                alive_or_raise(newer, now=self._clock())
                return saved
            async with store.limit(at_least=UNSAVED_WAIT_SECONDS):
                current = await self._lost_race(changed)
            return current if request.unexpired(current) else None

    async def _request_tokens(self, session: Session, target: Target) -> TokenSet:
        if target.exchanged:
            subject = session.tokens.access_token
            return await self._client.exchange(subject, target=target, dpop_key=session.dpop_key)
        refresh_token = session.tokens.refresh_token or ""
        with observer.current.granting():
            return await self._client.refresh(refresh_token, target=target, dpop_key=session.dpop_key)

    async def _try_save(self, changed: Session, owner: str) -> Session | None:
        """Save under the lease; if that has expired, without: `version` rejects a late write."""
        saved = await self._sessions.save(changed, lease=owner) or await self._sessions.save(changed)
        if saved:
            log.info("session refreshed", extra={"session": session_log_id(changed.ref)})
        return saved

    async def _save_eventually(self, changed: Session, earlier: Session, owner: str) -> None:
        """Retry until the store answers, or until the session expires."""
        for pause in self._pauses():
            await asyncio.sleep(pause)
            saved: Session | None = None
            try:
                saved = await self._try_save(changed, owner)
                if not saved:
                    await self._lost_race(changed)
            except StoreUnavailable:
                if self._clock() < changed.expires_at:
                    continue
            except NoSession:
                log.info("session ended before it was saved", extra={"session": session_log_id(changed.ref)})
            del self._unsaved[changed.ref]
            if saved:
                with contextlib.suppress(SessionEnded):
                    await self._finish(saved, earlier, changed.tokens)
            return

    async def _finish(self, saved: Session, earlier: Session, tokens: TokenSet) -> Session:
        """Renew the claims; raises SessionEnded if with these the session may not go on."""
        session = await self._claims.finish(saved, earlier, tokens)
        if self._require is None or self._is_met(self._require, session):
            return session
        fields = {**_log_fields(session), "rule": str(self._require)}
        log.warning("claims do not meet BFF_REQUIRE, session ended", extra=fields)
        for pending in await self._revocation.end([session], Reason.NOT_ALLOWED):
            await self._revocation.attempt(pending)
        raise SessionEnded("with this account you cannot use this application any more")

    def _is_met(self, rule: Rule, session: Session) -> bool:
        """A function that fails allows nothing: it may miss the very claim that was taken away."""
        try:
            return rule.allows(session.claims)
        except Exception as error:
            log.error("rule failed", extra={**_log_fields(session), "rule": str(rule)}, exc_info=error)
            return False

    async def _with_checked_id_token(
        self, session: Session, newer: TokenSet
    ) -> tuple[TokenSet, Mapping[str, Any] | None]:
        """Return the tokens, without an ID token that cannot be used, and the claims of one that can."""
        if newer.id_token is None:
            return newer, None
        try:
            return newer, await self._client.check_refreshed(newer.id_token, earlier=dict(session.claims))
        except (ProviderUnavailable, UnusableToken) as error:  # it may be of this login: keep the earlier one
            skew = {"seconds_ahead": self._client.seconds_ahead}
            log.warning("refreshed ID token ignored", extra={**_log_fields(session, error), **skew})
            return replace(newer, id_token=None), None
        except UntrustedToken as error:
            log.error("refreshed ID token rejected", extra=_log_fields(session, error))
            both = [session, replace(session, tokens=newer)]
            for pending in await self._revocation.end(both, Reason.PROVIDER):
                await self._revocation.attempt(pending)
            raise SessionEnded("the refreshed ID token belongs to another login") from error

    async def _lost_race(self, changed: Session) -> Session:
        """Return what another process has written, or this one, if the answer to its save was lost."""
        current = await self._sessions.get(changed.ref)
        if current is None:  # no token may outlive a logout, which the provider may not have finished
            await self._revocation.enqueue_on_end(changed, due_in_seconds=REVOCATION_AFTER_LOGOUT_SECONDS)
            raise NoSession("the session is over")
        if current.tokens.refresh_token is None:
            await self._revocation.revoke_all(changed)
        return current

    async def _grant_rejected(self, lease: Lease, request: TokenRequest, store: StoreTime) -> Session | None:
        """End the session after `invalid_grant`, unless another process has used the token first.

        Only the lease's owner may: another one that has taken it over may have got new tokens.
        """
        session, waited_seconds = lease.session, 0.0
        for pause in self._pauses():
            async with store.limit(at_least=UNSAVED_WAIT_SECONDS):
                current = await self._current(session.ref)
            refusal = judge_refusal(current, session, waited_seconds=waited_seconds)
            if request.fresh(current):
                return current
            if refusal is Refusal.RETRY:
                return None
            if refusal is Refusal.END:
                ended = await self._sessions.delete(
                    session.ref, reason=Reason.PROVIDER, version=current.version, lease=lease.owner
                )
                if ended is not None:
                    self._revocation.ended(ended, Reason.PROVIDER)
                    break
            if waited_seconds > self._wait_seconds:
                raise TokenUnavailable("another process is refreshing this session", retry_after_seconds=5)
            waited_seconds += pause
            await asyncio.sleep(pause)
        log.warning("refresh token rejected, session ended", extra=_log_fields(session))
        raise SessionEnded("the provider has ended this session")


def _log_fields(session: Session, error: Exception | None = None) -> dict[str, str]:
    return {"session": session_log_id(session.ref)} | ({"reason": str(error)} if error else {})
