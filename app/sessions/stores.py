"""All that is kept outside of requests, in one place or in another: the settings choose it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from app.sessions.endings import EndedSessions
from app.sessions.memory import MemoryOutbox, MemorySeenTokens, MemorySessions
from app.sessions.mongo import MongoSessions
from app.sessions.mongo_connection import connect
from app.sessions.mongo_endings import MongoEndings
from app.sessions.mongo_outbox import MongoOutbox
from app.sessions.mongo_seen import MongoSeenTokens
from app.sessions.outbox import Outbox
from app.sessions.seen import SeenTokens
from app.sessions.store import SessionStore
from app.settings import Settings
from app.vault import Vault

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stores:
    sessions: SessionStore
    ended: EndedSessions
    outbox: Outbox
    seen_tokens: SeenTokens


def stores(settings: Settings, vault: Vault, *, clock: Callable[[], float]) -> Stores:
    """Raises SettingsError if the driver does not understand BFF_SESSION_STORE."""
    if settings.session_store == "memory:":
        log.warning("sessions are kept in memory: they end when this process does")
        sessions = MemorySessions(clock=clock)
        return Stores(sessions, sessions, MemoryOutbox(clock=clock), MemorySeenTokens(clock=clock))
    client = connect(settings.session_store, driver=settings.mongodb_driver)
    return Stores(
        MongoSessions(client, vault, clock=clock),
        MongoEndings(client, clock=clock),
        MongoOutbox(client, vault, clock=clock),
        MongoSeenTokens(client, clock=clock),
    )
