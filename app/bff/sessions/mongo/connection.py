"""What all our collections in MongoDB have in common: the client, how they write, how they fail."""

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

T = TypeVar("T")

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 4  # for one operation; a dead database must answer 503, not hang
_WRITES = WriteConcern(w="majority", j=True, wtimeout=TIMEOUT_SECONDS * 1000)


def connect(uri: str, *, driver: str) -> Any:
    """Return the client of the chosen driver. Call it inside the running loop, after any fork.

    Raises SettingsError for a URI that makes no sense to it. The two differ in nothing that we use,
    but for `close`: see `disconnect`.
    """
    options: dict[str, Any] = {"tz_aware": True, "timeoutMS": TIMEOUT_SECONDS * 1000}
    try:
        return _client(uri, driver, options)
    except (InvalidURI, ValueError):  # not quoted: it may show a piece of the password
        mistake = "BFF_SESSION_STORE: the driver does not understand it; is the password percent-encoded?"
        raise SettingsError(mistake) from None


def _client(uri: str, driver: str, options: dict[str, Any]) -> Any:
    if driver == "pymongo":
        from pymongo import AsyncMongoClient

        return AsyncMongoClient(uri, **options)
    from motor.motor_asyncio import AsyncIOMotorClient

    return AsyncIOMotorClient(uri, io_loop=asyncio.get_running_loop(), **options)


async def disconnect(client: Any) -> None:
    closing = client.close()
    if inspect.isawaitable(closing):  # PyMongo's is a coroutine, Motor's is not
        await closing


def collection(client: Any, name: str) -> Any:
    """Return a collection whose writes survive a crash and a change of primary."""
    return client.get_default_database("bff").get_collection(
        name,
        write_concern=_WRITES,
        read_preference=ReadPreference.PRIMARY,  # a secondary may still have a session that was ended
    )


def date(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@asynccontextmanager
async def translate_driver_errors() -> AsyncIterator[None]:
    """Turn whatever the driver raises into StoreUnavailable.

    The driver's own time-out comes first; but it does not count the wait for one of Motor's few
    threads, all of which are taken while a dead database is being waited for.
    """
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS + 1):
            yield
    except (PyMongoError, TimeoutError) as error:
        log.warning("session store did not answer", extra={"error": type(error).__name__})
        raise StoreUnavailable("the session store did not answer") from error


async def uncancelled(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of an operation that is never cancelled on its way; whoever awaits it may be.

    With Python 3.11 PyMongo may not notice that it was cancelled (github.com/python/cpython/issues/86296),
    and a cursor that is being opened or asked stays open in the database for ten minutes.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise
