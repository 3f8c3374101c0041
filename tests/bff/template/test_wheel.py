"""A wheel holds everything that the application needs to run, and nothing that only a developer needs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, ignore_patterns
from zipfile import ZipFile

import pytest

from app.bff.paths import project_folder
from tests.bff.subprocesses import AppProcess, app_settings, running_process

NAMES = {"template": "Tornado BFF", "project": "My BFF"}


def build(source: Path, target: Path) -> Path:
    """The wheel of a folder, built without the network."""
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    command = (sys.executable, "-m", "pip", "wheel", "--quiet", *offline, "--wheel-dir", str(target), ".")
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    [wheel] = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module", params=NAMES)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the template or of a project, with an asset and a page fragment that its owner added."""
    original = request.getfixturevalue(request.param)
    source = tmp_path_factory.mktemp("source") / request.param
    copytree(original, source, symlinks=True, ignore=ignore_patterns(".git"))
    (source / "static/fonts").mkdir()
    (source / "static/fonts/own.css").write_text("/* added */\n")
    (source / "frontend/dist/assets").mkdir(parents=True)
    (source / "frontend/dist/assets/index-DFMMG-yG.js").write_text("/* built */\n")
    (source / "templates/orders").mkdir()
    (source / "templates/orders/line.html").write_text("A line\n")
    return source


@pytest.fixture(scope="module")
def unpacked(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install` puts into site-packages."""
    target = tmp_path_factory.mktemp("unpacked")
    with ZipFile(build(source, tmp_path_factory.mktemp("wheel"))) as wheel:
        wheel.extractall(target)
    return target


async def response_text(app: AppProcess, path: str) -> str:
    return (await app.answers(path)).text


def test_a_wheel_holds_the_code_and_all_templates_and_static_files(
    unpacked: Path, source: Path, files: Callable[[Path], dict[str, bytes]]
):
    held = files(unpacked / "app")

    left_at_home = ("bff/dev/", "bff/testing/")
    code = {name for name in files(source / "app") if name.endswith(".py")}
    assert {name for name in held if name.endswith(".py")} == {
        name for name in code if not name.startswith(left_at_home)
    }
    for folder in ("templates", "static", "frontend/dist"):
        assert {name for name in held if name.startswith(f"{folder}/")} == {
            f"{folder}/{name}" for name in files(source / folder)
        }


def test_a_wheel_installs_one_package(unpacked: Path):
    assert {folder.name for folder in unpacked.iterdir() if folder.suffix != ".dist-info"} == {"app"}


def test_a_wheel_requires_the_engine_s_and_the_owner_s_packages(source: Path, tmp_path: Path):
    with (source / "requirements/app.txt").open("a") as requirements:
        requirements.write("asyncpg>=0.30\n")

    with ZipFile(build(source, tmp_path)) as wheel:
        [metadata] = [name for name in wheel.namelist() if name.endswith("METADATA")]
        needed = [line for line in wheel.read(metadata).decode().splitlines() if "Requires-Dist: " in line]

    assert "Requires-Dist: asyncpg>=0.30" in needed
    assert [line for line in needed if line.startswith("Requires-Dist: tornado")]


def test_what_was_deleted_since_the_last_build_is_not_in_the_next_wheel(source: Path, tmp_path: Path):
    obsolete = source / "templates/obsolete.html"
    obsolete.touch()
    build(source, tmp_path / "first")
    obsolete.unlink()

    with ZipFile(build(source, tmp_path / "second")) as wheel:
        assert "app/templates/obsolete.html" not in wheel.namelist()


async def test_an_installed_wheel_serves_pages_and_static_files_from_any_folder(
    unpacked: Path, source: Path, tmp_path: Path
):
    settings = app_settings(BFF_SESSION_STORE="memory:")

    async with running_process("app", tmp_path, root=unpacked, **settings) as app:
        assert f"{NAMES[source.name]}</title>" in await response_text(app, "/")
        assert await response_text(app, "/static/fonts/own.css") == "/* added */\n"
        assert "export" in await response_text(app, "/static/bff/bff.js")


def test_templates_and_static_files_are_beside_the_package_in_a_checkout_and_inside_it_in_a_wheel(
    unpacked: Path, source: Path
):
    assert project_folder(unpacked / "app") == unpacked / "app"
    assert project_folder(source / "app") == source
