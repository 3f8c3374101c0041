"""The manual is true: its settings, files, links and examples are those of the code.

The Python examples are checked and run in `template/test_examples.py`, the tutorial in `template/test_tutorial.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.bff import BffSettings
from app.bff.settings.models import HttpClientSettings

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "docs/bff").glob("*.md"))
GENERATED = [*CHAPTERS, ROOT / "deploy/README.md", ROOT / "app/bff/README.md"]
DOCUMENTS = [ROOT / "README.md", *GENERATED]
# What is in this repository and in no project (hooks/post_gen_project.py).
NEVER_GENERATED = ("README.md", "screenshot.png", "bench", "hooks", "tests/bff", "scripts/bench.sh")

DEFAULTS = dict(
    re.findall(r"^\| `(BFF_\w+)` \| (.*?) \|", (ROOT / "docs/bff/settings.md").read_text(), re.MULTILINE)
)


def names(documents: list[Path]) -> list[str]:
    return [str(document.relative_to(ROOT)) for document in documents]


def links(document: Path) -> Iterator[tuple[Path, str]]:
    """The file and the anchor of every relative link, if it has one."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", without_code(document.read_text())):
        path, _, anchor = target.partition("#")
        yield (document.parent / path).resolve() if path else document, anchor


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", without_code(document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


def test_the_settings_table_names_every_setting_and_no_other():
    assert list(DEFAULTS) == [f"BFF_{name.upper()}" for name in BffSettings.model_fields]


@pytest.mark.parametrize("name", [name for name, default in DEFAULTS.items() if default.startswith("`")])
def test_the_settings_table_has_the_default_that_the_code_has(name: str):
    default = BffSettings.model_fields[name.removeprefix("BFF_").lower()].default
    written = default if isinstance(default, str) else json.dumps(default)

    assert DEFAULTS[name] == f"`{written}`"


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(document: Path):
    broken = [
        f"{file}#{anchor}"
        for file, anchor in links(document)
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]

    assert broken == []


@pytest.mark.parametrize("document", GENERATED, ids=names(GENERATED))
def test_what_is_generated_links_to_nothing_that_is_not(document: Path):
    linked = [file.relative_to(ROOT) for file, _ in links(document)]

    assert [file for file in linked if any(file.is_relative_to(path) for path in NEVER_GENERATED)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_every_file_that_is_named_is_there(document: Path):
    named = re.findall(r"`((?:app|deploy|docs|static|scripts|templates|tests)/[\w./-]+\w)`", document.read_text())
    written_by_the_reader = set(re.findall(r"<!-- (?:file|edit): (\S+) -->", document.read_text()))

    assert [path for path in named if not (ROOT / path).exists() and path not in written_by_the_reader] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_every_setting_that_is_named_exists(document: Path):
    known = {f"BFF_{name.upper()}" for name in BffSettings.model_fields}
    text = re.sub(r"```python\n.*?```", "", document.read_text(), flags=re.DOTALL)  # may define some

    assert {name for name in re.findall(r"\bBFF_[A-Z_]+[A-Z]\b", text) if name not in known} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_every_json_example_is_json(document: Path):
    for block in blocks(document, "json"):
        json.loads(block)


def test_the_keys_of_a_client_are_all_told():
    chapter = (ROOT / "docs/bff/remote-apis.md").read_text()

    assert [key for key in HttpClientSettings.model_fields if f"`{key}`" not in chapter] == []


def test_the_readme_can_be_read_in_two_minutes():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
