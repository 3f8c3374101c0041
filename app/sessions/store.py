"""What every session store promises."""

from __future__ import annotations

from typing import Protocol

from app.sessions.session import Session


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

    async def save(self, session: Session) -> Session | None:
        """Replace the tokens and claims of the session and return it with its next `version`.

        Returns None, and writes nothing, if the session is gone or is not at `session.version` any
        more: a request still in flight neither brings a session back nor overwrites newer tokens.
        """

    async def touch(self, ref: str, *, renewed_at: float, expires_at: float) -> None:
        """Move the end of a session that is there; its `version` stays."""

    async def delete(self, ref: str) -> Session | None:
        """Remove the session, for every process at once, and return it if it was there."""
