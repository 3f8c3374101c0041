"""A replica set of three real mongods, whose primary can be taken away."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from app.bff.dev.mongod import Mongod

NAME = "bff"
_PATIENCE_SECONDS = 60


class ReplicaSet:
    """Three members on 127.0.0.1. When the primary is silent for `election_seconds`, the others elect one."""

    def __init__(self, binary: Path, folder: Path, *, election_seconds: float) -> None:
        self._folders = [folder / str(number) for number in range(3)]
        self.members = [Mongod(binary, folder, replica_set=NAME) for folder in self._folders]
        self._election_seconds = election_seconds
        self._running = ExitStack()

    @property
    def uri(self) -> str:
        return f"mongodb://{','.join(map(_address, self.members))}/?replicaSet={NAME}"

    def __enter__(self) -> Self:
        with ExitStack() as running:
            for folder, member in zip(self._folders, self.members, strict=True):
                folder.mkdir()
                running.enter_context(member)
            _tell(self.members[0], "replSetInitiate", self._config())
            self.primary()
            self._running = running.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def primary(self) -> Mongod:
        """Wait until there is one, and return it."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for member in filter(_is_primary, self.members):
                return member
            time.sleep(0.02)
        raise TimeoutError("no primary was elected")

    def step_down(self) -> None:
        """The primary hands over in good order."""
        _tell(self.primary(), "replSetStepDown", 10, secondaryCatchUpPeriodSecs=9)

    def kill_primary(self) -> Mongod:
        """Take the primary away without a word; returned for it to be started again."""
        primary = self.primary()
        primary.kill()
        return primary

    def _config(self) -> dict[str, Any]:
        milliseconds = round(self._election_seconds * 1000)
        settings = {"electionTimeoutMillis": milliseconds, "heartbeatIntervalMillis": milliseconds // 10}
        hosts = [{"_id": number, "host": _address(member)} for number, member in enumerate(self.members)]
        return {"_id": NAME, "members": hosts, "settings": settings}


def _address(member: Mongod) -> str:
    return member.uri.removeprefix("mongodb://")


def _tell(member: Mongod, command: str, value: object = 1, **options: object) -> dict[str, Any]:
    """Have this one member run an admin command, whatever its part in the set is."""
    here = MongoClient[dict[str, Any]](member.uri, directConnection=True, serverSelectionTimeoutMS=1000)
    with here as client:
        return client.admin.command(command, value, **options)


def _is_primary(member: Mongod) -> bool:
    try:
        return bool(_tell(member, "hello")["isWritablePrimary"])
    except PyMongoError:
        return False  # it does not run
