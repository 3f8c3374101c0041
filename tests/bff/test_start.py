"""Starting and stopping: `python -m app` and `python -m app.bff.dev`, each in a process of its own."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod, find_mongod
from app.bff.dev.provider import Client, Provider
from tests.bff.harness import CLIENT_ID, CLIENT_SECRET
from tests.bff.subprocesses import (
    APPLICATION,
    ROOT,
    app_settings,
    is_listening,
    running_process,
    wait_until,
)
from tests.bff.websocket_clients import close_code_and_reason, open_websocket


def port_in(url: str) -> int:
    return int(url.removesuffix("/bff").rpartition(":")[2])


async def test_it_answers_before_provider_and_database_are_up_and_is_ready_once_they_are(tmp_path: Path):
    settings = app_settings()
    async with running_process(APPLICATION, tmp_path, **settings) as app:
        await app.answers("/healthz")
        unready = (await app.answers("/readyz", status=503)).json()
        assert "ok" not in (unready["provider"], unready["session_store"])

        provider = Provider([])
        await provider.start(port_in(settings["BFF_ISSUER"]))
        half = (await app.answers("/readyz", status=503, text='"provider": "ok"')).json()
        assert half["session_store"] != "ok"

        with Mongod(find_mongod(), tmp_path, port=port_in(settings["BFF_SESSION_STORE"])):
            assert (await app.answers("/readyz")).json()["session_store"] == "ok"
            assert await app.stops() == 0
        await provider.stop()


async def test_wrong_settings_are_all_named_and_no_secret_is_shown(tmp_path: Path):
    wrong = app_settings(
        BFF_ISSUER="http://idp.example.com",
        BFF_ENCRYPTION_KEYS="c2VjcmV0LWtleQ==",
        BFF_SESSION_STORE="postgres://admin:hunter2@db/bff",
        BFF_REMOTE_APIS='[{"path": "/api", "client": "billing"}]',
        BFF_CLIENT_SECRETS="a-secret-in-the-wrong-place",
    )
    async with running_process(APPLICATION, tmp_path, **wrong) as app:
        assert await app.exits() == 2

    for name in ("ISSUER", "ENCRYPTION_KEYS", "SESSION_STORE", "REMOTE_APIS", "CLIENT_SECRETS"):
        assert f"  BFF_{name}" in app.stderr
    for secret in (CLIENT_SECRET, "c2VjcmV0LWtleQ==", "hunter2", "a-secret-in-the-wrong-place"):
        assert secret not in app.stderr
    assert "Traceback" not in app.stderr


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
@pytest.mark.parametrize("host", ["db", "127.0.0.1"])
async def test_a_password_that_breaks_the_address_of_the_store_is_not_shown(
    host: str, driver: str, tmp_path: Path
):
    broken = {"BFF_SESSION_STORE": f"mongodb://bff:hun/ter2@{host}/bff", "BFF_MONGODB_DRIVER": driver}
    async with running_process(APPLICATION, tmp_path, **app_settings(**broken)) as app:
        assert await app.exits() == 2

    assert "  BFF_SESSION_STORE: the driver cannot parse it" in app.stderr
    assert "ter2" not in app.stderr


TYPED_CLIENTS = """
from app.bff import TypedClient, run
from tests.bff.application.main import ROUTES
from tests.bff.application.settings import Settings

class Base(TypedClient):
    pass  # without a name

class Orders(Base):
    name = {name!r}

class OldOrders(Orders):
    pass

if __name__ == "__main__":
    raise SystemExit(run(Settings, ROUTES))
