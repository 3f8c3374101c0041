"""Valid access tokens of users: one refresh per session, however many callers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from app.bff.authorization import Rule
from app.bff.backoff import REVOCATION_AFTER_LOGOUT_SECONDS
from app.bff.errors import NoSession, StoreUnavailable
from app.bff.oidc.client import OidcClient
from app.bff.sessions.interfaces import Pending, SessionStore
from app.bff.sessions.session import LOGIN, Reason, Session, Target, TokenSet
from app.bff.singleflight import SingleFlight
from app.bff.telemetry import observer
from app.bff.tokens.claims import ClaimsRenewal
from app.bff.tokens.policy import TokenRequest
from app.bff.tokens.refresh import Refresher
from app.bff.tokens.revocation import Revocation

log = logging.getLogger(__name__)

_DRAIN_SECONDS = 20
_REVOCATION_WAIT_SECONDS = 1  # how long ending a session waits for the revocation endpoint


class SessionHolder(Protocol):
    """A request or a job: its `session` is replaced when a refresh has changed its tokens."""

    session: Session | None


class UserTokens:
    """Returns a user's access token, and renews it before it expires.

    Concurrent requests that find the same expired token share one refresh: it runs in a task of its
    own, which the cancellation of a request does not stop. A token that is still valid for most of its
    margin is returned at once while the refresh runs in the background.

    `get`, `tokens` and `for_session` raise errors that are all 401 for the caller: NoSession;
    SessionEnded, the provider rejected the refresh token; ReauthenticationRequired, there is none, or the
    provider wants the user to sign in again; TokenUnavailable, the provider did not answer: try later.
    In the last two cases the session stays.
    """

    def __init__(
        self,
        sessions: SessionStore,
        client: OidcClient,
        revocation: Revocation,
        *,
        margin_seconds: float,
        lease_seconds: float,
        claims: ClaimsRenewal | None = None,
        require: Rule | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sessions = sessions
        self._margin_seconds = margin_seconds
        self._clock = clock
        self._revocation = revocation
        self._refresher = Refresher(
            sessions,
            client,
            revocation,
            lease_seconds=lease_seconds,
            claims=claims,
            require=require,
            clock=clock,
        )
        self._flights = SingleFlight[Session]()
        self._revocations = SingleFlight[bool]()  # by the id of a Pending

    async def get(self, session: Session, *, target: Target = LOGIN, rejected: str | None = None) -> str:
        """Return the access token of `tokens`."""
        return (await self.tokens(session, target=target, rejected=rejected)).access_token

    async def tokens(
        self,
        session: Session,
        *,
        target: Target = LOGIN,
        rejected: str | None = None,
        holder: SessionHolder | None = None,
    ) -> TokenSet:
        """Return tokens with a valid access token for `target` that is not `rejected`.

        `rejected` is a token that an API has just answered with 401. If another caller has renewed it
        meanwhile, that result is returned: a hundred rejected requests cause one refresh.
        The session of `holder` follows a refresh, also one that ends in the background.
        """
        request = TokenRequest(self._margin_seconds, self._clock, target, rejected)
        tokens = request.fresh(session) or await self._refreshed(session, request, holder)
        if tokens.access_token == rejected:  # joined a flight that accepts any fresh token
            tokens = await self._refreshed(session, request, holder)
        return tokens

    async def for_session(self, ref: str, *, scope: str | None = None, resource: str | None = None) -> str:
        """Return a valid access token of the user, for work outside a request.

        `ref` is the `ref` of a session. It opens no session in a browser, so a job queue may store it. Its
        use does not extend the session: once that has expired or ended, NoSession is raised.
        """
        session = await self._sessions.get(ref)
        if session is None:
            raise NoSession("the session is over")
        return await self.get(session, target=Target(scope, resource))

    async def revoke(self, session: Session) -> None:
        """Revoke the session's refresh token; its access token stays valid until it expires.

        The session loses it at once. If the provider does not answer, revocation is retried later.
        """
        current = await self._sessions.get(session.ref)
        if current is None:
            return
        queued = await self._revocation.enqueue(current)
        # Removed from the session first: a refresh with a revoked token would end the session.
        if queued and await self._sessions.save(current.without_refresh_token) is None:
            await self.revoke(session)  # refreshed meanwhile: revoke the new one, too
        for pending in queued:
            await self._revocation.attempt(pending)

    async def end(self, ref: str, reason: Reason, *, revoke: bool = True) -> None:
        """End one session: see `end_all`."""
        session = await self._sessions.get(ref)
        if session is not None:
            await self.end_all([session], reason, revoke=revoke)

    async def end_all(self, sessions: Sequence[Session], reason: Reason, *, revoke: bool = True) -> None:
        """Delete sessions, for every process at once, then revoke their refresh tokens.

        Revocation goes on in the background if it takes longer than a second. Do not `revoke` where
        another session may share the grant: with many providers all logins of one browser do.
        Raises StoreUnavailable if not all have ended yet; the others then end by themselves if `revoke`.
        """
        await self.revoke_now(await self._revocation.end(sessions, reason, revoke=revoke))

    async def end_before_logout(self, sessions: Sequence[Session]) -> list[Pending]:
        """End sessions of a browser that is then sent to the provider's logout page; raises as `end_all`.

        Their refresh tokens stay valid until `revoke_after_logout`, or for a minute: with some providers
        the revocation ends the provider's session, which then cannot be logged out properly. If there is no
        such page, pass the result to `revoke_now`.
        """
        return await self._revocation.end(
            sessions, Reason.SIGNED_OUT, due_in_seconds=REVOCATION_AFTER_LOGOUT_SECONDS
        )

    async def revoke_after_logout(self, pending_ids: Sequence[str]) -> None:
        """Revoke what `end_before_logout` has left: the provider has sent the browser back."""
        claims = [await self._revocation.claim(pending_id) for pending_id in pending_ids]
        await self.revoke_now([pending for pending in claims if pending])

    async def revoke_now(self, queued: Sequence[Pending]) -> None:
        """Attempt revocations; they go on in the background if they take longer than a second."""
        attempts = [
            self._revocations.start(each.id, partial(self._revocation.attempt, each)) for each in queued
        ]
        if attempts:
            await asyncio.wait(attempts, timeout=_REVOCATION_WAIT_SECONDS)

    async def drain(self) -> None:
        """Wait for refreshes and revocations in flight, so that a shutdown loses no rotated token."""
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._flights.drain()
                await self._refresher.drain()
                await self._revocation.drain()
                await self._revocations.drain()
        except TimeoutError:
            log.error("stopped with refreshed sessions unsaved")

    async def _refreshed(
        self, session: Session, request: TokenRequest, holder: SessionHolder | None
    ) -> TokenSet:
        flight = self._flights.start((session.ref, request.target), lambda: self._renew(session.ref, request))
        if holder is not None:
            flight.add_done_callback(partial(self._follow, holder))
        if tokens := request.usable_while_renewing(session):
            return tokens
        try:
            with observer.current.waiting_for(flight):
                renewed = await asyncio.shield(flight)
        except StoreUnavailable as error:
            return request.unexpired_or_raise(session, error)
        tokens = renewed.tokens_for(request.target)
        assert tokens is not None
        return tokens

    def _follow(self, holder: SessionHolder, refresh: asyncio.Task[Session]) -> None:
        """Give the holder what the refresh has changed; the session may have been extended meanwhile."""
        if holder.session is None or refresh.cancelled() or refresh.exception() is not None:
            return
        renewed, held = refresh.result(), holder.session
        if renewed.version >= held.version:
            holder.session = replace(renewed, renewed_at=held.renewed_at, expires_at=held.expires_at)

    async def _renew(self, ref: str, request: TokenRequest) -> Session:
        if request.target.exchanged:  # the subject token of the exchange is renewed first
            own = TokenRequest(self._margin_seconds, self._clock)
            await self._flights.do((ref, LOGIN), lambda: self._refresher.renew(ref, own))
        return await self._refresher.renew(ref, request)
