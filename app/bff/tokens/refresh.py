"""Refreshes a session's tokens under a cross-process lease; persists the result before returning it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from weakref import WeakValueDictionary

from app.bff.backoff import REVOCATION_AFTER_LOGOUT_SECONDS, lease_poll_seconds
from app.bff.errors import (
    GrantRefused,
    NoSession,
    ProviderUnavailable,
    ReauthenticationRequired,
    SessionEnded,
    StoreUnavailable,
    Unauthorized,
    UntrustedToken,
    UnusableToken,
)
from app.bff.oidc.client import OidcClient
from app.bff.sessions.interfaces import SessionStore
from app.bff.sessions.session import Reason, Session, Target, TokenSet
from app.bff.singleflight import SingleFlight
from app.bff.telemetry.logs import session_log_id
from app.bff.tokens.policy import TokenRequest, alive_or_raise, unrenewed
from app.bff.tokens.revocation import Revocation

log = logging.getLogger(__name__)


class Refresher:
    """Requests new tokens for sessions, one request at a time per session among all processes.

    All targets of a session share its one refresh token. Within a process a lock per session serialises
    them; among processes the session's lease does, and the others poll for what its holder writes. If the
    holder dies, its lease expires and another process takes over. A late write is rejected by `version`
    (fencing).

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
        pauses: Callable[[], Iterator[float]] = lease_poll_seconds,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sessions = sessions
        self._client = client
        self._revocation = revocation
        self._lease_seconds = lease_seconds
        self._pauses = pauses
        self._clock = clock
        self._owner = secrets.token_hex(
            8
        )  # one per process: a lease can be acquired again if the answer was lost
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._unsaved: dict[str, Session] = {}
        self._saving = SingleFlight[None]()

    async def renew(self, ref: str, request: TokenRequest) -> TokenSet:
        """Return tokens that satisfy the request, new ones if necessary; raises Unauthorized."""
        async with self._locks.setdefault(ref, asyncio.Lock()):
            return await self._renew(ref, request)

    async def _renew(self, ref: str, request: TokenRequest) -> TokenSet:
        for pause in self._pauses():
            if ref in self._unsaved:
                return request.unexpired_or_raise(
                    self._unsaved[ref], StoreUnavailable("the session is not saved yet")
                )
            # Read again: the caller's copy may be outdated, since another process refreshes and deletes, too.
            session = await self._current(ref)
            if self._satisfied_or_hopeless(session, request):
                return request.unexpired_or_raise(session, _reauthentication_required())
            leased = await self._sessions.lease(ref, owner=self._owner, seconds=self._lease_seconds)
            if leased is not None:
                return await self._renew_leased(leased, request)
            if tokens := request.unexpired(session):  # another process refreshes: do not wait for it
                return tokens
            await asyncio.sleep(pause)
        raise AssertionError("the iterator of pauses is infinite")

    async def drain(self) -> None:
        """Wait until all refreshed sessions are saved."""
        await self._saving.drain()

    async def _current(self, ref: str) -> Session:
        session = await self._sessions.get(ref)
        if session is None:
            raise NoSession("the session is over")
        return session

    def _satisfied_or_hopeless(self, session: Session, request: TokenRequest) -> bool:
        """Whether the session has the token, or cannot get it."""
        can_refresh = request.target.exchanged or session.tokens.refresh_token is not None
        # BFF_ISSUER or BFF_CLIENT_ID was changed: no token is sent to another provider, or by another client.
        is_ours = self._client.issued(session)
        return request.fresh(session) is not None or not can_refresh or not is_ours

    async def _renew_leased(self, session: Session, request: TokenRequest) -> TokenSet:
        if self._satisfied_or_hopeless(session, request):  # changed before the lease was acquired
            await self._release(session)
            return request.unexpired_or_raise(session, _reauthentication_required())
        try:
            newer = await self._request_tokens(session, request.target)
        except GrantRefused:
            return await self._grant_rejected(session, request)
        except ProviderUnavailable as error:
            log.warning("refresh failed", extra=_log_fields(session, error))
            await self._release(session)
            return request.unexpired_or_raise(session, unrenewed(error, request.target))
        return alive_or_raise(await self._save(session, newer, request), now=self._clock())

    async def _request_tokens(self, session: Session, target: Target) -> TokenSet:
        if target.exchanged:
            subject = session.tokens.access_token
            return await self._client.exchange(subject, target=target, dpop_key=session.dpop_key)
        refresh_token = session.tokens.refresh_token or ""
        return await self._client.refresh(refresh_token, target=target, dpop_key=session.dpop_key)

    async def _release(self, session: Session) -> None:
        with contextlib.suppress(StoreUnavailable):  # then it expires
            await self._sessions.release(session.ref, owner=self._owner)

    async def _save(self, session: Session, newer: TokenSet, request: TokenRequest) -> TokenSet:
        checked = await self._with_checked_id_token(session, newer)
        changed = session.updated_by(checked, now=self._clock())
        try:
            saved = await self._try_save(changed)
        except StoreUnavailable:
            self._unsaved[session.ref] = changed
            self._saving.start(session.ref, lambda: self._save_eventually(changed, request))
            return newer
        if not saved:
            return await self._lost_race(changed, request)
        log.info("session refreshed", extra={"session": session_log_id(session.ref)})
        return newer

    async def _try_save(self, changed: Session) -> bool:
        """Save under the lease; if that has expired, without: `version` rejects a late write."""
        under_lease = await self._sessions.save(changed, lease=self._owner)
        return under_lease is not None or await self._sessions.save(changed) is not None

    async def _save_eventually(self, changed: Session, request: TokenRequest) -> None:
        """Retry until the store answers, or until the session expires."""
        for pause in self._pauses():
            await asyncio.sleep(pause)
            try:
                if not await self._try_save(changed):
                    await self._lost_race(changed, request)
            except StoreUnavailable:
                if self._clock() < changed.expires_at:
                    continue
            except Unauthorized:
                log.info("session ended before it was saved", extra={"session": session_log_id(changed.ref)})
            del self._unsaved[changed.ref]
            return

    async def _with_checked_id_token(self, session: Session, newer: TokenSet) -> TokenSet:
        if newer.id_token is None:
            return newer
        try:
            await self._client.check_refreshed(newer.id_token, earlier=dict(session.claims))
        except (
            ProviderUnavailable,
            UnusableToken,
        ) as error:  # says nothing of another login: the earlier stays
            skew = {"seconds_ahead": self._client.seconds_ahead}
            log.warning("refreshed ID token ignored", extra={**_log_fields(session, error), **skew})
            return replace(newer, id_token=None)
        except UntrustedToken as error:
            log.error("refreshed ID token rejected", extra=_log_fields(session, error))
            both = [session, replace(session, tokens=newer)]
            for pending in await self._revocation.end(both, Reason.PROVIDER):
                await self._revocation.attempt(pending)
            raise SessionEnded("the refreshed ID token belongs to another login") from error
        return newer

    async def _lost_race(self, changed: Session, request: TokenRequest) -> TokenSet:
        """Return what another process has written, or this one, if the answer to its save was lost."""
        current = await self._sessions.get(changed.ref)
        if current is None:  # no token may outlive a logout, which the provider may not have finished
            await self._revocation.enqueue_on_end(changed, due_in_seconds=REVOCATION_AFTER_LOGOUT_SECONDS)
            raise NoSession("the session is over")
        if current.tokens.refresh_token is None:
            await self._revocation.revoke_all(changed)
        return request.unexpired_or_raise(current, _reauthentication_required())

    async def _grant_rejected(self, session: Session, request: TokenRequest) -> TokenSet:
        """End the session after `invalid_grant`, unless another process has used the token first."""
        current = await self._sessions.get(session.ref)
        if current is not None and (tokens := request.fresh(current)):
            return tokens
        log.warning("refresh token rejected, session ended", extra={"session": session_log_id(session.ref)})
        await self._sessions.delete(session.ref, reason=Reason.PROVIDER)
        raise SessionEnded("the provider has ended this session")


def _reauthentication_required() -> ReauthenticationRequired:
    return ReauthenticationRequired("the session cannot get another token")


def _log_fields(session: Session, error: Exception) -> dict[str, str]:
    return {"session": session_log_id(session.ref), "reason": str(error)}
