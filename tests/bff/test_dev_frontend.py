"""What `scripts/dev.sh` and `scripts/test.sh` do for a front end: they install, check and serve it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest

from app.bff.dev.frontend import check, install, is_there, missing_node
from tests.bff.subprocesses import ROOT, is_listening, running_process, wait_until

SCRIPTS = {name: f"echo {name} >> log" for name in ("lint", "typecheck", "test", "build")}
# Stands for a development server: it answers, and ends when its file `stop` appears.
SERVER = """
import { existsSync } from "node:fs";
import { createServer } from "node:http";
const port = Number(process.argv.at(-1));
const respond = (request, response) => response.setHeader("Content-Type", "text/html").end("<p>The app");
createServer(respond).listen(port, "127.0.0.1");
setInterval(() => { if (existsSync("stop")) process.exit(3); }, 20);
"""


def node_and_npm(*there: str) -> dict[str, str]:
    return {name: f"/usr/bin/{name}" for name in there}


@pytest.mark.parametrize(
    ("there", "version", "what"),
    [
        pytest.param([], "", "node is not there", id="nothing is installed"),
        pytest.param(["node"], "v22.12.0\n", "npm is not there", id="Debian has npm in another package"),
        pytest.param(["node", "npm"], "v18.20.4\n", "this is v18.20.4", id="too old"),
        pytest.param(["node", "npm"], "v20.18.1\n", "this is v20.18.1", id="too old by a little"),
        pytest.param(["node", "npm"], "", "this is unknown", id="it does not run"),
        pytest.param(["node", "npm"], "v20.19.0\n", None, id="old enough"),
        pytest.param(["node", "npm"], "v100.0.0\n", None, id="new"),
    ],
)
def test_what_is_missing_of_node_is_named(there: list[str], version: str, what: str | None):
    assert missing_node(node_and_npm(*there).get, lambda: version) == what


def frontend(folder: Path, **more: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": "frontend", "scripts": SCRIPTS, **more}))
    return folder


def test_a_folder_without_a_package_is_no_front_end(tmp_path: Path):
    assert not is_there(tmp_path)
    assert is_there(frontend(tmp_path / "frontend"))


def test_it_is_installed_once_and_again_after_a_change(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    folder = frontend(tmp_path / "frontend")
    installs = []
    for change in (False, False, True):
        if change:
            stamp = (folder / "node_modules/.installed").stat().st_mtime_ns
            os.utime(folder / "package.json", ns=(stamp + 1, stamp + 1))
        install(folder)
        installs.append("Installing" in capfd.readouterr().out)

    assert installs == [True, False, True]


def test_a_lock_file_that_does_not_fit_stops_with_npm_s_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    folder = frontend(tmp_path / "frontend", dependencies={"missing": "file:../missing"})
    (folder / "package-lock.json").write_text('{"lockfileVersion": 3, "packages": {"": {}}}')

    with pytest.raises(SystemExit) as stopped:
        install(folder)

    assert stopped.value.code == 1
    assert "npm error" in capfd.readouterr().err


def test_its_scripts_run_in_order_as_far_as_there_are_such(tmp_path: Path):
    check(frontend(tmp_path / "all"))
    check(frontend(tmp_path / "one", scripts={"build": "echo built >> log"}))

    assert (tmp_path / "all/log").read_text().split() == list(SCRIPTS)
    assert (tmp_path / "one/log").read_text() == "built\n"


def test_the_first_script_that_fails_ends_the_checks_with_its_code(tmp_path: Path):
    folder = frontend(tmp_path / "frontend", scripts={**SCRIPTS, "typecheck": "exit 7"})

    with pytest.raises(SystemExit) as stopped:
        check(folder)

    assert stopped.value.code == 7
    assert (folder / "log").read_text() == "lint\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The application of the root, with a front end of its own."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("app", "templates", "static"):
        copytree(ROOT / name, project / name, ignore=ignore_patterns("__pycache__"))
    copy(ROOT / "pyproject.toml", project)
    (frontend(project / "frontend", scripts={"dev": "node server.mjs"}) / "server.mjs").write_text(SERVER)
    return project


async def test_the_development_server_starts_again_and_ends_with_the_application(project: Path):
    async with running_process(
        "app.bff.dev", project, root=project, ports=4, BFF_SESSION_STORE="memory:"
    ) as dev:
        await dev.answers("/orders", text="The app")  # by the application, from the development server
        (project / "frontend/stop").touch()
        await dev.says("ended with exit code 3. It starts again")
        (project / "frontend/stop").unlink()
        await dev.answers("/orders", text="The app")

        assert await dev.stops(signal.SIGINT) == 0

        await wait_until(lambda: ended(dev.port + 3))


async def ended(port: int) -> bool:
    return not is_listening(port)
