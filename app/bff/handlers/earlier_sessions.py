"""When a login begins a session: which earlier ones of its browser and its user end."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from app.bff.errors import LoginFailed, StoreUnavailable
from app.bff.services import Services
from app.bff.sessions.session import Reason, Session, excess_sessions


async def make_room(services: Services, session: Session, replaced: Collection[str]) -> None:
    """End the sessions that a new one replaces, by their `ref`, and those that exceed the user's limit.

    Raises LoginFailed, with the new one ended, if the limit refuses further sessions; or StoreUnavailable.
    """
    if services.settings.max_sessions_per_user:
        await _enforce_session_limit(services, session, replaced)
    for ref in replaced:
        if _is_same_user(await services.sessions.get(ref), session):
            await services.tokens.end(ref, Reason.RENEWED, revoke=False)
        else:
            await services.tokens.end(ref, Reason.SIGNED_IN_AGAIN)


async def end_those_of_refused(services: Services, session: Session, replaced: Collection[str]) -> None:
    """End what a browser has of a user who may not sign in: `session` is what would have been the next."""
    for ref in replaced:
        if _is_same_user(await services.sessions.get(ref), session):
            await services.tokens.end(ref, Reason.NOT_ALLOWED)


def _is_same_user(earlier: Session | None, session: Session) -> bool:
    return earlier is not None and (earlier.issuer, earlier.subject) == (session.issuer, session.subject)


async def _enforce_session_limit(services: Services, session: Session, replaced: Collection[str]) -> None:
    settings, tokens = services.settings, services.tokens
    of_user = await services.sessions.of_user(session.issuer, session.subject)
    remaining = [other for other in of_user if other.ref not in replaced]
    excess = excess_sessions(settings.max_sessions_per_user, remaining, settings.too_many_sessions)
    others = [other for other in excess if other.ref != session.ref]
    await tokens.end_all(others, Reason.TOO_MANY)
    if len(others) < len(excess):
        with suppress(StoreUnavailable):
            await tokens.end(session.ref, Reason.TOO_MANY, revoke=False)
        raise LoginFailed("You are signed in in too many other places. Please sign out in one of them first.")
