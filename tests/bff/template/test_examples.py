"""Every Python example of the manual passes `mypy --strict` and runs, and every link works in a project.

All of them together are one application: a project, and the files that comments before the examples name.
The first example for a file makes or replaces it, the next ones in the same document are added to it.
`test_tutorial.py` has those of the tutorial.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from tests.bff.subprocesses import ROOT
from tests.bff.test_docs import broken_links

DOCUMENTS = [
    document
    for document in (ROOT / "README.md", *sorted((ROOT / "docs/bff").glob("*.md")))
    if document.name != "tutorial.md"
]
EXAMPLE = re.compile(r"^(?:<!-- file: (\S+) -->\n)?```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples() -> Iterator[tuple[Path, str, str]]:
    """Document, file and text."""
    for document in DOCUMENTS:
        for file, text in EXAMPLE.findall(document.read_text()):
            yield document, file, text


FILES: dict[str, dict[Path, list[str]]] = defaultdict(lambda: defaultdict(list))
for _document, _file, _text in examples():
    FILES[_file][_document].append(_text)
TESTS = [file for file in FILES if file.startswith("tests/")]


@pytest.fixture(scope="module")
def application(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples") / "project"
    copytree(project, folder, ignore=ignore_patterns(".git"))
    (folder / "app/clients").mkdir(exist_ok=True)
    (folder / "app/clients/__init__.py").touch()
    for file, by_document in FILES.items():
        [texts] = by_document.values()
        (folder / file).write_text("\n\n".join(texts))
    return folder


def run(application: Path, *arguments: str) -> None:
    command = (sys.executable, "-m", *arguments)
    result = subprocess.run(command, cwd=application, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_example_says_in_which_file_it_stands_and_no_file_is_in_two_documents():
    assert "" not in FILES
    assert [file for file, documents in FILES.items() if len(documents) > 1] == []


def test_every_example_passes_mypy_strict(application: Path):
    run(application, "mypy", "--strict", "app", *TESTS)


def test_every_example_can_be_imported(application: Path):
    modules = [file.removesuffix(".py").replace("/", ".") for file in FILES if file.startswith("app/")]

    run(application, "timeit", "-n1", "-r1", "; ".join(f"import {module}" for module in modules))


def test_every_example_of_a_test_succeeds(application: Path):
    run(
        application,
        "pytest",
        "-p",
        "no:cacheprovider",
        *(file for file in FILES if file.startswith("tests/")),
    )


def test_every_link_of_a_project_leads_to_a_file_and_to_a_heading_in_it(project: Path):
    documents = list(project.rglob("*.md"))

    assert project / "docs/bff/README.md" in documents
    assert broken_links(documents) == []
