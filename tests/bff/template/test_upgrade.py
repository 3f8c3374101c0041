"""`cruft update` renews the engine of a project whose owner has worked in it, and conflicts with nothing.

`pytest tests/bff/template/test_upgrade.py -rP` prints what cruft and the tests of the project say.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bff.template import owner
from tests.bff.template.rooms import is_engine, is_shared
from tests.bff.template.test_tutorial import TUTORIAL, patched, steps

ROOT = Path(__file__).parents[3]
# The first revision whose projects can be updated: from here on `skip` in pyproject.toml names
# the owner's room, and the public names of `app.bff` are those that an owner's files use.
OLDEST = "0cd6f61"
OVERLAY = Path("overlays/react")
COMMENTS = {
    ".py": "\n\n# {}",
    ".txt": "# {}",
    **dict.fromkeys([".js", ".ts", ".tsx"], "// {}"),
    ".css": "/* {} */",
    ".html": "{{# {} #}}",
    ".md": "{}",
}


def follow_tutorial(project: Path) -> None:
    """Write the files of the tutorial and apply its edits; `test_tutorial.py` runs its commands, too."""
    for step in steps(TUTORIAL):
        file = project / step.value
        if step.kind == "file":
            file.parent.mkdir(exist_ok=True)
            file.write_text(step.text)
        elif step.kind == "edit":
            owner.edit(file, lambda before, step=step: patched(before, step.text))


# Who has made a project at which revision, and has done what since. The tutorial is today's.
OWNERS = {
    "who adds to the demo": (OLDEST, owner.add_orders, owner.rename_words),
    "who deletes the demo": (OLDEST, owner.delete_demo, owner.add_orders, owner.rename_words),
    "who follows the tutorial": ("today", follow_tutorial),
}


@pytest.fixture(scope="module")
def history(tmp_path_factory, template, git):
    """A clone with all revisions; the last is what stands in the working tree now."""
    if subprocess.run(
        ["git", "cat-file", "-e", OLDEST], cwd=ROOT, check=False, capture_output=True
    ).returncode:
        pytest.skip(f"this clone is shallow: its history does not go back to {OLDEST}")
    clone = tmp_path_factory.mktemp("history") / "tornado-bff"
    git("clone", "--quiet", str(ROOT), str(clone), cwd=ROOT)
    git("checkout", "--quiet", "-B", "today", cwd=clone)
    git(f"--git-dir={clone}/.git", f"--work-tree={template}", "add", "--all", cwd=template)
    git("commit", "--quiet", "--allow-empty", "--message=What stands in the working tree", cwd=clone)
    git("reset", "--quiet", "--hard", cwd=clone)
    git("checkout", "--quiet", "-b", "every-file", cwd=clone)
    for file in [path for path in clone.rglob("*") if in_a_room(path.relative_to(clone))]:
        text = (
            file.read_text(encoding="utf-8")
            + COMMENTS[file.suffix].format("A change of the template.")
            + "\n"
        )
        file.write_text(text.lstrip("\n"), encoding="utf-8")
    git("commit", "--quiet", "--all", "--message=A change of every file in both rooms", cwd=clone)
    return clone


def in_a_room(path: Path) -> bool:
    """Whether it is a file that is the engine's or the owner's in a project, and takes a comment."""
    path = path.relative_to(OVERLAY) if path.is_relative_to(OVERLAY) else path
    name = path.as_posix()
    in_project = name.partition("/")[0] in (
        "app",
        "templates",
        "static",
        "frontend",
        "docs",
        "requirements",
        "tests",
    )
    only_here = name.startswith("tests/bff/") or is_shared(name)
    return in_project and not only_here and path.suffix in COMMENTS


@pytest.fixture(params=OWNERS)
def worked_in(request, history, tool, git, commit, tmp_path):
    """A project in which its owner has worked since it was made."""
    revision, *works = OWNERS[request.param]
    result = tool("cruft", "create", "--no-input", f"--checkout={revision}", history)
    assert result.returncode == 0, result.stderr
    project = tmp_path / "my-bff"
    commit(project)
    for work in works:
        work(project)
    commit(project)
    return project


@pytest.fixture
def update(tool, git, commit, files):
    """Update a project to a revision, and return the conflicts and the names of what changed."""

    def update(project: Path, revision: str) -> tuple[list[str], list[str]]:
        result = tool("cruft", "update", "--skip-apply-ask", f"--checkout={revision}", cwd=project)
        status = git("status", "--short", cwd=project)
        print(f"cruft update --checkout={revision}\n{result.stdout}{result.stderr}{status}")
        assert result.returncode == 0
        commit(project)
        changed = git("diff", "--name-only", "HEAD~", cwd=project).splitlines()
        return conflicts(result.stdout + result.stderr, status, files(project)), changed

    return update


def conflicts(said: str, status: str, files: dict[str, bytes]) -> list[str]:
    """What cruft leaves to a person: its exit code is 0 all the same."""
    unmerged = re.findall(r"(?m)^(?:U.|.U|AA|DD) (.+)$", status)
    marked = [name for name, text in files.items() if b"\n<<<<<<< " in text and b"\n>>>>>>> " in text]
    rejected = [name for name in files if name.endswith((".rej", ".orig"))]
    return [*unmerged, *marked, *rejected, *re.findall(r".*(?:conflict|\.rej|Failed).*", said)]


def run_tests(project: Path) -> None:
    """What scripts/test.sh runs, but for the types, which take their time."""
    for command in (["ruff", "check"], ["ruff", "format", "--check"], ["pytest", "-q"]):
        command = [sys.executable, "-m", *command]
        result = subprocess.run(command, cwd=project, check=False, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        print(result.stdout)


def test_an_update_renews_the_engine_alone_and_the_owner_s_tests_stay_green(
    worked_in, update, files, owned_by, git
):
    before, owned = files(worked_in), owned_by(worked_in)
    work = re.findall(r"(?m)^\+([^+\n].*)$", git("diff", "HEAD~", cwd=worked_in))

    over_history, renewed = update(worked_in, "today")
    if renewed:
        run_tests(worked_in)
    today = files(worked_in)
    over_every_file, changed = update(worked_in, "every-file")  # the template's own pages, too
    run_tests(worked_in)
    after = files(worked_in)

    assert (over_history, over_every_file) == ([], [])
    assert {name: after[name] for name in owned} == {name: before[name] for name in owned}
    assert {name for name in today if is_engine(name) and Path(name).suffix in COMMENTS} <= set(changed)
    assert [name for name in changed if not is_engine(name)] == [".cruft.json"]
    assert [line for line in work if line.encode() not in b"".join(after.values())] == []


def test_an_update_renews_the_engine_in_a_react_front_end_and_nothing_else_there(
    history, tool, commit, tmp_path, update, files, owned_by
):
    answers = '{"frontend": "react"}'
    created = tool("cruft", "create", "--no-input", "--extra-context", answers, "--checkout=today", history)
    assert created.returncode == 0, created.stderr
    project = tmp_path / "my-bff"
    commit(project)
    owner.edit(project / "frontend/src/App.tsx", lambda text: text.replace("To-dos", "Orders"))
    owner.edit(project / "frontend/package.json", lambda text: text.replace("19.3.1", "19.9.9"))
    (project / "frontend/src/orders").mkdir()
    (project / "frontend/src/orders/Orders.tsx").write_text("export const Orders = () => null;\n")
    commit(project)
    before, owned = files(project), owned_by(project)

    found, changed = update(project, "every-file")

    after = files(project)
    assert found == []
    assert {name: after[name] for name in owned} == {name: before[name] for name in owned}
    assert [name for name in changed if not is_engine(name)] == [".cruft.json"]
    renewed = {name for name in after if name.startswith("frontend/src/bff/")}
    assert renewed
    assert renewed <= set(changed)


def test_a_change_of_the_owner_s_in_a_file_of_the_engine_is_a_conflict(
    history, tool, commit, tmp_path, update
):
    tool("cruft", "create", "--no-input", "--checkout=today", history)
    project = tmp_path / "my-bff"
    commit(project)
    with (project / "app/bff/paths.py").open("a") as engine:
        engine.write("# A change of the owner's.\n")
    commit(project)

    found, _ = update(project, "every-file")

    assert "app/bff/paths.py" in found
