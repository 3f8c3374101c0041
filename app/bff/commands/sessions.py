"""`python -m app sessions list|end`: lists sessions, or ends them for every process."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from app.bff.doctor.report import plain
from app.bff.errors import StoreUnavailable
from app.bff.services import Services, running_services
from app.bff.sessions.session import Reason, Session
from app.bff.settings.models import BffSettings
from app.bff.web.user_agents import describe_user_agent

NO_STORE = "BFF_SESSION_STORE is memory: the sessions are in the running process, out of reach of a command."
_NONE = "There is no such session."
_BATCH = 500  # sessions in memory at a time, with their tokens


async def run(settings: BffSettings, args: Namespace) -> int:
    """Return 0, also if there is no such session, 1 if the store does not answer, 2 without a store."""
    if settings.session_store == "memory:":
        print(NO_STORE, file=sys.stderr)
        return 2
    async with running_services(settings, hooks=getattr(args, "hooks", None)) as services:
        try:
            if args.action == "list":
                await _list(services, args)
            else:
                async with _with_state(services, args):
                    await _end(services, args)
        except StoreUnavailable as error:
            print(error, file=sys.stderr)
            return 1
    return 0


@asynccontextmanager
async def _with_state(services: Services, args: Namespace) -> AsyncIterator[None]:
    """Enter the application's lifespan, if it has hooks: `on_sign_out` is called in this process."""
    if services.hooks is None:
        yield
        return
    async with args.lifespan(services) as services.hooks.state:
        yield
        await services.hooks.drain()


async def _list(services: Services, args: Namespace) -> None:
    count = 0
    async for session in selected(services, args):
        print(line(session))
        count += 1
    if not count:
        print(_NONE)


async def _end(services: Services, args: Namespace) -> None:
    count = 0
    async for batch in _batches(selected(services, args)):
        try:
            await services.tokens.end_all(batch, Reason.OPERATOR)
        except StoreUnavailable:
            print(f"Ended {counted(count, 'session')} before the store failed. Repeat the command.")
            raise
        count += len(batch)
    if not count:
        print(_NONE)
        return
    print(f"Ended {counted(count, 'session')}.")
    print("A running process revokes the refresh tokens that could not be revoked now.")


async def _batches(sessions: AsyncIterator[Session]) -> AsyncIterator[list[Session]]:
    batch: list[Session] = []
    async for session in sessions:
        batch.append(session)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def selected(services: Services, args: Namespace) -> AsyncIterator[Session]:
    """Yield the sessions of `args.user` or `args.sid`, or all."""
    sessions, issuer = services.sessions, services.settings.issuer
    found: list[Session] = []
    if services.settings.tenants and (args.user is not None or args.sid is not None):
        # The indexes are by issuer, and each tenant has another.
        found = [each async for each in sessions.every() if args.user in (None, each.subject)]
        found = [each for each in found if args.sid in (None, each.sid)]
    elif args.user is not None:
        found = await sessions.of_user(issuer, args.user)
    elif args.sid is not None:
        found = await sessions.of_sid(issuer, args.sid)
    else:
        async for session in sessions.every():
            yield session
        return
    for session in found:
        yield session


def line(session: Session) -> str:
    """Return one line about a session; nothing in it identifies or opens the session."""
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


def counted(count: int, noun: str) -> str:
    """
    >>> counted(1, "session"), counted(1234, "session")
    ('1 session', '1,234 sessions')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
