"""MongoDB's client, as this application uses it, with each operation told to telemetry.

Not by listeners of the driver: these run in its threads, and without the wait for one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.bff.telemetry.observer import Operations

_COMMANDS = {  # the database's own names, which `db.operation.name` has
    "find_one": "find",
    "insert_one": "insert",
    "insert_many": "insert",
    "update_one": "update",
    "update_many": "update",
    "delete_one": "delete",
    "find_one_and_update": "findAndModify",
    "find_one_and_replace": "findAndModify",
    "bulk_write": "bulkWrite",
    "create_index": "createIndexes",
    "drop_index": "dropIndexes",
    "estimated_document_count": "count",
}


class ObservedClient:
    """The client, whose collections are observed."""

    def __init__(self, client: Any, operations: Operations) -> None:
        self._client = client
        self._operations = operations

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_default_database(self, name: str) -> _Database:
        return _Database(self._client.get_default_database(name), self._operations)


class _Database:
    def __init__(self, database: Any, operations: Operations) -> None:
        self._database = database
        self._operations = operations

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def get_collection(self, name: str, **options: Any) -> _Collection:
        return _Collection(self._database.get_collection(name, **options), name, self._operations)


class _Collection:
    def __init__(self, collection: Any, name: str, operations: Operations) -> None:
        self._collection = collection
        self._name = name
        self._operations = operations

    def __getattr__(self, name: str) -> Any:
        """Called once for each name: what it returns is an attribute from then on."""
        found = getattr(self._collection, name)
        if name in _COMMANDS:
            found = self._observed(found, _COMMANDS[name])
        setattr(self, name, found)
        return found

    def find(self, *args: Any, **options: Any) -> _Cursor:
        return _Cursor(self._collection.find(*args, **options), self._observed)

    def _observed(self, method: Callable[..., Any], command: str) -> Callable[..., Any]:
        begin, name = self._operations.begin, self._name

        async def observed(*args: Any, **options: Any) -> Any:
            with begin(command, name):
                return await method(*args, **options)

        return observed


class _Cursor:
    """The result of a query: it is sent when it is read."""

    def __init__(self, cursor: Any, observed: Callable[..., Any]) -> None:
        self._cursor = cursor
        self._observed = observed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __aiter__(self) -> _Cursor:
        return self

    async def __anext__(self) -> Any:
        return await self._cursor.__anext__()

    def sort(self, *keys: Any) -> _Cursor:
        return _Cursor(self._cursor.sort(*keys), self._observed)

    async def to_list(self, length: int | None) -> Any:
        return await self._observed(self._cursor.to_list, "find")(length)
