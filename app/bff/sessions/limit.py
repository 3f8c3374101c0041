"""How many sessions a user may have at once, and which ones are too many. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from app.bff.sessions.session import Session
from app.bff.settings.models import TooMany


def excess_sessions(limit: int, sessions: Sequence[Session], too_many: TooMany) -> list[Session]:
    """Return those of a user's sessions, the oldest first, that have to end.

    Whoever counts them has made their own session before. So if two sign in at the same moment, both
    of them see the same, and come to the same decision.
    """
    return list(sessions[limit:] if too_many == "refuse" else sessions[:-limit])
