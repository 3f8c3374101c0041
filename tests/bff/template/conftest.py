"""A snapshot of the working tree as a git repository, and the ways to generate a project from it.

Nothing is written outside pytest's temporary folder: cookiecutter and cruft get their own configuration.
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from shutil import copy, copytree

import pytest
from cookiecutter.main import cookiecutter

ROOT = Path(__file__).resolve().parents[3]
NODE_MODULES = ROOT / ".venv/react/frontend/node_modules"  # tests/bff/setup.sh installs them
IDENTITY = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")


def run(*command, cwd, env=(), **options):
    """The result of a command that sees no outer git repository and no configuration of the user."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    clean |= {"HOME": str(cwd), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **dict(env)}
    options |= {"capture_output": True, "text": True, "encoding": "utf-8"}
    return subprocess.run(command, cwd=cwd, env=clean, check=False, **options)


@pytest.fixture(scope="session", autouse=True)
def mypy_cache(tmp_path_factory):
    """Start with what mypy knows of this repository: a project has the same files, under the same names."""
    cache, known = tmp_path_factory.mktemp("mypy_cache"), ROOT / ".mypy_cache/3.11"
    if known.is_dir():
        copytree(known, cache / "3.11")
    os.environ["MYPY_CACHE_DIR"] = str(cache)


@pytest.fixture(scope="session")
def git():
    """Run git in a folder; the answer is what it prints."""

    def git(*arguments, cwd):
        result = run("git", *IDENTITY, *arguments, cwd=cwd)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return git


@pytest.fixture(scope="session")
def commit(git):
    """Commit everything in a folder that is not ignored, if only to have a commit."""

    def commit(folder):
        git("add", "--all", cwd=folder)
        git("commit", "--quiet", "--allow-empty", "--message=A commit", cwd=folder)

    return commit


@pytest.fixture(scope="session")
def template(tmp_path_factory, git):
    """A checkout of what stands in the working tree now, without what git ignores. Not to be changed."""
    checkout = tmp_path_factory.mktemp("template") / "tornado-bff"
    checkout.mkdir()
    git("init", "--quiet", cwd=checkout)
    git(f"--git-dir={checkout}/.git", f"--work-tree={ROOT}", "add", "--all", cwd=ROOT)
    git("commit", "--quiet", "--message=Snapshot", cwd=checkout)
    git("reset", "--quiet", "--hard", cwd=checkout)
    return checkout


@pytest.fixture
def own_template(template, git, tmp_path):
    """A clone of the snapshot that a test may change."""
    git("clone", "--quiet", str(template), "own-template", cwd=tmp_path)
    return tmp_path / "own-template"


def configuration(folder):
    """A user's cookiecutter configuration that keeps its folders inside this one."""
    file = folder / "cookiecutter.yaml"
    file.write_text(f"cookiecutters_dir: {folder}/cookiecutters\nreplay_dir: {folder}/replay\n")
    return file


@pytest.fixture(scope="session")
def project(template, tmp_path_factory):
    """A project made from the snapshot's folder with the default answers. Not to be changed."""
    folder = tmp_path_factory.mktemp("project")
    options = {"output_dir": str(folder), "config_file": str(configuration(folder))}
    return Path(cookiecutter(str(template), no_input=True, **options))


def link_or_copy(source, target):
    try:
        os.link(source, target)
    except OSError:  # on another file system
        copy(source, target)


@pytest.fixture(scope="session")
def react_project(template, tmp_path_factory):
    """A project with the React front end, and with what that installs. Its build alone may be changed."""
    folder = tmp_path_factory.mktemp("react")
    options = {"output_dir": str(folder), "config_file": str(configuration(folder))}
    project = Path(cookiecutter(str(template), no_input=True, extra_context={"frontend": "react"}, **options))
    copytree(NODE_MODULES, project / "frontend/node_modules", symlinks=True, copy_function=link_or_copy)
    (project / "frontend/node_modules/.installed").touch()
    return project


@pytest.fixture
def generate(template, tmp_path):
    """Make a project from a template, the snapshot if no other is named, and answer with its folder."""

    def generate(source=template, *, overwrite_if_exists=False, **answers):
        return Path(
            cookiecutter(
                str(source),
                no_input=True,
                extra_context=answers,
                output_dir=str(tmp_path / "projects"),
                config_file=str(configuration(tmp_path)),
                overwrite_if_exists=overwrite_if_exists,
            )
        )

    return generate


@pytest.fixture
def tool(tmp_path):
    """Run a Python command-line tool (`cookiecutter`, `cruft`) with a home directory inside tmp_path."""

    def tool(name, *arguments, cwd=tmp_path, env=(), **options):
        env = {"HOME": str(tmp_path), "COOKIECUTTER_CONFIG": str(configuration(tmp_path)), **dict(env)}
        return run(sys.executable, "-m", name, *map(str, arguments), cwd=cwd, env=env, **options)

    return tool


@pytest.fixture(scope="session")
def files():
    """Name and content of every file in a folder, without git's own."""

    def files(folder):
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        left_out = (".git/", "frontend/node_modules/", "frontend/src/bff/bff.test")
        return {name: path.read_bytes() for name, path in found.items() if not name.startswith(left_out)}

    return files


@pytest.fixture(scope="session")
def owned_by():
    """What an update of a project leaves alone, by the patterns of its pyproject.toml."""

    def owned_by(project):
        patterns = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["cruft"]["skip"]
        found = {path for pattern in patterns if pattern != ".git" for path in project.glob(pattern)}
        in_folders = {path for folder in found for path in folder.rglob("*")}
        names = {path.relative_to(project).as_posix() for path in found | in_folders if path.is_file()}
        return {name for name in names if "node_modules/" not in name and "/dist/" not in name}

    return owned_by
