"""Ends sessions, and revokes their refresh tokens (RFC 7009); the outbox holds what is still to be done."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from app.bff.backoff import REVOCATION_DRAIN_SECONDS, lease_poll_seconds, revocation_seconds
from app.bff.errors import GrantRefused, ProviderUnavailable, StoreUnavailable
from app.bff.hooks import HookRunner
from app.bff.oidc.client import OidcClient
from app.bff.sessions.interfaces import Outbox, Pending, SessionStore, new_pending
from app.bff.sessions.session import Reason, Session
from app.bff.singleflight import SingleFlight
from app.bff.telemetry import observer
from app.bff.telemetry.logs import Audit

log = logging.getLogger(__name__)

ATTEMPT_SECONDS = 30  # longer than one attempt takes; after that another process may claim it
_GIVE_UP_SECONDS = 24 * 3600
_AT_ONCE = 10  # deletions, and revocations, of this process at a time


class Revocation:
    """Ends sessions and revokes refresh tokens; while the provider is down these wait, sealed, in the outbox.

    A token is put there before its session is deleted, so a crash loses none: any live process
    ends the session if that is still to be done, and retries, with growing pauses, for a day at most.
    """

    def __init__(
        self,
        client: OidcClient,
        outbox: Outbox,
        sessions: SessionStore,
        *,
        on_end: bool,
        hooks: HookRunner | None = None,
        audit: Audit | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._outbox = outbox
        self._sessions = sessions
        self._on_end = on_end
        self._hooks = hooks
        self._audit = audit or Audit()
        self._clock = clock
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._endings = SingleFlight[None]()
        self._retrying = asyncio.Lock()  # one retry at a time, however many wait for a store that is down

    async def enqueue(
        self, *sessions: Session, reason: Reason | None = None, due_in_seconds: float = ATTEMPT_SECONDS
    ) -> list[Pending]:
        """Put refresh tokens into the outbox, for `attempt`; raises StoreUnavailable.

        With a `reason` the sessions are about to end; without one they are about to lose the token.
        """
        now = self._clock()
        entries = [
            new_pending(
                session.issuer,
                session.tokens.refresh_token,
                client_id=session.client_id,
                ref=session.ref,
                reason=reason,
                expires_at=now + _GIVE_UP_SECONDS,
            )
            for session in sessions
            if session.tokens.refresh_token is not None
        ]
        if entries:
            await self._outbox.put(entries, due_at=now + due_in_seconds)
        return entries

    async def enqueue_on_end(
        self, *sessions: Session, reason: Reason | None = None, due_in_seconds: float = ATTEMPT_SECONDS
    ) -> list[Pending]:
        """Enqueue the refresh tokens if revoke_refresh_token_on_logout is set."""
        if not self._on_end:
            return []
        return await self.enqueue(*sessions, reason=reason, due_in_seconds=due_in_seconds)

    async def end(
        self,
        sessions: Sequence[Session],
        reason: Reason,
        *,
        revoke: bool = True,
        due_in_seconds: float = ATTEMPT_SECONDS,
    ) -> list[Pending]:
        """Delete the sessions, for every process at once; return what is to be attempted now.

        The outbox is written first, in one operation: from then on each session ends, and is revoked after
        `due_in_seconds`, whatever happens to this process or the store. Raises StoreUnavailable if some could
        not be ended yet; that goes on in the background, unless they are not to be revoked: then a login
        replaces them, and that has failed.
        """
        enqueue = partial(self.enqueue_on_end, reason=reason, due_in_seconds=due_in_seconds)
        queued: list[Pending] = []
        is_queued = not revoke
        known = {session.tokens.refresh_token for session in sessions}
        deleted: dict[str, Session | None] = {}

        async def delete(session: Session) -> None:
            ended = deleted[session.ref] = await self._delete(session.ref, reason) or deleted.get(session.ref)
            if revoke and ended and ended.tokens.refresh_token not in known:
                queued.extend(await enqueue(ended))  # refreshed since

        async def end(remaining: Sequence[Session]) -> Sequence[Session]:
            """Return those that the store did not take."""
            nonlocal is_queued
            try:
                queued.extend([] if is_queued else await enqueue(*sessions))
            except StoreUnavailable:
                return remaining
            is_queued = True
            return await _each(remaining, delete)

        if left := await end(sessions):
            log.warning("sessions not ended yet", extra={"sessions": len(left), "reason": reason})
            if revoke:
                self._endings.start(object(), lambda: self._end_eventually(left, end))
            raise StoreUnavailable(f"{len(left)} of {len(sessions)} sessions end when the store answers")
        return queued

    async def _end_eventually(
        self, sessions: Sequence[Session], end: Callable[[Sequence[Session]], Awaitable[Sequence[Session]]]
    ) -> None:
        """Retry until the store answers, or until the sessions have expired."""
        for pause in lease_poll_seconds():
            await asyncio.sleep(pause)
            now = self._clock()
            async with self._retrying:
                sessions = await end([each for each in sessions if now < each.expires_at])
            if not sessions:
                return

    async def _delete(self, ref: str, reason: Reason) -> Session | None:
        ended = await self._sessions.delete(ref, reason=reason)
        if ended is not None:
            self.ended(ended, reason)
        return ended

    def ended(self, session: Session, reason: Reason) -> None:
        """Note that this process has ended a session: each is noted once among all processes."""
        log.info("session ended", extra={"reason": reason, **self._audit.fields("sign_out", session)})
        if self._hooks is not None:
            self._hooks.signed_out(session, reason)

    async def drain(self) -> None:
        """Wait until the sessions that were to end have ended."""
        await self._endings.drain()
        if self._hooks is not None:
            await self._hooks.drain()

    async def revoke_all(self, session: Session) -> None:
        """Enqueue what a session that is over leaves behind, and try once to revoke it."""
        for pending in await self.enqueue_on_end(session):
            await self.attempt(pending)

    async def withdraw(self, queued: Sequence[Pending]) -> None:
        """Take entries out of the outbox unrevoked; raises StoreUnavailable."""
        for pending in queued:
            await self._outbox.remove(pending.id)

    async def claim(self, pending_id: str) -> Pending | None:
        """Claim an entry for `attempt` before it is due; None if it is gone, or the store does not answer."""
        with contextlib.suppress(StoreUnavailable):
            return await self._outbox.claim(until=self._clock() + ATTEMPT_SECONDS, pending_id=pending_id)
        return None

    async def attempt(self, pending: Pending) -> bool:
        """Try once to revoke; return False if it has to be retried, and schedule that."""
        async with self._slots:  # for the store, too: while the breaker is open all fail in no time
            with observer.current.working("revocation"):
                return await self._attempt(pending)

    async def _attempt(self, pending: Pending) -> bool:
        if pending.issuer not in self._client.issuers:
            log.error("refresh token of another provider not revoked", extra={"issuer": pending.issuer})
        elif not self._client.issued(pending):
            log.error("refresh token of another client not revoked", extra={"client_id": pending.client_id})
        else:
            try:
                await self._revoke(pending.refresh_token)
            except ProviderUnavailable as error:
                await self._retry_later(pending, error)
                return False
        with contextlib.suppress(StoreUnavailable):  # then it is revoked once more, which is harmless
            await self._outbox.remove(pending.id)
        return True

    async def _revoke(self, refresh_token: str) -> None:
        try:
            if await self._client.revoke(refresh_token):
                log.info("refresh token revoked")
            else:
                log.info("refresh token not revoked: the provider has no revocation endpoint")
        except GrantRefused as error:
            log.error("refresh token revocation refused", extra={"reason": str(error)})

    async def _retry_later(self, pending: Pending, error: ProviderUnavailable) -> None:
        due_at = self._clock() + max(revocation_seconds(pending.tries), error.requested_pause_seconds or 0)
        with contextlib.suppress(StoreUnavailable):  # then it is due again when this claim expires
            if due_at < pending.expires_at:
                log.warning("refresh token not revoked yet", extra={"reason": str(error)})
                await self._outbox.postpone(pending.id, due_at=due_at)
            else:
                log.error("refresh token never revoked", extra={"reason": str(error)})
                await self._outbox.remove(pending.id)

    async def revoke_best_effort(self, session: Session, queued: Sequence[Pending] = ()) -> None:
        """Revoke the token of a login that has failed.

        That is tried once, and a failure is logged and not retried, unless it is `queued` in the outbox.
        """
        for pending in queued:
            await self.attempt(pending)
        if queued:
            return
        if session.tokens.refresh_token is None:
            return
        try:
            await self._revoke(session.tokens.refresh_token)
        except ProviderUnavailable as error:
            log.error("refresh token never revoked", extra={"reason": str(error)})

    async def drain_due(self) -> None:
        """Do all that is due, until one attempt has to be retried; raises StoreUnavailable."""
        while pending := await self._outbox.claim(until=self._clock() + ATTEMPT_SECONDS):
            await self._take_from_session(pending)
            if not await self.attempt(pending):
                return

    async def _take_from_session(self, pending: Pending) -> None:
        """Make sure that no session holds the token: the process that was to do this may have died.

        What the session has by now may be another token, which is enqueued as well.
        """
        if pending.ref is None:
            return
        if pending.reason is not None:
            ended = await self._delete(pending.ref, pending.reason)
            if ended and ended.tokens.refresh_token != pending.refresh_token:
                await self.enqueue(ended)
            return
        while (session := await self._sessions.get(pending.ref)) and session.tokens.refresh_token:
            if session.tokens.refresh_token != pending.refresh_token:
                await self.enqueue(session)
            if await self._sessions.save(session.without_refresh_token):
                return

    async def run(self) -> None:
        """Drain the outbox every REVOCATION_DRAIN_SECONDS, until cancelled."""
        while True:
            with contextlib.suppress(StoreUnavailable):  # it has been logged
                await self.drain_due()
            await asyncio.sleep(REVOCATION_DRAIN_SECONDS)


async def _each(sessions: Sequence[Session], work: Callable[[Session], Awaitable[None]]) -> Sequence[Session]:
    """Do the work for each session, a few at once; return those that it failed for.

    A worker stops at its first failure, so a store that is down is waited for once.
    """
    waiting = iter(sessions)
    left: list[Session] = []

    async def worker() -> None:
        for session in waiting:
            try:
                await work(session)
            except StoreUnavailable:
                left.append(session)
                return

    async with asyncio.TaskGroup() as workers:
        for _ in sessions[:_AT_ONCE]:
            workers.create_task(worker())
    return [*left, *waiting]
