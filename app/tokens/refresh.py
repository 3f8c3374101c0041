"""One refresh of a session's tokens: under a lease, and saved before anybody uses what it brought."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from app.errors import (
    GrantRefused,
    NoSession,
    ProviderUnavailable,
    ReauthenticationRequired,
    SessionEnded,
    StoreUnavailable,
    TokenUnavailable,
    Unauthorized,
    UntrustedToken,
)
from app.flights import Flights
from app.observability import short
from app.oidc.client import OidcClient
from app.oidc.keys import UnknownKey
from app.sessions.session import Session, TokenSet
from app.sessions.store import SessionStore
from app.tokens.revocation import Revocation

log = logging.getLogger(__name__)


def growing_pauses() -> Iterator[float]:
    """Yield seconds to wait before looking again: short at first, then twice a second."""
    pause = 0.02
    while True:
        yield pause
        pause = min(pause * 1.5, 0.5)


@dataclass(frozen=True)
class Wanted:
    """Which tokens a caller can use; `instead_of` is an access token that an API has just refused."""

    margin_seconds: float
    instead_of: str | None
    clock: Callable[[], float]

    def met_by(self, tokens: TokenSet) -> bool:
        return tokens.access_token != self.instead_of and tokens.is_fresh(
            margin_seconds=self.margin_seconds, now=self.clock()
        )

    def met_for_now_by(self, tokens: TokenSet) -> bool:
        """Inside the margin, but alive: good enough when there is nothing better."""
        return tokens.access_token != self.instead_of and tokens.is_alive(now=self.clock())

    def best_of(self, tokens: TokenSet, otherwise: Unauthorized) -> TokenSet:
        if self.met_for_now_by(tokens):
            return tokens
        raise otherwise


class Refresher:
    """Refreshes the tokens of sessions, one refresh at a time per session among all processes.

    A process that wants to refresh takes the session's lease; the others wait, and read what it has
    written. A holder that dies is succeeded when its lease ends; should it come back late, the
    session's `version` keeps it from overwriting anything.
    """

    def __init__(
        self,
        sessions: SessionStore,
        client: OidcClient,
        revocation: Revocation,
        *,
        lease_seconds: float,
        pauses: Callable[[], Iterator[float]] = growing_pauses,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sessions = sessions
        self._client = client
        self._revocation = revocation
        self._lease_seconds = lease_seconds
        self._pauses = pauses
        self._clock = clock
        self._unsaved: dict[str, TokenSet] = {}
        self._saving = Flights[None]()

    async def renew(self, ref: str, wanted: Wanted) -> TokenSet:
        """Return tokens that are `wanted`, refreshing them if nobody else does; raises Unauthorized."""
        owner = secrets.token_hex(8)
        for pause in self._pauses():
            if ref in self._unsaved and wanted.met_for_now_by(self._unsaved[ref]):
                return self._unsaved[ref]
            # Read again: the session that the caller saw may have been refreshed, or ended, since.
            session = await self._current(ref)
            if self._needs_no_refresh(session.tokens, wanted):
                return session.tokens
            leased = await self._sessions.lease(ref, owner=owner, until=self._clock() + self._lease_seconds)
            if leased is not None:
                return await self._refresh(leased, owner, wanted)
            if wanted.met_for_now_by(session.tokens):  # somebody else is refreshing: nobody needs to wait
                return session.tokens
            await asyncio.sleep(pause)
        raise AssertionError("pauses never end")

    async def settle(self) -> None:
        """Wait until everything that was refreshed is saved."""
        await self._saving.settle()

    async def _current(self, ref: str) -> Session:
        session = await self._sessions.get(ref)
        if session is None:
            raise NoSession("the session is over")
        return session

    def _needs_no_refresh(self, tokens: TokenSet, wanted: Wanted) -> bool:
        if wanted.met_by(tokens):
            return True
        if tokens.refresh_token is None:
            wanted.best_of(tokens, ReauthenticationRequired("no refresh token"))
            return True
        return False

    async def _refresh(self, session: Session, owner: str, wanted: Wanted) -> TokenSet:
        if wanted.met_by(session.tokens) or session.tokens.refresh_token is None:  # since we looked
            await self._sessions.release(session.ref, owner=owner)
            return wanted.best_of(session.tokens, ReauthenticationRequired("no refresh token"))
        try:
            newer = await self._client.refresh(session.tokens.refresh_token)
        except GrantRefused:
            return await self._refused(session, wanted)
        except ProviderUnavailable as error:
            log.warning("refresh failed", extra=_about(session, error))
            await self._sessions.release(session.ref, owner=owner)
            retry = TokenUnavailable(error.title, retry_after_seconds=error.retry_after_seconds)
            return wanted.best_of(session.tokens, retry)
        return await self._save(session, newer, owner, wanted)

    async def _save(self, session: Session, newer: TokenSet, owner: str, wanted: Wanted) -> TokenSet:
        tokens = session.tokens.updated_by(await self._with_checked_id_token(session, newer))
        changed = replace(session, tokens=tokens)
        try:
            saved = await self._sessions.save(changed, lease=owner)
        except StoreUnavailable:
            self._unsaved[session.ref] = tokens
            self._saving.start(session.ref, lambda: self._save_when_possible(changed, owner, wanted))
            return tokens
        if saved is None:
            return await self._overtaken(changed, wanted)
        log.info("session refreshed", extra={"session": short(session.ref)})
        return tokens

    async def _save_when_possible(self, changed: Session, owner: str, wanted: Wanted) -> None:
        """Try until the store answers: the old refresh token is used up, this is the only one there is."""
        for pause in self._pauses():
            await asyncio.sleep(pause)
            try:
                if await self._sessions.save(changed, lease=owner) is None:
                    await self._overtaken(changed, wanted)
            except StoreUnavailable:
                if self._clock() < changed.expires_at:
                    continue
            except Unauthorized:
                log.info("session ended before it was saved", extra={"session": short(changed.ref)})
            del self._unsaved[changed.ref]
            return

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
            await self._end(session, session.tokens, newer)
            raise SessionEnded("the provider answered for somebody else") from error
        return newer

    async def _overtaken(self, changed: Session, wanted: Wanted) -> TokenSet:
        """Somebody wrote or ended the session while we refreshed; or it was we, and the answer was lost."""
        current = await self._sessions.get(changed.ref)
        if current is None or current.tokens.refresh_token is None:
            await self._revocation.revoke(changed.tokens)  # after a logout nothing new may live on
        if current is None:
            raise NoSession("the session is over")
        return wanted.best_of(current.tokens, ReauthenticationRequired("no refresh token"))

    async def _refused(self, session: Session, wanted: Wanted) -> TokenSet:
        """After `invalid_grant`: one more look, since another process may have used the token first."""
        current = await self._sessions.get(session.ref)
        if current is not None and wanted.met_by(current.tokens):
            return current.tokens
        log.warning("refresh refused, session ended", extra={"session": short(session.ref)})
        await self._sessions.delete(session.ref)
        raise SessionEnded("the provider has ended this session")

    async def _end(self, session: Session, *left_behind: TokenSet) -> None:
        await self._sessions.delete(session.ref)
        for tokens in left_behind:
            await self._revocation.revoke(tokens)


def _about(session: Session, error: Exception) -> dict[str, str]:
    return {"session": short(session.ref), "reason": str(error)}
