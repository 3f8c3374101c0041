"""A callback that arrives again: its browser gets the session of the first, and its code is not redeemed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from app.bff.backoff import repeat_poll_seconds
from app.bff.errors import LoginFailed
from app.bff.services import Services
from app.bff.sessions.session import session_ref

REPEAT_SECONDS = 30  # how long a repeated callback gets the answer of the first


async def session_id_of_first(
    services: Services, claim: str, session_ids: Sequence[str], pauses: Iterable[float] | None = None
) -> str:
    """Return the session id of the callback that has claimed the attempt, once its session is there.

    `session_ids` are those that the attempt and its code may have: one for each key of the ring. Raises
    LoginFailed if that login fails, takes too long, or was REPEAT_SECONDS ago: a callback that is
    replayed later signs no browser in.
    """
    for pause in pauses or repeat_poll_seconds():
        for session_id in session_ids:
            if session := await services.sessions.get(session_ref(session_id)):
                if services.clock() < session.created_at + REPEAT_SECONDS:
                    return session_id
                raise LoginFailed("This sign-in is done already.")
        if await services.replay_cache.has(failure_of(claim)):
            break
        await asyncio.sleep(pause)
    raise LoginFailed("This sign-in did not work. Please start another one.")


def failure_of(claim: str) -> str:
    """Return the key that tells repeated callbacks that the first one, with this claim, has failed."""
    return f"{claim} failed"
