"""`python -m app sessions list|end`: who is signed in, and signing them out."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from app.bff.commands.stores import NO_STORE, counted, in_memory
from app.bff.doctor.report import plain
from app.bff.errors import StoreUnavailable
from app.bff.services import Services, running_services
from app.bff.sessions.session import Reason, Session
from app.bff.settings.load import BffSettings
from app.bff.web.user_agents import describe_user_agent

_NONE = "There is no such session."
_AT_ONCE = 20  # sessions that are being ended: each asks the provider to revoke a token


async def run(settings: BffSettings, wanted: Namespace) -> int:
    """Do what is wanted; return 0, also if there is no such session, or 1 if the store does not answer."""
    if in_memory(settings):
        print(NO_STORE, file=sys.stderr)
        return 2
    async with running_services(settings) as services:
        try:
            await (_end if wanted.action == "end" else _list)(services, wanted)
        except StoreUnavailable as error:
            print(error, file=sys.stderr)
            return 1
    return 0


async def _list(services: Services, wanted: Namespace) -> None:
    count = 0
    async for session in _found(services, wanted):
        print(line(session))
        count += 1
    if not count:
        print(_NONE)


async def _end(services: Services, wanted: Namespace) -> None:
    refs = [session.ref async for session in _found(services, wanted)]
    for first in range(0, len(refs), _AT_ONCE):
        some = refs[first : first + _AT_ONCE]
        await asyncio.gather(*(services.tokens.end(ref, Reason.OPERATOR) for ref in some))
    if not refs:
        print(_NONE)
        return
    print(f"Ended {counted(len(refs), 'session')}.")
    print("A refresh token that could not be revoked now, a running process will revoke.")


async def _found(services: Services, wanted: Namespace) -> AsyncIterator[Session]:
    sessions, issuer = services.sessions, services.settings.issuer
    if wanted.user is not None:
        found = await sessions.of_user(issuer, wanted.user)
    elif wanted.sid is not None:
        found = await sessions.of_sid(issuer, wanted.sid)
    else:
        async for session in sessions.every():
            yield session
        return
    for session in found:
        yield session


def line(session: Session) -> str:
    """What an operator may see of a session: nothing in it finds or opens anything."""
    return "\t".join(
        [
            session.public_id,
            plain(session.subject),
            plain(session.device) or describe_user_agent(""),
            f"created {_date(session.created_at)}",
            f"used {_date(session.renewed_at)}",
            f"ends {_date(session.expires_at)}",
        ]
    )


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
