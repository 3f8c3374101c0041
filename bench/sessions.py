"""Sessions without anybody signing in: sealed, and stored as the application itself stores them."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

from bson.binary import Binary
from pymongo import AsyncMongoClient, MongoClient

from app.bff.crypto import Vault
from app.bff.sessions.mongo.sessions import MongoSessions
from app.bff.sessions.session import Session, TokenSet, session_ref

_TOKEN_LENGTH = 800  # of many a JWT
_BATCH = 10_000


@dataclass(frozen=True)
class Draw:
    """Which sessions a load takes: `count` of them from number `first`, in turns or at random."""

    count: int
    first: int = 1
    step: int = 1
    at_random: bool = False


def session_id(number: int) -> str:
    """What stands in the cookie: as long as a real one, and wrk can make it up."""
    return f"{number:043d}"


def a_session(number: int, *, now: float) -> Session:
    ends = now + 12 * 3600
    return Session(
        ref=session_ref(session_id(number)),
        issuer="http://127.0.0.1:9",
        subject="alice",
        sid="s1",
        claims={
            "sub": "alice",
            "name": "Alice Adams",
            "email": "alice@example.com",
            "groups": ["users", "staff"],
        },
        tokens=TokenSet(
            access_token="a" * _TOKEN_LENGTH,
            received_at=now,
            expires_at=ends,
            refresh_token="r" * 43,
            id_token="i" * _TOKEN_LENGTH,
            scope="openid profile email offline_access",
        ),
        created_at=now,
        renewed_at=now,
        expires_at=ends,
    )


async def seed(uri: str, key: str, count: int) -> None:
    """Put sessions 1 to `count` into the database of `uri`; the first one shows what a record is."""
    vault = Vault([base64.b64decode(key)])
    client: AsyncMongoClient[Any] = AsyncMongoClient(uri, tz_aware=True)
    store = MongoSessions(client, vault)
    await store.open()
    await store.create(a_session(1, now=time.time()))
    await client.close()
    _multiply(uri, vault, range(2, count + 1))


def _multiply(uri: str, vault: Vault, numbers: Iterable[int]) -> None:
    with MongoClient[Any](uri, tz_aware=True) as client:
        sessions = client.get_default_database()["sessions"]
        record = sessions.find_one()
        assert record
        copies = _copies(record, vault, numbers)
        while batch := list(islice(copies, _BATCH)):
            sessions.insert_many(batch, ordered=False)
        client.admin.command("fsync")  # now, and not while something is measured


def _copies(record: dict[str, Any], vault: Vault, numbers: Iterable[int]) -> Iterator[dict[str, Any]]:
    """The record again and again, as other people's.

    A session is written when it is used for the first time in a minute. Those with an even number are
    due for that, those with an odd one are not for a day.
    """
    content = vault.open(record["sealed"], place=f"session {record['_id']}")
    due, not_due = record["renewed_at"] - timedelta(hours=1), record["renewed_at"] + timedelta(days=1)
    for number in numbers:
        ref = session_ref(session_id(number))
        sealed = vault.seal(content.replace(record["_id"].encode(), ref.encode()), place=f"session {ref}")
        yield {
            **record,
            "_id": ref,
            "sealed": Binary(sealed),
            **{name: secrets.token_hex(32) for name in ("user", "sid")},
            "renewed_at": not_due if number % 2 else due,
        }
