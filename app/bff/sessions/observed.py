"""A session store that tells telemetry which sessions start and end."""

from __future__ import annotations

from typing import Any, cast

from app.bff.sessions.interfaces import SessionStore
from app.bff.sessions.session import Reason, Session
from app.bff.telemetry import observer


def observed(sessions: SessionStore) -> SessionStore:
    """Return the store, observed: all ends of sessions pass it, but for those that expire."""
    return cast(SessionStore, _Observed(sessions))


class _Observed:
    def __init__(self, sessions: SessionStore) -> None:
        self._sessions = sessions

    def __getattr__(self, name: str) -> Any:
        """Called once for each name: what it returns is an attribute from then on."""
        found = getattr(self._sessions, name)
        setattr(self, name, found)
        return found

    async def create(self, session: Session) -> None:
        await self._sessions.create(session)
        observer.current.session_started()

    async def delete(self, ref: str, *, reason: Reason, **conditions: Any) -> Session | None:
        session = await self._sessions.delete(ref, reason=reason, **conditions)
        if session is not None:
            observer.current.session_ended(reason.value)
        return session
