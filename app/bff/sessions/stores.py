"""Builds the stores that BFF_SESSION_STORE names. To replace MongoDB, begin here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from app.bff.crypto import Vault
from app.bff.sessions.interfaces import Outbox, ReplayCache, ReturnPaths, SessionEndSource, SessionStore
from app.bff.sessions.memory import (
    MemoryOutbox,
    MemoryReplayCache,
    MemoryReturnPaths,
    MemorySessions,
)
from app.bff.sessions.mongo.connection import connect
from app.bff.sessions.mongo.events import MongoSessionEndSource
from app.bff.sessions.mongo.outages import Outages
from app.bff.sessions.mongo.outbox import MongoOutbox
from app.bff.sessions.mongo.replay import MongoReplayCache
from app.bff.sessions.mongo.return_paths import MongoReturnPaths
from app.bff.sessions.mongo.sessions import MongoSessions
from app.bff.settings.models import BffSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stores:
    sessions: SessionStore
    ended: SessionEndSource
    outbox: Outbox
    replay_cache: ReplayCache
    return_paths: ReturnPaths


def open_stores(settings: BffSettings, vault: Vault, *, clock: Callable[[], float]) -> Stores:
    """Return the stores; raises SettingsError if the driver cannot parse BFF_SESSION_STORE."""
    if settings.session_store == "memory:":
        log.warning("sessions are stored in memory: they end with this process")
        sessions = MemorySessions(clock=clock)
        return Stores(
            sessions,
            sessions,
            MemoryOutbox(clock=clock),
            MemoryReplayCache(clock=clock),
            MemoryReturnPaths(clock=clock),
        )
    outages = Outages()
    client = connect(settings.session_store, driver=settings.mongodb_driver, outages=outages)
    return Stores(
        MongoSessions(client, vault, clock=clock, outages=outages),
        MongoSessionEndSource(client, clock=clock),
        MongoOutbox(client, vault, clock=clock),
        MongoReplayCache(client, clock=clock),
        MongoReturnPaths(client, vault, clock=clock),
    )
