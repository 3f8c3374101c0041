"""`python -m app rotate-keys`: everything sealed anew with the first key, so that old keys can go."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable

from app.bff.commands.stores import NO_STORE, counted, in_memory
from app.bff.errors import StoreUnavailable
from app.bff.services import running_services
from app.bff.sessions.reencrypt import ReencryptResult
from app.bff.settings.load import BffSettings

LOOKS = 10

_DONE = """\
The old keys can be removed from BFF_ENCRYPTION_KEYS now. A sign-in that began before every process had
the new key first would have to begin again; after ten minutes there is none of these left."""
_STILL_WRITTEN = """\
Somebody still seals with an older key. Give every process the same BFF_ENCRYPTION_KEYS, with the new key
first, and run this again. Remove no key before that."""
_UNOPENED = """\
These belong to people who are signed out, and go away when they expire. If their key is not lost, put it
behind the others in BFF_ENCRYPTION_KEYS and run this again."""


async def run(settings: BffSettings, wanted: Namespace) -> int:
    """Print what was done; return 0 if nothing is left that the first key does not open, else 1."""
    if in_memory(settings):
        print(NO_STORE, file=sys.stderr)
        return 2
    async with running_services(settings) as services:
        try:
            sessions = await repeated(services.sessions.reseal)
            revocations = await repeated(services.outbox.reseal)
        except StoreUnavailable as error:
            print(f"{error}: nothing is lost, run this again.", file=sys.stderr)
            return 1
    print(told(sessions, revocations))
    return int(left(sessions + revocations))


async def repeated(reseal: Callable[[], Awaitable[ReencryptResult]]) -> ReencryptResult:
    """Look again until nothing is left to do, since others go on writing; at most LOOKS times.

    What is returned as overtaken was so in the last look, and may be written with an older key.
    """
    done = 0
    for _ in range(LOOKS):
        look = await reseal()
        done += look.done
        if not look.done and not look.overtaken:
            return ReencryptResult(done, 0, look.unopened)
    return ReencryptResult(done, look.done + look.overtaken, look.unopened)


def left(total: ReencryptResult) -> bool:
    return bool(total.overtaken or total.unopened)


def told(sessions: ReencryptResult, revocations: ReencryptResult) -> str:
    total = sessions + revocations
    counts = (
        f"Re-sealed {counted(sessions.done, 'session')}, {counted(revocations.done, 'revocation')};"
        f" {total.unopened:,} could not be opened."
    )
    advice = [_STILL_WRITTEN] * bool(total.overtaken) + [_UNOPENED] * bool(total.unopened)
    return "\n".join([counts, *(advice or [_DONE])])
