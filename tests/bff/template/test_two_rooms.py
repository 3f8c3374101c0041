"""Two rooms: a folder named `bff` is the engine's, which an update renews; the rest is the owner's."""

import tomllib
from pathlib import PurePosixPath

import pytest

# In neither room: what builds, checks, configures and deploys. An update merges into these.
SHARED = {
    ".env.example",
    ".gitattributes",
    ".gitignore",
    ".ruff.toml",
    "mypy.ini",
    "pyproject.toml",
    "pytest.ini",
    "requirements/dev.txt",
    "requirements/speed.txt",
    "setup.py",
}
SHARED_FOLDERS = ("deploy/", "scripts/")
CODE = (".css", ".html", ".js", ".py")
LINES = 1000


def is_engine(name):
    return "bff" in PurePosixPath(name).parts[:-1] or name == "requirements/bff.txt"


def is_shared(name):
    return name in SHARED or name.startswith(SHARED_FOLDERS)


@pytest.fixture(scope="module")
def owned(project):
    """What an update leaves alone, by the patterns of pyproject.toml, which are cruft's."""
    patterns = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["cruft"]["skip"]
    found = {path for pattern in patterns if pattern != ".git" for path in project.glob(pattern)}
    in_folders = {path for folder in found for path in folder.rglob("*")}
    return {path.relative_to(project).as_posix() for path in found | in_folders if path.is_file()}


def test_every_file_is_the_engine_s_or_the_owner_s_or_shared(project, files, owned):
    room = {name: [is_engine(name), name in owned, is_shared(name)] for name in files(project)}

    assert [name for name, rooms in room.items() if rooms.count(True) != 1] == []


def test_what_its_owner_has_to_read_is_at_most_a_thousand_lines(project, owned):
    lines = {
        name: len((project / name).read_text(encoding="utf-8").splitlines())
        for name in owned
        if name.endswith(CODE)
    }

    assert sum(lines.values()) <= LINES, lines


def test_tests_of_the_engine_and_measurements_stay_in_the_template(project, files):
    assert [name for name in files(project) if name.startswith(("tests/bff", "bench", "hooks"))] == []
    assert not (project / "scripts/bench.sh").exists()
