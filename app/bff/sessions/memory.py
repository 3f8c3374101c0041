"""All stores in the memory of this process: for development; lost at every restart."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace

from app.bff.errors import TooLarge
from app.bff.sessions.data import FLASH
from app.bff.sessions.interfaces import (
    HEARTBEAT_SECONDS,
    MAX_DATA_BYTES,
    MAX_DATA_FIELDS,
    MAX_RETURN_PATHS,
    TOMBSTONE_SECONDS,
    News,
    Pending,
    ReencryptResult,
)
from app.bff.sessions.session import LogoutHint, Reason, Session


class MemorySessions:
    """A SessionStore in a dictionary, and its SessionEndSource."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._leases: dict[str, tuple[str, float]] = {}  # owner, and when it expires
        # Tombstones: reason, when it is purged, and the hint.
        self._ended: dict[str, tuple[Reason, float, LogoutHint | None]] = {}
        self._data: dict[str, dict[str, bytes]] = {}  # of each session, by field
        self._watchers: set[asyncio.Queue[Mapping[str, News]]] = set()

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        self._sessions.clear()

    async def ping(self) -> None:
        pass

    async def create(self, session: Session) -> None:
        self._purge()
        self._sessions[session.ref] = session

    async def get(self, ref: str) -> Session | None:
        session = self._sessions.get(ref)
        if session is None or self._clock() >= session.expires_at:
            return None
        return replace(session, flashes=self._flashes(ref)) if ref in self._data else session

    def _flashes(self, ref: str) -> tuple[tuple[str, str], ...]:
        fields = sorted(self._data[ref].items())
        return tuple(
            (field.partition(".")[2], json.loads(value))
            for field, value in fields
            if field.startswith(f"{FLASH}.")
        )

    async def data(self, ref: str, field: str) -> bytes | None:
        return self._data.get(ref, {}).get(field) if await self.get(ref) else None

    async def set_data(self, ref: str, field: str, value: bytes) -> bool:
        if await self.get(ref) is None:
            return False
        data = {**self._data.get(ref, {}), field: value}
        size = sum(len(name.partition(".")[2].encode()) + len(each) for name, each in data.items())
        if size > MAX_DATA_BYTES or len(data) > MAX_DATA_FIELDS:
            raise TooLarge(f"the data of a session have at most {MAX_DATA_BYTES:,} bytes")
        self._data[ref] = data
        return True

    async def remove_data(self, ref: str, fields: Collection[str]) -> None:
        for field in fields:
            self._data.get(ref, {}).pop(field, None)

    async def lease(self, ref: str, *, owner: str, seconds: float) -> Session | None:
        session = await self.get(ref)
        now = self._clock()
        holder, expires_at = self._leases.get(ref, (owner, 0))
        if session is None or (holder != owner and now < expires_at):
            return None
        self._leases[ref] = owner, now + seconds
        return replace(session, lease_taken_over=holder != owner)

    async def release(self, ref: str, *, owner: str) -> None:
        if self._holds(ref, owner):
            del self._leases[ref]

    async def save(self, session: Session, *, lease: str | None = None) -> Session | None:
        current = await self.get(session.ref)
        if current is None or current.version != session.version:
            return None
        if lease is not None and not self._holds(session.ref, lease):
            return None
        saved = replace(
            session,
            version=session.version + 1,
            renewed_at=current.renewed_at,
            expires_at=current.expires_at,
            lease_taken_over=False,
        )
        self._sessions[session.ref] = saved
        if lease is not None:
            del self._leases[session.ref]
        if saved.changes != current.changes:
            self._tell({session.ref: saved.changes})
        return saved

    def _holds(self, ref: str, owner: str) -> bool:
        return self._leases.get(ref, ("", 0))[0] == owner

    async def touch(self, ref: str, *, renewed_at: float, expires_at: float) -> None:
        session = await self.get(ref)
        if session:
            self._sessions[ref] = replace(session, renewed_at=renewed_at, expires_at=expires_at)

    async def clock_ahead_seconds(self) -> float:
        return 0

    async def delete(
        self, ref: str, *, reason: Reason, version: int | None = None, lease: str | None = None
    ) -> Session | None:
        session = await self.get(ref)
        if session is not None and version not in (None, session.version):
            return None
        if lease is not None and not self._holds(ref, lease):
            return None
        if session is not None:
            self._remove(ref)
            self._ended[ref] = reason, self._clock() + TOMBSTONE_SECONDS, session.logout_hint
            self._tell({ref: reason})
        return session

    def _tell(self, news: Mapping[str, News]) -> None:
        for watcher in self._watchers:
            watcher.put_nowait(news)

    async def reasons(self, refs: Collection[str]) -> Mapping[str, News]:
        found = {ref: await self.get(ref) for ref in refs}
        news = {
            ref: session.changes if session else self._ended.get(ref, (Reason.EXPIRED,))[0]
            for ref, session in found.items()
        }
        return {ref: each for ref, each in news.items() if each}

    async def logout_hint(self, ref: str) -> LogoutHint | None:
        now = self._clock()
        if ref in self._ended:
            _, until, hint = self._ended[ref]
            return hint if now < until else None
        expired = self._sessions.get(ref)
        if expired and expired.expires_at <= now < expired.expires_at + TOMBSTONE_SECONDS:
            return expired.logout_hint
        return None

    async def watch(self) -> AsyncGenerator[Mapping[str, News]]:
        ended = asyncio.Queue[Mapping[str, News]]()
        self._watchers.add(ended)
        try:
            yield {}
            while True:
                yield await _next(ended)
        finally:
            self._watchers.remove(ended)

    async def of_user(self, issuer: str, subject: str) -> list[Session]:
        return [
            session
            async for session in self.every()
            if (session.issuer, session.subject) == (issuer, subject)
        ]

    async def of_sid(self, issuer: str, sid: str) -> list[Session]:
        provider_session = issuer, sid
        return [
            session async for session in self.every() if (session.issuer, session.sid) == provider_session
        ]

    async def every(self) -> AsyncIterator[Session]:
        for session in sorted(self._sessions.values(), key=lambda session: session.created_at):
            if self._clock() < session.expires_at:
                yield session

    async def reencrypt(self) -> ReencryptResult:
        return ReencryptResult()  # nothing is encrypted in memory

    def _remove(self, ref: str) -> None:
        self._sessions.pop(ref, None)
        self._data.pop(ref, None)
        self._leases.pop(ref, None)

    def _purge(self) -> None:
        now = self._clock()
        for ref, session in list(self._sessions.items()):
            if session.expires_at + TOMBSTONE_SECONDS <= now:
                self._remove(ref)
        self._ended = {ref: known for ref, known in self._ended.items() if now < known[1]}


