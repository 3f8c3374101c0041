"""`python -m app sessions` and `rotate-keys`: what an operator sees, ends, and seals anew."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from app.bff.cli import command_line, run
from app.bff.commands import rotate_keys, sessions
from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Failure, Provider
from app.bff.sessions.interfaces import ReencryptResult
from app.bff.sessions.session import Session
from tests.bff.application.settings import Settings
from tests.bff.harness import (
    CLIENT_ID,
    CLIENT_SECRET,
    KEY,
    Browser,
    Clock,
    RunningApp,
    make_settings,
    new_browser,
    running_app,
    sign_in,
)
from tests.bff.subprocesses import APPLICATION, app_settings, free_ports, running_process

OLD, LOST = os.urandom(32), os.urandom(32)
DATE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"


@pytest.fixture(params=["motor", "pymongo"])
def store(request: pytest.FixtureRequest, mongod: Mongod) -> dict[str, Any]:
    """The settings of a database of its own."""
    uri = f"{mongod.uri}/test-operator-{secrets.token_hex(4)}"
    return {"session_store": uri, "mongodb_driver": request.param}


@pytest.fixture
async def app(
    provider: Provider, api: DemoApi, clock: Clock, store: dict[str, Any]
) -> AsyncIterator[RunningApp]:
    async with running_app(provider, api, clock=clock, **store) as app:
        yield app


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


Operator = Callable[..., Awaitable[Said]]


@pytest.fixture
def operator(store: dict[str, Any], provider: Provider, capsys: pytest.CaptureFixture[str]) -> Operator:
    """Runs a command with the settings of the application, but for what a test changes."""

    async def operator(*arguments: str, **changed: Any) -> Said:
        args = command_line().parse_args(arguments)
        run = {"app.bff.commands.sessions": sessions.run, "app.bff.commands.rotate_keys": rotate_keys.run}
        code = await run[args.module](make_settings(**{"issuer": provider.issuer, **store, **changed}), args)
        return Said(code, *capsys.readouterr())

    return operator


# Listing


async def test_a_session_is_listed_in_one_line_that_opens_and_finds_nothing(
    app: RunningApp, browser: Browser, operator: Operator
):
    browser.http.headers["User-Agent"] = (
        "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
    )
    session = await sign_in(app, browser)
    said = await operator("sessions", "list")

    public_id, user, device, *times = said.out.rstrip("\n").split("\t")
    assert (said.code, public_id, user, device) == (0, session.public_id, "alice", "Firefox on Linux")
    assert re.fullmatch(rf"created {DATE} used {DATE} ends {DATE}", " ".join(times))
    for secret in (session.ref, session.sid, session.tokens.access_token, session.tokens.refresh_token):
        assert str(secret) not in said.out


@pytest.fixture
async def people(app: RunningApp) -> AsyncIterator[list[Browser]]:
    """Alice in two browsers, and bob."""
    async with AsyncExitStack() as stack:
        browsers = [await stack.enter_async_context(new_browser(app)) for _ in range(3)]
        for browser, user in zip(browsers, ("alice", "alice", "bob"), strict=True):
            await browser.login(user)
        yield browsers


async def session_of(browser: Browser) -> Session:
    session = await browser.app.session_of(browser)
    assert session
    return session


async def statuses(browsers: list[Browser]) -> list[int]:
    return [(await browser.fetch("/bff/user")).status_code for browser in browsers]


async def users_listed(operator: Operator, *whose: str) -> list[str]:
    said = await operator("sessions", "list", *whose)
    return sorted(line.split("\t")[1] for line in said.out.splitlines())


async def test_all_are_listed_or_a_users_or_those_of_a_session_at_the_provider(
    people: list[Browser], operator: Operator
):
    phone = await session_of(people[1])

    assert await users_listed(operator) == ["alice", "alice", "bob"]
    assert await users_listed(operator, "--all") == ["alice", "alice", "bob"]
    assert await users_listed(operator, "--user", "alice") == ["alice", "alice"]
    assert await users_listed(operator, f"--sid={phone.sid}") == ["alice"]


@pytest.mark.parametrize("whose", [["--all"], ["--user", "unknown"], ["--sid", "none"]])
@pytest.mark.parametrize("action", ["list", "end"])
async def test_where_there_is_none_it_says_so_and_that_is_no_error(
    operator: Operator, action: str, whose: list[str]
):
    assert await operator("sessions", action, *whose) == Said(0, "There is no such session.\n", "")


async def test_a_name_from_outside_does_not_steer_the_terminal(
    app: RunningApp, browser: Browser, operator: Operator
):
    session = await sign_in(app, browser)
    await app.services.sessions.create(replace(session, ref="other", subject="\x1b[2Jmal\tlory\n", device=""))
    said = await operator("sessions", "list")

    [line] = [line for line in said.out.splitlines() if "mal" in line]
    assert line.split("\t")[1:3] == ["?[2Jmal?lory?", "An unknown browser"]


# Ending


async def test_a_users_sessions_are_ended_and_their_refresh_tokens_revoked(
    people: list[Browser], provider: Provider, operator: Operator
):
    tokens = [(await session_of(browser)).tokens.refresh_token or "" for browser in people]
    said = await operator("sessions", "end", "--user", "alice")

    assert (said.code, said.out.splitlines()[0]) == (0, "Ended 2 sessions.")
    assert await statuses(people) == [401, 401, 200]
    assert [provider.is_active(token) for token in tokens] == [False, False, True]


async def test_those_of_one_session_at_the_provider_are_ended_and_no_others(
    people: list[Browser], operator: Operator
):
    sid = (await session_of(people[1])).sid
    await operator("sessions", "end", f"--sid={sid}")

    assert await statuses(people) == [200, 401, 200]


async def test_all_are_ended(people: list[Browser], operator: Operator):
    assert (await operator("sessions", "end", "--all")).out.startswith("Ended 3 sessions.\n")
    assert await statuses(people) == [401, 401, 401]


async def test_what_the_provider_does_not_revoke_now_a_running_process_revokes_later(
    people: list[Browser], provider: Provider, operator: Operator, clock: Clock
):
    token = (await session_of(people[2])).tokens.refresh_token or ""
    provider.fails["revoke"] = Failure(503)
    said = await operator("sessions", "end", "--user", "bob")
    assert (said.code, provider.is_active(token)) == (0, True)

    provider.fails.clear()
    clock.advance(60)
    await people[2].app.services.revocation.drain_due()

    assert not provider.is_active(token)


# Sealing anew


async def test_everything_is_sealed_with_the_first_key_and_the_old_one_can_go(
    people: list[Browser], provider: Provider, operator: Operator
):
    provider.fails["revoke"] = Failure(503)
    await people[2].logout()
    said = await operator("rotate-keys", encryption_keys=[OLD, KEY])

    assert said.code == 0
    assert said.out.startswith("Re-encrypted 2 sessions, 1 revocation; 0 could not be decrypted.\n")
    assert "The old keys can be removed from BFF_ENCRYPTION_KEYS" in said.out
    assert (await operator("sessions", "list")).out == "There is no such session.\n"
    listed = await operator("sessions", "list", "--user", "alice", encryption_keys=[OLD])
    assert len(listed.out.splitlines()) == 2


async def test_sealing_anew_twice_finds_nothing_the_second_time(people: list[Browser], operator: Operator):
    for count in (3, 0):
        said = await operator("rotate-keys", encryption_keys=[OLD, KEY])

        assert said.out.startswith(
            f"Re-encrypted {count} sessions, 0 revocations; 0 could not be decrypted.\n"
        )


async def test_what_no_key_opens_is_reported_and_no_key_is_to_be_removed(
    people: list[Browser], operator: Operator
):
    said = await operator("rotate-keys", encryption_keys=[LOST])

    assert (said.code, said.out.splitlines()[0]) == (
        1,
        "Re-encrypted 0 sessions, 0 revocations; 3 could not be decrypted.",
    )
    assert "can be removed" not in said.out
    assert await statuses(people) == [200, 200, 200]


async def looks(*results: ReencryptResult) -> tuple[ReencryptResult, int]:
    """What comes of these looks, the last of them again and again; and how often it has looked."""
    left = list(results)
    count = 0

    async def reencrypt() -> ReencryptResult:
        nonlocal count
        count += 1
        return left.pop(0) if len(left) > 1 else left[0]

    return await rotate_keys.repeated(reencrypt), count


async def test_it_looks_again_until_there_is_nothing_left_to_do():
    written = (
        ReencryptResult(done=5, conflicts=2),
        ReencryptResult(done=1),
        ReencryptResult(undecryptable=1),
    )

    assert await looks(*written) == (ReencryptResult(done=6, undecryptable=1), 3)


async def test_it_gives_up_while_a_process_still_writes_with_an_older_key():
    total, count = await looks(ReencryptResult(done=2))

    assert (total, count) == (ReencryptResult(done=20, conflicts=2), rotate_keys.MAX_PASSES)
    assert rotate_keys.remaining(total)
    assert "A process still encrypts with an older key." in rotate_keys.summary(total, ReencryptResult())
    assert "can be removed" not in rotate_keys.summary(total, ReencryptResult())


def test_what_it_has_done_is_counted_for_a_person_to_read():
    summary = rotate_keys.summary(ReencryptResult(done=1234), ReencryptResult(done=2))

    assert summary.startswith("Re-encrypted 1,234 sessions, 2 revocations; 0 could not be decrypted.\n")


# Where they cannot work


@pytest.mark.parametrize("command", [["sessions", "list"], ["sessions", "end", "--all"], ["rotate-keys"]])
async def test_in_memory_there_is_nothing_to_see_from_outside(operator: Operator, command: list[str]):
    said = await operator(*command, session_store="memory:")

    assert (said.code, said.out) == (2, "")
    assert "sessions are in the running process" in said.err


@pytest.mark.parametrize("command", [["sessions", "list"], ["rotate-keys"]])
async def test_a_database_that_is_down_is_reported(operator: Operator, command: list[str]):
    down = {"session_store": f"mongodb://127.0.0.1:{free_ports()}/bff", "mongodb_driver": "motor"}
    said = await operator(*command, **down)

    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("the session store did not answer")


# Each in a process of its own


def of_the_same(app: RunningApp, provider: Provider) -> dict[str, Any]:
    """The environment of another process of this application."""
    settings: Settings = app.services.settings
    return app_settings(
        BFF_ISSUER=provider.issuer,
        BFF_CLIENT_ID=CLIENT_ID,
        BFF_CLIENT_SECRET=CLIENT_SECRET,
        BFF_SESSION_STORE=settings.session_store,
        BFF_MONGODB_DRIVER=settings.mongodb_driver,
        BFF_ENCRYPTION_KEYS=",".join(base64.b64encode(key).decode() for key in (OLD, KEY)),
    )


async def test_the_commands_work_next_to_a_running_application(
    app: RunningApp, people: list[Browser], provider: Provider, tmp_path: Path
):
    said, logged = [], []
    for arguments in (["sessions", "list"], ["sessions", "end", "--user", "bob"], ["rotate-keys"]):
        async with running_process(
            APPLICATION, tmp_path, *arguments, **of_the_same(app, provider)
        ) as command:
            assert await command.exits() == 0
            said.append(command.stdout.splitlines())
            lines = [json.loads(line) for line in command.stderr.splitlines()]
            logged.append([(line["audit"], line["message"]) for line in lines])
            assert lines[-1]["command"] == " ".join(arguments[:2])
            assert (lines[-1]["exit_code"], bool(lines[-1]["operator"])) == (0, True)

    assert len(said[0]) == 3
    assert [lines[0] for lines in said[1:]] == [
        "Ended 1 session.",
        "Re-encrypted 2 sessions, 0 revocations; 0 could not be decrypted.",
    ]
    command = ("operator_command", "operator command")
    assert logged == [
        [command],
        [("sign_out", "session ended"), command],
        [("key_rotation", "keys rotated"), command],
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["sessions"],
        ["sessions", "end"],
        ["sessions", "list", "--all", "--user", "alice"],
        ["rotate-keys", "now"],
    ],
)
def test_what_is_not_understood_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exited:
        command_line().parse_args(arguments)

    assert exited.value.code == 2
    assert capsys.readouterr().err.startswith("usage: ")


def test_a_list_needs_no_word_on_whose():
    assert command_line().parse_args(["sessions", "list"]) == Namespace(
        version=False, module="app.bff.commands.sessions", action="list", user=None, sid=None, all=False
    )


def test_the_versions_are_those_of_a_bug_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.argv", ["python -m app", "--version"])
    code = run(Settings, [])

    assert code == 0
    assert re.fullmatch(
        r"\S+ \S+ \(engine \d+\.\d+\.\d+, Tornado \S+, Python \S+\)\n", capsys.readouterr().out
    )
