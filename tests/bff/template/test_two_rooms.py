"""Two rooms: a folder named `bff` is the engine's, which an update renews; the rest is the owner's."""

import pytest

from tests.bff.template.rooms import is_engine, is_shared

CODE = (".css", ".html", ".js", ".py", ".ts", ".tsx")
LINES = 1000


@pytest.fixture(scope="module", params=["project", "react_project"])
def project(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def owned(project, owned_by):
    return owned_by(project)


def test_every_file_is_the_engine_s_or_the_owner_s_or_shared(project, git, owned):
    names = git("ls-files", "--cached", "--others", "--exclude-standard", cwd=project).splitlines()
    room = {name: [is_engine(name), name in owned, is_shared(name)] for name in [".env", *names]}

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
