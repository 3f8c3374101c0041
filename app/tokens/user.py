"""A user's access token that is good right now: one refresh per session, however many callers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from app.errors import (
    GrantRefused,
    NoSession,
    ProviderUnavailable,
    ReauthenticationRequired,
    SessionEnded,
    TokenUnavailable,
    UntrustedToken,
)
from app.flights import Flights
from app.observability import short
from app.oidc.client import OidcClient
from app.oidc.keys import UnknownKey
from app.sessions.session import Session, TokenSet
from app.sessions.store import SessionStore

log = logging.getLogger(__name__)


class UserTokens:
    """Hands out a user's access token, refreshing it when it is about to expire.

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
        revokes_at_end: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sessions = sessions
        self._client = client
        self._margin_seconds = margin_seconds
        self._revokes_at_end = revokes_at_end
        self._clock = clock
        self._flights = Flights[TokenSet]()

    async def get(self, session: Session, *, instead_of: str | None = None) -> str:
        """Return an access token that is good right now and is not `instead_of`.

        `instead_of` is a token that an API has just refused. A token that somebody else has got
        meanwhile will do: a hundred refused requests cause one refresh, not a hundred.
        """
        tokens = session.tokens
        if not self._will_do(tokens, instead_of):
            tokens = await self._renewed(session.ref, instead_of)
        if tokens.access_token == instead_of:  # joined a flight that was looking for any fresh token
            tokens = await self._renewed(session.ref, instead_of)
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
            await self._revoke_quietly(session.tokens)

    async def settle(self) -> None:
        """Wait for the refreshes that are under way, so that a shutdown loses no rotated token."""
        await self._flights.settle()

    def _will_do(self, tokens: TokenSet, instead_of: str | None) -> bool:
        return tokens.access_token != instead_of and tokens.is_fresh(
            margin_seconds=self._margin_seconds, now=self._clock()
        )

    async def _renewed(self, ref: str, instead_of: str | None) -> TokenSet:
        return await self._flights.join(ref, lambda: self._renew(ref, instead_of))

    async def _renew(self, ref: str, instead_of: str | None) -> TokenSet:
        # Read again: the session this caller saw may have been refreshed, or ended, since.
        # A lease between processes is to be taken here, before the second read.
        session = await self._sessions.get(ref)
        if session is None:
            raise NoSession("the session is over")
        if self._will_do(session.tokens, instead_of):
            return session.tokens
        if session.tokens.refresh_token is None:
            return self._without_refreshing(
                session.tokens, instead_of, ReauthenticationRequired("no refresh token")
            )
        try:
            newer = await self._client.refresh(session.tokens.refresh_token)
        except GrantRefused:
            return await self._refused(session, instead_of)
        except ProviderUnavailable as error:
            log.warning("refresh failed", extra=_about(session, error))
            retry = TokenUnavailable(error.title, retry_after_seconds=error.retry_after_seconds)
            return self._without_refreshing(session.tokens, instead_of, retry)
        return await self._kept(session, newer)

    async def _kept(self, session: Session, newer: TokenSet) -> TokenSet:
        """Save what a refresh brought, before anybody uses it: a rotated refresh token must not be lost."""
        tokens = session.tokens.updated_by(await self._with_checked_id_token(session, newer))
        saved = await self._sessions.save(replace(session, tokens=tokens))
        if saved is None:
            return await self._overtaken(session, tokens)
        log.info("session refreshed", extra={"session": short(session.ref)})
        return saved.tokens

    async def _with_checked_id_token(self, session: Session, newer: TokenSet) -> TokenSet:
        if newer.id_token is None:
            return newer
        try:
            await self._client.check_refreshed(newer.id_token, earlier=dict(session.claims))
        except (ProviderUnavailable, UnknownKey) as error:  # cannot be checked: the one we have will do
            log.warning("refreshed id token not used", extra=_about(session, error))
            return replace(newer, id_token=None)
        except UntrustedToken as error:
            log.error("refreshed id token refused", extra=_about(session, error))
            await self.end(session.ref)
            await self._revoke_quietly(newer)
            raise SessionEnded("the provider answered for somebody else") from error
        return newer

    async def _overtaken(self, session: Session, tokens: TokenSet) -> TokenSet:
        """Somebody wrote or ended the session while we refreshed."""
        current = await self._sessions.get(session.ref)
        if current is None or current.tokens.refresh_token is None:
            await self._revoke_quietly(tokens)  # after a logout or a revocation nothing new may live on
        if current is None:
            raise NoSession("the session is over")
        return self._without_refreshing(current.tokens, None, ReauthenticationRequired("no refresh token"))

    async def _refused(self, session: Session, instead_of: str | None) -> TokenSet:
        """After `invalid_grant`: one more look, since another process may have used the token first."""
        current = await self._sessions.get(session.ref)
        if current is not None and self._will_do(current.tokens, instead_of):
            return current.tokens
        log.warning("refresh refused, session ended", extra={"session": short(session.ref)})
        await self._sessions.delete(session.ref)
        raise SessionEnded("the provider has ended this session")

    def _without_refreshing(self, tokens: TokenSet, instead_of: str | None, otherwise: Exception) -> TokenSet:
        """Return tokens that are inside the margin but alive, or raise `otherwise`."""
        if tokens.access_token != instead_of and tokens.is_alive(now=self._clock()):
            return tokens
        raise otherwise

    async def _revoke_quietly(self, tokens: TokenSet) -> None:
        """Revoke the refresh token of a session that is gone; a provider that is down stops nothing."""
        if tokens.refresh_token is None or not self._revokes_at_end:
            return
        try:
            await self._client.revoke(tokens.refresh_token)
        except ProviderUnavailable as error:
            log.warning("refresh token could not be revoked", extra={"reason": str(error)})


def _about(session: Session, error: Exception) -> dict[str, str]:
    return {"session": short(session.ref), "reason": str(error)}