async def _next(ended: asyncio.Queue[Mapping[str, News]]) -> Mapping[str, News]:
    try:
        async with asyncio.timeout(HEARTBEAT_SECONDS):
            return await ended.get()
    except TimeoutError:
        return {}


class MemoryOutbox:
    """An Outbox in a dictionary."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._waiting: dict[str, tuple[float, Pending]] = {}  # when it is due, and the entry

    async def open(self) -> None:
        pass

    async def put(self, entries: Sequence[Pending], *, due_at: float) -> None:
        self._purge()
        self._waiting |= {pending.id: (due_at, pending) for pending in entries}

    async def claim(self, *, until: float, pending_id: str | None = None) -> Pending | None:
        self._purge()
        now = self._clock()
        entries = [
            entry
            for id_, entry in self._waiting.items()
            if (entry[0] <= now if pending_id is None else id_ == pending_id)
        ]
        if not entries:
            return None
        _, pending = min(entries, key=lambda entry: entry[0])
        claimed = replace(pending, tries=pending.tries + 1)
        self._waiting[claimed.id] = until, claimed
        return claimed

    async def postpone(self, pending_id: str, *, due_at: float) -> None:
        if pending_id in self._waiting:
            _, pending = self._waiting[pending_id]
            self._waiting[pending_id] = due_at, pending

    async def remove(self, pending_id: str) -> None:
        self._waiting.pop(pending_id, None)

    async def count(self) -> int:
        return len(self._waiting)

    async def reencrypt(self) -> ReencryptResult:
        return ReencryptResult()

    def _purge(self) -> None:
        now = self._clock()
        self._waiting = {id_: entry for id_, entry in self._waiting.items() if now < entry[1].expires_at}


class MemoryReplayCache:
    """A ReplayCache in a dictionary."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._used: dict[str, float] = {}  # when the key expires

    async def open(self) -> None:
        pass

    async def has(self, key: str) -> bool:
        return self._clock() < self._used.get(key, 0)

    async def add(self, key: str, *, until: float) -> bool:
        now = self._clock()
        is_new = self._used.get(key, 0) <= now
        self._used = {used: end for used, end in self._used.items() if now < end} | {key: until}
        return is_new


class MemoryReturnPaths:
    """A ReturnPaths in a dictionary."""

    def __init__(self, *, clock: Callable[[], float] = time.time, limit: int = MAX_RETURN_PATHS) -> None:
        self._limit = limit
        self._clock = clock
        self._paths: dict[str, tuple[str, float]] = {}  # the path, and when it expires

    async def open(self) -> None:
        pass

    async def put(self, key: str, path: str, *, until: float) -> bool:
        now = self._clock()
        self._paths = {key: saved for key, saved in self._paths.items() if now < saved[1]}
        if len(self._paths) >= self._limit:
            return False
        self._paths[key] = path, until
        return True

    async def get(self, key: str) -> str | None:
        path, until = self._paths.get(key, (None, 0))
        return path if self._clock() < until else None
