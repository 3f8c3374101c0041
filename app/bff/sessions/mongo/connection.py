"""Connection to MongoDB: the client, write and read concerns, time-outs, and errors as StoreUnavailable."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from pymongo import ReadPreference, WriteConcern
from pymongo.errors import InvalidURI, PyMongoError

from app.bff.errors import SettingsError, StoreUnavailable
from app.bff.sessions.interfaces import STORE_SECONDS
from app.bff.sessions.mongo.causes import cause_of_driver_error, is_outage
from app.bff.sessions.mongo.observed import ObservedClient
from app.bff.sessions.mongo.outages import Outages
from app.bff.telemetry import observer

T = TypeVar("T")

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = STORE_SECONDS  # for one operation; a dead database must answer 503, not hang
_DRIVER_MILLISECONDS = 3500  # the driver ends an operation more cleanly than a cancellation
_WRITES = WriteConcern(w="majority", j=True, wtimeout=_DRIVER_MILLISECONDS)

# The driver refuses every operation, unsent, while the least round trip that it has measured is longer
# than the operation may take. What it measures when a frozen server goes on is the time since it connected:
# with the default time-out up to 20 s, until the next measurement, 10 s later.
_CONNECT_MILLISECONDS = 2000
_HEARTBEAT_MILLISECONDS = 2000
_OPTIONS: dict[str, Any] = {
    "tz_aware": True,
    "timeoutMS": _DRIVER_MILLISECONDS,
    "connectTimeoutMS": _CONNECT_MILLISECONDS,
    "heartbeatFrequencyMS": _HEARTBEAT_MILLISECONDS,
}


def connect(uri: str, *, driver: str, outages: Outages | None = None) -> Any:
    """Return the client of the chosen driver. Call it inside the running loop, after any fork.

    Raises SettingsError for an invalid URI, and for options that the driver refuses. Both drivers have the
    same interface here, except for `close`: see `disconnect`. `outages` hears when the client loses the
    primary.
    """
    options = {**_OPTIONS, "event_listeners": [outages] if outages else []}
    try:
        client = _client(uri, driver, options)
    # None is quoted: it may contain part of the password.
    except (InvalidURI, ValueError):
        message = "BFF_SESSION_STORE: the driver cannot parse it; is the password percent-encoded?"
        raise SettingsError(message) from None
    except (PyMongoError, OSError) as error:
        message = "BFF_SESSION_STORE: the driver refuses its options, or cannot read a file that they name"
        raise SettingsError(f"{message} ({type(error).__name__})") from None
    operations = observer.current.operations
    return ObservedClient(client, operations) if operations else client


def _client(uri: str, driver: str, options: dict[str, Any]) -> Any:
    if driver == "pymongo":
        import pymongo.lock
        from pymongo import AsyncMongoClient

        pymongo.lock.wait_for = _in_this_task  # type: ignore[assignment,attr-defined]
        return AsyncMongoClient(uri, **options)
    from motor.motor_asyncio import AsyncIOMotorClient

    return AsyncIOMotorClient(uri, io_loop=asyncio.get_running_loop(), **options)


async def _in_this_task(work: Coroutine[Any, Any, T], timeout: float | None) -> T:  # noqa: ASYNC109
    """Replace `asyncio.wait_for` where PyMongo's operations wait for a server.

    Up to Python 3.11 that function runs `work` in a task of its own, and leaves it behind when its caller is
    cancelled twice, as by two time-outs at the same moment (github.com/python/cpython/issues/86296). Here
    such a task acquires the lock of all operations, and nothing releases it: the store stays out of reach
    until the process ends.
    """
    async with asyncio.timeout(timeout):
        return await work


async def disconnect(client: Any) -> None:
    closing = client.close()
    if inspect.isawaitable(closing):  # PyMongo's is a coroutine, Motor's is not
        await closing


def collection(client: Any, name: str) -> Any:
    """Return a collection whose writes survive a crash and a change of primary."""
    return client.get_default_database("bff").get_collection(
        name,
        write_concern=_WRITES,
        read_preference=ReadPreference.PRIMARY,  # a secondary may lag, and still have a deleted session
    )


def date(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@asynccontextmanager
async def translate_driver_errors(outages: Outages | None = None) -> AsyncIterator[None]:
    """Raise StoreUnavailable for any error of the driver, and after TIMEOUT_SECONDS; `outages` notes it.

    What the database refuses is no outage: it will refuse it again, and the log says what it is.

    The driver's own time-out does not include the wait for one of Motor's few threads, all of which are
    busy while the database does not answer.
    """
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            yield
    except (PyMongoError, TimeoutError) as error:
        fields = {"error": type(error).__name__, "reason": cause_of_driver_error(error)}
        if not is_outage(error):
            log.error("session store refused an operation", extra=fields)
            if outages:
                outages.answered()
            raise StoreUnavailable("the session store refused the operation") from error
        log.warning("session store did not answer", extra=fields)
        if outages:
            outages.failed()
        raise StoreUnavailable("the session store did not answer") from error
    if outages:
        outages.answered()


async def uncancelled(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of an operation that runs to its end even if its caller is cancelled.

    With Python 3.11 PyMongo may miss a cancellation (github.com/python/cpython/issues/86296), and a
    cursor that is being opened or read stays open in the database for ten minutes.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise
