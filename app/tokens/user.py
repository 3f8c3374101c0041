"""A user's access token that is good right now: one refresh per session, however many callers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from app.errors import ProviderUnavailable
from app.flights import Flights
from app.observability import short
from app.oidc.client import OidcClient
from app.sessions.session import Session, TokenSet
from app.sessions.store import SessionStore
from app.tokens.refresh import Refresher, Wanted
from app.tokens.revocation import Revocation

log = logging.getLogger(__name__)

_SETTLE_SECONDS = 20


class UserTokens:
    """Hands out a user's access token, refreshing it when it is about to expire.

    Ten requests that find the same expired token cause one refresh: the first starts a task, all ten
    wait for it, and the task belongs to none of them.

    `get` raises, and all of it means 401 for the caller: NoSession; SessionEnded, the provider
    refused the refresh token; ReauthenticationRequired, there is none; TokenUnavailable, the
    provider did not answer: the session stays, try later.
    """

    def __init__(
        self,
        sessions: SessionStore,
        client: OidcClient,
        *,
        margin_seconds: float,
        lease_seconds: float = 30,
        revokes_at_end: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sessions = sessions
        self._client = client
        self._margin_seconds = margin_seconds
        self._clock = clock
        self._revocation = Revocation(client, enabled=revokes_at_end)
        self._refresher = Refresher(
            sessions, client, self._revocation, lease_seconds=lease_seconds, clock=clock
        )
        self._flights = Flights[TokenSet]()

    async def get(self, session: Session, *, instead_of: str | None = None) -> str:
        """Return an access token that is good right now and is not `instead_of`.

        `instead_of` is a token that an API has just refused. A token that somebody else has got
        meanwhile will do: a hundred refused requests cause one refresh, not a hundred.
        """
        tokens, wanted = session.tokens, Wanted(self._margin_seconds, instead_of, self._clock)
        if not wanted.met_by(tokens):
            tokens = await self._renewed(session.ref, wanted)
        if tokens.access_token == instead_of:  # joined a flight that was looking for any fresh token
            tokens = await self._renewed(session.ref, wanted)
        return tokens.access_token

    async def revoke(self, session: Session) -> None:
        """Revoke the session's refresh token by hand; the access token lives on until it expires.

        Raises ProviderUnavailable: then the session has its refresh token still.
        """
        current = await self._sessions.get(session.ref)
        if current is None or current.tokens.refresh_token is None:
            return
        # Out of the session first: a refresh with it now would be refused, and end the session.
        without = await self._sessions.save(
            replace(current, tokens=replace(current.tokens, refresh_token=None))
        )
        if without is None:  # refreshed meanwhile: another one is to be revoked
            await self.revoke(session)
            return
        try:
            await self._client.revoke(current.tokens.refresh_token)
        except ProviderUnavailable:
            await self._sessions.save(replace(without, tokens=current.tokens))
            raise
        log.info("refresh token revoked", extra={"session": short(session.ref)})

    async def end(self, ref: str) -> None:
        """End a session: it is gone for every process, then its refresh token is revoked."""
        session = await self._sessions.delete(ref)
        if session is not None:
            log.info("session ended", extra={"session": short(ref)})
            await self._revocation.revoke(session.tokens)

    async def settle(self) -> None:
        """Wait for the refreshes that are under way, so that a shutdown loses no rotated token."""
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                await self._flights.settle()
                await self._refresher.settle()
        except TimeoutError:
            log.error("stopped before every refreshed session could be saved")

    async def _renewed(self, ref: str, wanted: Wanted) -> TokenSet:
        return await self._flights.join(ref, lambda: self._refresher.renew(ref, wanted))
