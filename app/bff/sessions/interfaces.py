"""Every protocol that a store must have: sessions, their ends, outbox, replay cache, return paths."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from app.bff.sessions.session import LogoutHint, Reason, Session

STORE_SECONDS = 4  # the longest that any operation of a store is waited for; then StoreUnavailable
TOMBSTONE_SECONDS = 600
HEARTBEAT_SECONDS = 1
MAX_DATA_BYTES, MAX_DATA_FIELDS = 16_384, 1_000  # of the data of a session; names count
MAX_RETURN_PATHS = 10_000  # of at most 8 KB each
_ID_BYTES = 16


class SessionStore(Protocol):
    """Stores sessions by their `ref`.

    Every method may raise StoreUnavailable, within STORE_SECONDS; that says nothing about the session.
    An expired session is treated as absent, whether or not it has been purged yet.
    """

    async def open(self) -> None:
        """Create the indexes that the store needs. Idempotent."""

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """Return if the store answers."""

    async def create(self, session: Session) -> None:
        """Store a session under a new `ref`."""

    async def get(self, ref: str) -> Session | None:
        """Return the live session, or None."""

    async def lease(self, ref: str, *, owner: str, seconds: float) -> Session | None:
        """Acquire the right to refresh the session's tokens, and return the session's current state.

        One owner holds it at a time among all processes, until it saves, releases it, or `seconds` have
        passed: the lease of a process that dies expires and passes to another one. The time is that of
        the store, so the clocks of the processes do not matter. Its owner may acquire it again, since
        the answer may have been lost. Returns None while another owner holds it, or if the session is gone.

        The session's `lease_taken_over` is true if another owner's lease has expired and passed on. None
        does for some seconds after an outage that this process has seen: its owner may be about to save.
        """

    async def release(self, ref: str, *, owner: str) -> None:
        """Give up a lease early. No effect if `owner` does not hold it any more."""

    async def save(self, session: Session, *, lease: str | None = None) -> Session | None:
        """Replace tokens, claims and `changes` of the session and return it with its next `version`.

        Returns None, and writes nothing, if the session is gone or its `version` has moved on: a
        request still in flight neither brings a session back nor overwrites newer tokens (fencing).
        With `lease`, its owner's name, the owner must also still hold it; saving releases it.
        """

    async def clock_ahead_seconds(self) -> float:
        """Return by how many seconds at least the clock of this process is ahead of the store's.

        Negative if it is behind. 0 for a store that has no clock of its own.
        """

    async def touch(self, ref: str, *, renewed_at: float, expires_at: float) -> None:
        """Extend a live session; its `version` stays."""

    async def delete(
        self, ref: str, *, reason: Reason, version: int | None = None, lease: str | None = None
    ) -> Session | None:
        """Remove the session, for every process at once, and return it if it was live.

        A tombstone with `reason` takes its place: see SessionEndSource. With `version` or `lease`, its
        owner's name, nothing is removed, and None returned, if the session has another one.
        """

    async def data(self, ref: str, field: str) -> bytes | None:
        """Return the value of a field of the live session's data: `data.…` or `flash.…`; None if it has none.

        The messages below `flash` are also in `Session.flashes`.
        """

    async def set_data(self, ref: str, field: str, value: bytes) -> bool:
        """Store the value of one field; return False, and store nothing, if the session is gone.

        Raises TooLarge if the data would exceed MAX_DATA_BYTES or MAX_DATA_FIELDS. No other field changes,
        and neither does the session's `version`.
        """

    async def remove_data(self, ref: str, fields: Collection[str]) -> None:
        """Remove fields. No effect where they, or the session, are gone."""

    async def logout_hint(self, ref: str) -> LogoutHint | None:
        """Return what a session left that ended, or expired, less than TOMBSTONE_SECONDS ago, or None.

        None also for a live session. The caller must know `ref` from the browser that had the session.
        """

    async def of_user(self, issuer: str, subject: str) -> list[Session]:
        """Return the live sessions of one user, the oldest first."""

    async def of_sid(self, issuer: str, sid: str) -> list[Session]:
        """Return the live sessions that belong to one session of the provider, the oldest first."""

    def every(self) -> AsyncIterator[Session]:
        """Yield all live sessions, in no order."""

    async def reencrypt(self) -> ReencryptResult:
        """Encrypt with the first key of the ring what an older one has encrypted; one pass over the records.

        Other processes keep working meanwhile, and no write of theirs is lost.
        """


News: TypeAlias = Reason | int  # of a session: why it is over, or its `changes`


class SessionEndSource(Protocol):
    """Which sessions are over, and why; and of which the claims have changed.

    Both methods may raise StoreUnavailable, which says nothing about any session.
    """

    async def reasons(self, refs: Collection[str]) -> Mapping[str, News]:
        """Return why, for those of `refs` whose sessions are over; for a live one its `changes`, if not 0.

        The reason is known for TOMBSTONE_SECONDS after a session was deleted; one without a
        tombstone has expired.
        """

    def watch(self) -> AsyncGenerator[Mapping[str, News]]:
        """Yield what is ended or changed from now on, in any process.

        Yields an empty mapping at first, and whenever there was no news for HEARTBEAT_SECONDS. A
        store without a change stream returns at once.
        """


@dataclass(frozen=True)
class Pending:
    """A refresh token that is still to be revoked (RFC 7009).

    `id` is random and safe to log. `issuer` is the provider that issued the token, `client_id` the client
    that it was issued to (None: unknown); it must never be sent to another provider, nor by another
    client. After `expires_at`, seconds since the epoch, it is dropped. `tries` counts how often it was
    claimed.

    `ref` is the session that must not hold the token any more when it is revoked: with a `reason` the
    session ends, without one it only loses the token. None: there is no such session.
    """

    id: str
    issuer: str
    refresh_token: str = field(repr=False)
    expires_at: float
    tries: int = 0
    client_id: str | None = None
    ref: str | None = None
    reason: Reason | None = None


def new_pending(
    issuer: str,
    refresh_token: str,
    *,
    expires_at: float,
    client_id: str | None = None,
    ref: str | None = None,
    reason: Reason | None = None,
) -> Pending:
    return Pending(
        secrets.token_hex(_ID_BYTES),
        issuer,
        refresh_token,
        expires_at,
        client_id=client_id,
        ref=ref,
        reason=reason,
    )


class Outbox(Protocol):
    """Stores refresh tokens until they are revoked, or expired.

    Every method may raise StoreUnavailable: then the operation may have happened or not, and can be
    repeated, since a token may be revoked twice. An expired entry is treated as absent, whether or not
    it has been purged yet.
    """

    async def open(self) -> None:
        """Create the indexes that the outbox needs. Idempotent."""

    async def put(self, entries: Sequence[Pending], *, due_at: float) -> None:
        """Store entries, to be claimed from `due_at` on. Once this returns, no crash loses any."""

    async def claim(self, *, until: float, pending_id: str | None = None) -> Pending | None:
        """Claim the entry that has been due for longest, or return None if nothing is due.

        With `pending_id` that entry, due or not; None if it is gone.

        No other process gets it before `until`, a time ahead (seconds since the epoch). It is due
        again then, unless it was removed or postponed: the claim of a process that dies passes on.
        Times are those of the processes, unlike a lease's: a skewed clock may let two processes claim
        one entry, and the token is then revoked twice, which is harmless; a clock that is ahead shortens the
        wait after a logout.
        """

    async def postpone(self, pending_id: str, *, due_at: float) -> None:
        """End a claim; the entry is due again at `due_at`. No effect if it is gone."""

    async def remove(self, pending_id: str) -> None:
        """Remove the entry, for every process at once. No effect if it is gone."""

    async def count(self) -> int:
        """Return how many there are, roughly: those that have just expired may be among them."""

    async def reencrypt(self) -> ReencryptResult:
        """As SessionStore.reencrypt."""


class ReplayCache(Protocol):
    """Remembers the keys of used logout tokens and login attempts: each counts once among all processes.

    Every method may raise StoreUnavailable: then the key may have been added or not.
    """

    async def open(self) -> None:
        """Create the index that the cache needs. Idempotent."""

    async def has(self, key: str) -> bool:
        """Whether the key was added, by any process, and has not expired."""

    async def add(self, key: str, *, until: float) -> bool:
        """Add the key; it expires at `until`, seconds since the epoch. Return whether it was not there.

        Of several processes that add it at the same moment one gets True.
        """


class ReturnPaths(Protocol):
    """Stores return paths that are too long for a cookie, while the browser is at the provider.

    Every link can start a login, so there are at most MAX_RETURN_PATHS, of all visitors. Every method may
    raise StoreUnavailable: then the path may have been stored or not.
    """

    async def open(self) -> None:
        """Create the index that the store needs. Idempotent."""

    async def put(self, key: str, path: str, *, until: float) -> bool:
        """Store a path; it expires at `until`, seconds since the epoch. Return whether there was room."""

    async def get(self, key: str) -> str | None:
        """Return the path, or None if there is none or it has expired."""


@dataclass(frozen=True)
class ReencryptResult:
    """Of the records that an older key has encrypted: how many are re-encrypted, and how many are not.

    `conflicts` were written or removed by another process at the same moment; the next pass decides.
    `undecryptable` ones were encrypted with a key that is not in the ring; they are left as they are.
    """

    done: int = 0
    conflicts: int = 0
    undecryptable: int = 0

    def __add__(self, other: ReencryptResult) -> ReencryptResult:
        return ReencryptResult(
            self.done + other.done,
            self.conflicts + other.conflicts,
            self.undecryptable + other.undecryptable,
        )
