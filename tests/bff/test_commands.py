"""The command line: `python -m app` and what may stand behind it, each in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Literal

from app.bff.cli import command_line
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Client, Provider
from tests.bff.harness import CLIENT_ID, CLIENT_SECRET
from tests.bff.subprocesses import APPLICATION, ROOT, app_settings, running_process


async def test_help_names_the_commands_and_needs_no_settings(tmp_path: Path):
    async with running_process(APPLICATION, tmp_path, "--help") as app:
        assert await app.exits() == 0

    assert "python -m app [-h] [--version] COMMAND" in app.stdout
    assert "doctor" in app.stdout


async def test_a_command_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path):
    async with running_process(APPLICATION, tmp_path, "dokter", **app_settings()) as app:
        assert await app.exits() == 2

    assert "invalid choice: 'dokter'" in app.stderr
    assert "'doctor'" in app.stderr


async def test_a_command_with_wrong_settings_names_them_all_as_a_start_does(tmp_path: Path):
    wrong = app_settings(BFF_ISSUER="http://idp.example.com", BFF_CLIENT_SECRETS="hunter2")
    async with running_process(APPLICATION, tmp_path, "doctor", **wrong) as app:
        assert await app.exits() == 2

    assert app.stderr.startswith("The settings are wrong:\n  BFF_CLIENT_SECRETS: there is no such setting")
    assert "  BFF_ISSUER: must be https" in app.stderr
    assert (app.stdout, "hunter2" in app.stderr) == ("", False)


async def test_a_key_file_without_a_key_is_a_wrong_setting(tmp_path: Path, provider: Provider):
    (tmp_path / "client.pem").write_text("no key")
    key = {"BFF_CLIENT_AUTH": "private_key_jwt", "BFF_CLIENT_KEY_FILE": tmp_path / "client.pem"}
    async with running_process(
        APPLICATION, tmp_path, "doctor", **app_settings(BFF_ISSUER=provider.issuer, **key)
    ) as app:
        assert await app.exits() == 2

    assert "BFF_CLIENT_KEY_FILE: no private key" in app.stderr
    assert "Traceback" not in app.stderr


async def test_the_doctor_ends_with_0_where_nothing_is_wrong(
    tmp_path: Path, provider: Provider, mongod: Mongod
):
    provider.clients[CLIENT_ID] = Client(CLIENT_ID, CLIENT_SECRET, ())
    right = app_settings(BFF_ISSUER=provider.issuer, BFF_SESSION_STORE=f"{mongod.uri}/test-commands")
    async with running_process(APPLICATION, tmp_path, "doctor", **right) as app:
        assert await app.exits() == 0

    assert "\n0 wrong, " in app.stdout
    assert "\x1b" not in app.stdout
    assert app.stderr == ""


async def test_where_everything_is_down_the_doctor_says_so_within_fifteen_seconds(tmp_path: Path):
    before = time.monotonic()
    async with running_process(APPLICATION, tmp_path, "doctor", **app_settings()) as app:
        assert await app.exits() == 1

    assert time.monotonic() - before < 15
    assert "\n2 wrong, " in app.stdout
    assert app.stderr == ""
    assert CLIENT_SECRET not in app.stdout


async def test_where_nothing_answers_the_doctor_is_done_within_fifteen_seconds(
    tmp_path: Path, provider: Provider
):
    provider.holds["token"], provider.holds["jwks"] = asyncio.Event(), asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and that is all
        settings = app_settings(
            BFF_ISSUER=provider.issuer,
            BFF_SESSION_STORE=f"mongodb://127.0.0.1:{silent.getsockname()[1]}/bff",
            BFF_PROVIDER_TIMEOUT_SECONDS=60,
        )
        before = time.monotonic()
        async with running_process(APPLICATION, tmp_path, "doctor", **settings) as app:
            assert await app.exits() == 1

    assert time.monotonic() - before < 15
    assert app.stdout.count("timed out while waiting for the response") == 2  # token endpoint and keys


class InterruptsOnArrival(asyncio.Event):
    """Holds a request, whose sender gets SIGINT as soon as it has arrived, before it can time out."""

    def __init__(self) -> None:
        super().__init__()
        self.pid = 0

    async def wait(self) -> Literal[True]:
        os.kill(self.pid, signal.SIGINT)
        return await super().wait()


async def test_ctrl_c_ends_a_command_at_once_and_in_silence(tmp_path: Path, provider: Provider):
    provider.holds["metadata"] = held = InterruptsOnArrival()
    settings = app_settings(BFF_ISSUER=provider.issuer)  # it waits for the provider and for the database
    async with running_process(APPLICATION, tmp_path, "doctor", **settings) as app:
        held.pid = app.process.pid

        assert await app.exits() == 130
    assert (app.stdout, app.stderr) == ("", "")


async def test_a_start_imports_no_command(tmp_path: Path):
    """What a command needs must not slow down the start of an application that never runs it."""
    script = f"import {APPLICATION}.__main__, sys; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()

    modules = said.decode().split()
    assert [name for name in modules if name.startswith(("app.bff.commands.", "app.bff.doctor."))] == []


def test_every_command_says_where_it_is():
    [commands] = [action for action in command_line()._actions if action.choices]

    for command in commands.choices.values():
        assert command.get_default("module").startswith("app.bff.")
