"""`python -m app rotate-keys`: re-encrypts the session store with the first key of the ring."""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable

from app.bff.commands.sessions import NO_STORE, counted
from app.bff.errors import StoreUnavailable
from app.bff.services import running_services
from app.bff.sessions.interfaces import ReencryptResult
from app.bff.settings.models import BffSettings

log = logging.getLogger(__name__)

MAX_PASSES = 10

_DONE = """\
The old keys can be removed from BFF_ENCRYPTION_KEYS ten minutes after the last restart: login attempts
that an old key has encrypted expire by then."""
_STILL_WRITTEN = """\
A process still encrypts with an older key. Give every process the same BFF_ENCRYPTION_KEYS, with the new
key first, and run this again. Remove no key before that."""
_UNOPENED = """\
Records that no key decrypts count as ended sessions and are removed when they expire. If their key still
exists, append it to BFF_ENCRYPTION_KEYS and run this again."""


async def run(settings: BffSettings, args: Namespace) -> int:
    """Print a summary; return 0 if the first key now decrypts every record, 1 if not, 2 without a store."""
    if settings.session_store == "memory:":
        print(NO_STORE, file=sys.stderr)
        return 2
    async with running_services(settings) as services:
        try:
            sessions = await repeated(services.sessions.reencrypt)
            revocations = await repeated(services.outbox.reencrypt)
        except StoreUnavailable as error:
            print(f"{error}: nothing is lost; run this again.", file=sys.stderr)
            return 1
    print(summary(sessions, revocations))
    counts = {"sessions": sessions.done, "revocations": revocations.done}
    log.info("keys rotated", extra={"audit": "key_rotation", **counts})
    return int(remaining(sessions + revocations))


async def repeated(reencrypt: Callable[[], Awaitable[ReencryptResult]]) -> ReencryptResult:
    """Repeat until a pass finds nothing to do, since processes go on writing; at most MAX_PASSES times.

    Conflicts of the last pass may have been written with an older key.
    """
    done = 0
    for _ in range(MAX_PASSES):
        look = await reencrypt()
        done += look.done
        if not look.done and not look.conflicts:
            return ReencryptResult(done, 0, look.undecryptable)
    return ReencryptResult(done, look.done + look.conflicts, look.undecryptable)


def remaining(total: ReencryptResult) -> bool:
    return bool(total.conflicts or total.undecryptable)


def summary(sessions: ReencryptResult, revocations: ReencryptResult) -> str:
    total = sessions + revocations
    counts = (
        f"Re-encrypted {counted(sessions.done, 'session')}, {counted(revocations.done, 'revocation')};"
        f" {total.undecryptable:,} could not be decrypted."
    )
    advice = [_STILL_WRITTEN] * bool(total.conflicts) + [_UNOPENED] * bool(total.undecryptable)
    return "\n".join([counts, *(advice or [_DONE])])
