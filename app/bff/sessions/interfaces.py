"""What every session store promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from app.bff.sessions.reencrypt import ReencryptResult
from app.bff.sessions.session import Reason, Session


class SessionStore(Protocol):
    """Keeps sessions by their `ref`.

    Every method may raise StoreUnavailable: that says nothing about the session. An expired session
    is not there, whether or not it has been cleared away yet.
    """

    async def open(self) -> None:
        """Prepare what the store needs. Harmless when called again."""

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """Return if the store answers."""

    async def create(self, session: Session) -> None:
        """Keep a session that was not there before."""

    async def get(self, ref: str) -> Session | None:
        """Return the session, or None if there is none that can be used."""

    async def lease(self, ref: str, *, owner: str, until: float) -> Session | None:
        """Take the right to refresh the session's tokens, and return the session as it is now.

        One owner has it at a time among all processes, until it saves, releases it, or the time
        `until` (seconds since the epoch) has come: a process that dies is succeeded. Its owner may take
        it again, since the answer may have been lost. Returns None while somebody else has it, or if
        the session is gone.
        """

    async def release(self, ref: str, *, owner: str) -> None:
        """Give up a lease before its time. Harmless if it is not `owner`'s any more."""

    async def save(self, session: Session, *, lease: str | None = None) -> Session | None:
        """Replace the tokens and claims of the session and return it with its next `version`.

        Returns None, and writes nothing, if the session is gone or is not at `session.version` any
        more: a request still in flight neither brings a session back nor overwrites newer tokens.
        With `lease`, its owner's name, it must also still be theirs, and is given up.
        """

    async def touch(self, ref: str, *, renewed_at: float, expires_at: float) -> None:
        """Move the end of a session that is there; its `version` stays."""

    async def delete(self, ref: str, *, reason: Reason) -> Session | None:
        """Remove the session, for every process at once, and return it if it was there.

        `reason` is kept in its place for a while: see SessionEndSource.
        """

    async def of_user(self, issuer: str, subject: str) -> list[Session]:
        """Return the sessions of one user, the oldest first."""

    async def of_sid(self, issuer: str, sid: str) -> list[Session]:
        """Return the sessions that belong to one session of the provider's, the oldest first."""

    def every(self) -> AsyncIterator[Session]:
        """Yield all sessions that can be used, in no order."""

    async def reencrypt(self) -> ReencryptResult:
        """Seal anew with the first key of the ring what an older one has sealed; look at each record once.

        Nobody has to stop working for it, and nothing that anybody writes meanwhile is lost.
        """