"""


async def test_every_typed_client_with_a_misspelt_name_stops_the_start(tmp_path: Path):
    (tmp_path / "misspelt.py").write_text(TYPED_CLIENTS.format(name="apiCleint"))
    async with running_process("misspelt", tmp_path, **app_settings()) as app:
        assert await app.exits() == 2

    for client in ("OldOrders", "Orders"):
        assert f"  {client}.name: no HTTP client named 'apiCleint'; settings name: apiClient" in app.stderr
    assert "Base" not in app.stderr


async def test_a_base_class_of_typed_clients_needs_no_name(tmp_path: Path):
    (tmp_path / "spelt.py").write_text(TYPED_CLIENTS.format(name="apiClient"))
    async with running_process("spelt", tmp_path, **app_settings()) as app:
        await app.answers("/healthz")
        assert await app.stops() == 0


async def test_a_port_that_is_taken_stops_the_start_with_one_clear_sentence(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with running_process(APPLICATION, tmp_path, **app_settings(BFF_PORT=port)) as app:
            assert await app.exits() == 1

    assert app.stderr == f"Cannot listen on 127.0.0.1:{port}: Address already in use\n"


def forwarding_settings(provider: Provider, api: DemoApi, *, token: str) -> dict[str, Any]:
    """What an application needs that forwards /api, and that the provider knows."""
    apis = {
        "BFF_HTTP_CLIENTS": json.dumps({"apiClient": {"base_url": api.base_url, "token": token}}),
        "BFF_REMOTE_APIS": '[{"path": "/api", "client": "apiClient"}]',
    }
    settings = app_settings(BFF_ISSUER=provider.issuer, BFF_SESSION_STORE="memory:", **apis)
    callback = f"{settings['BFF_BASE_URL']}/bff/callback"
    provider.clients[CLIENT_ID] = Client(CLIENT_ID, CLIENT_SECRET, (callback,))
    return settings


async def test_sigterm_finishes_the_request_that_is_under_way(
    tmp_path: Path, provider: Provider, api: DemoApi
):
    settings = forwarding_settings(provider, api, token="user")
    async with running_process(APPLICATION, tmp_path, **settings) as app:
        await app.answers()
        browser = app.browser()
        await browser.login()
        api.holds["echo"] = asyncio.Event()
        in_flight_requests = asyncio.create_task(browser.fetch("/api/echo"))
        await wait_until(lambda: asyncio.sleep(0, api.counts["echo"]))

        app.process.terminate()
        await wait_until(lambda: asyncio.sleep(0, not is_listening(settings["BFF_PORT"])))
        api.holds["echo"].set()

        assert (await in_flight_requests).json()["user"] == "alice"
        assert await app.exits() == 0
        await browser.http.aclose()


async def test_sigterm_closes_open_websockets_and_does_not_wait_for_their_pages(
    tmp_path: Path, provider: Provider, api: DemoApi
):
    async with running_process(
        APPLICATION, tmp_path, **forwarding_settings(provider, api, token="client")
    ) as app:
        await app.answers()
        browser = app.browser()
        async with open_websocket(browser, "/api/socket") as socket:
            app.process.terminate()
            assert await close_code_and_reason(socket) == (1001, "the server is about to stop")
            assert await app.exits() == 0
        await browser.http.aclose()

    assert [line["message"] for line in app.log][-2:] == ["request answered", "socket closed"]


async def test_in_production_every_log_line_is_json(tmp_path: Path):
    async with running_process(APPLICATION, tmp_path, **app_settings()) as app:
        await app.answers("/healthz?code=secret")
        assert await app.stops() == 0

    assert {line["message"] for line in app.log} >= {"listening", "request answered"}
    assert all(line.keys() >= {"time", "level", "logger"} for line in app.log)
    assert "secret" not in app.stderr


async def test_several_processes_answer_together_and_stop_together(tmp_path: Path):
    settings = app_settings(BFF_PROCESSES=2)
    async with running_process(APPLICATION, tmp_path, **settings) as app:
        await app.answers()
        await wait_until(lambda: asyncio.sleep(0, app.stderr.count('"listening"') == 2))

        assert await app.stops() == 0

    assert not is_listening(settings["BFF_PORT"])
    assert {line["level"] for line in app.log} <= {"info", "warning"}


SIGTERM_WHILE_FORKING = """
import os, signal
from app.bff.processes import supervise
parent, (read, write) = os.getpid(), os.pipe()
class Listener:
    def getsockname(self):
        return "127.0.0.1", 0
    def close(self):
        if os.getpid() == parent:
            os.read(read, 1)  # the first worker has sent SIGTERM, the second is not forked yet
def work(own, parents_end, number):
    os.kill(parent, signal.SIGTERM)
    os.write(write, b"x")
    signal.pause()
raise SystemExit(supervise([[Listener()], [Listener()]], work))
"""


async def test_a_sigterm_that_arrives_before_all_workers_are_forked_orphans_none(tmp_path: Path):
    (tmp_path / "supervised.py").write_text(SIGTERM_WHILE_FORKING)
    async with running_process("supervised", tmp_path, FAMILY="forking-" + tmp_path.name) as process:
        assert await process.exits() == 0

    assert family("forking-" + tmp_path.name) == []


async def test_several_processes_with_an_unreadable_key_file_do_not_start(tmp_path: Path):
    (tmp_path / "client.pem").write_text("no key")
    key = {"BFF_CLIENT_AUTH": "private_key_jwt", "BFF_CLIENT_KEY_FILE": tmp_path / "client.pem"}
    async with running_process(APPLICATION, tmp_path, **app_settings(BFF_PROCESSES=2, **key)) as app:
        assert await app.exits() == 2

    assert "BFF_CLIENT_KEY_FILE: no private key" in app.stderr


async def test_development_says_where_and_as_whom_and_ctrl_c_leaves_nothing_behind(tmp_path: Path):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    mark = secrets.token_hex(16)
    async with running_process(
        "app.bff.dev", tmp_path, APPLICATION, ports=3, TMPDIR=temporary, FAMILY=mark
    ) as dev:
        await dev.says("Stop with Ctrl-C")
        assert dev.url in dev.stdout
        assert "Alice Adams" in dev.stdout
        assert "Bob Brown" in dev.stdout
        assert "Sign in" in (await dev.answers("/")).text
        assert len(family(mark)) >= 2  # ourselves and the application; the database where there is one

        assert await dev.stops(signal.SIGINT) == 0

    assert family(mark) == []
    assert list(temporary.iterdir()) == []
    assert "Traceback" not in dev.stderr


def family(mark: str) -> list[str]:
    """The processes with this mark in their environment, which children inherit."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if mark.encode() in environment:
            found.append(process.name)
    return found


async def test_sessions_survive_a_reload_of_the_application(tmp_path: Path):
    for name in ("app", "tests/bff/application"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    async with running_process("app.bff.dev", tmp_path, APPLICATION, root=tmp_path, ports=3) as dev:
        await dev.says("Stop with Ctrl-C")
        browser = dev.browser()
        await browser.login()

        health = tmp_path / "app/bff/handlers/health.py"
        health.write_text(health.read_text().replace('{"status": "ok"}', '{"status": "reloaded"}'))
        await dev.says("health.py modified", meanwhile=health.touch)  # what it saw first does not count
        await dev.answers("/healthz", text="reloaded")

        assert "Alice Adams" in (await browser.get("/account")).text
        await browser.http.aclose()


async def test_the_garbage_collector_leaves_alone_what_stays_as_long_as_the_process():
    asks = "import gc, app.bff.cli as m; m.collect_garbage_rarely()"
    says = "print(gc.get_freeze_count() > 10_000, gc.get_threshold()[0])"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"{asks}; {says}", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()

    assert output.decode().split() == ["True", "10000"]
