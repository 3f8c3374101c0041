"""The manual is true: its settings, files, links and examples are those of the code.

`template/test_examples.py` checks and runs the Python examples, `template/test_tutorial.py` follows
the tutorial.
"""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from app.bff import BffSettings
from app.bff.settings.apis import HttpClientSettings, RemoteApiSettings
from app.bff.settings.load import OF_SCRIPTS, known_names
from app.bff.version import ENGINE_VERSION

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "docs/bff").glob("*.md"))
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    *CHAPTERS,
    ROOT / "deploy/README.md",
    ROOT / "app/bff/README.md",
]
OPERATING = ROOT / "docs/bff/operating.md"
ENGINE = [
    file
    for file in (ROOT / "app/bff").rglob("*.py")
    if not {"dev", "testing"} & set(file.relative_to(ROOT).parts)
]

DEFAULTS = dict(
    re.findall(r"^\| `(BFF_\w+)` \| (.*?) \|", (ROOT / "docs/bff/settings.md").read_text(), re.MULTILINE)
)


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
    assert set(DEFAULTS) == {f"BFF_{name.upper()}" for name in BffSettings.model_fields}


def test_the_settings_table_has_the_defaults_that_the_code_has():
    shown = {name: default.strip("`") for name, default in DEFAULTS.items() if default.startswith("`")}
    defaults = {name: BffSettings.model_fields[name.removeprefix("BFF_").lower()].default for name in shown}

    assert shown == {
        name: default if isinstance(default, str) else json.dumps(default)
        for name, default in defaults.items()
    }


def broken_links(documents: Iterable[Path]) -> list[str]:
    return [
        f"{document.name}: {file}#{anchor}"
        for document in documents
        for file, anchor in links(document)
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]


def test_every_link_leads_to_a_file_and_to_a_heading_in_it():
    assert broken_links(DOCUMENTS) == []


def test_every_file_that_is_named_is_there():
    named = re.compile(r"`((?:app|deploy|docs|static|scripts|templates|tests)/[\w./-]+\w)`")

    assert [
        f"{document.name}: {path}"
        for document in DOCUMENTS
        for path in named.findall(document.read_text())
        if not (ROOT / path).exists() and path not in written_by_the_reader(document)
    ] == []


def written_by_the_reader(document: Path) -> list[str]:
    return re.findall(r"<!-- (?:file|edit): (\S+)", document.read_text())


def test_every_setting_that_is_named_exists():
    known = {*known_names(BffSettings), *OF_SCRIPTS}

    assert [
        f"{document.name}: {name}"
        for document in DOCUMENTS
        for name in re.findall(r"\bBFF_[A-Z_]+[A-Z]\b", without_python(document.read_text()))
        if name not in known
    ] == []


def without_python(text: str) -> str:
    return re.sub(r"^```python\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)  # may define some


def test_every_json_example_is_json():
    for document in DOCUMENTS:
        for block in blocks(document, "json"):
            json.loads(block)


def test_the_keys_of_clients_and_remote_apis_are_all_documented():
    chapter = (ROOT / "docs/bff/remote-apis.md").read_text()
    keys = [*HttpClientSettings.model_fields, *RemoteApiSettings.model_fields]

    assert [key for key in keys if f"`{key}`" not in chapter] == []


def test_the_readme_can_be_read_in_two_minutes():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


# Log messages.


class LogMessage(NamedTuple):
    level: str
    message: str
    fields: frozenset[str]


def log_messages(file: Path) -> Iterator[LogMessage]:
    """What `log.info("…", extra={…})` and its like say, and the access log's RequestRecord."""
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Call(ast.Attribute(ast.Name("log"), level), [ast.Constant(str(message))], keywords):
                extra = [keyword.value for keyword in keywords if keyword.arg == "extra"]
                yield LogMessage(level, message, frozenset(key for value in extra for key in keys_of(value)))
            case ast.Call(ast.Name("RequestRecord"), [_, ast.Constant(str(message)), _]):
                yield LogMessage("info", message, frozenset())


def keys_of(value: ast.expr) -> set[str]:
    """The keys of a dict display; what is computed elsewhere has none here."""
    keys = value.keys if isinstance(value, ast.Dict) else []
    return {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}


def logged() -> list[LogMessage]:
    return [message for file in ENGINE for message in log_messages(file)]


def documented() -> dict[tuple[str, str], set[str]]:
    rows = re.findall(r"^\| (\w+) \| `([^`]+)` \| (.*?) \|", OPERATING.read_text(), re.MULTILINE)
    return {(level, message): set(re.findall(r"`(\w+)`", fields)) for level, message, fields in rows}


def test_the_manual_lists_every_log_message_with_its_level_and_no_other():
    assert set(documented()) == {(level, message) for level, message, _ in logged()}


def test_the_manual_lists_every_field_of_a_log_message():
    rows = documented()

    assert [
        f"{message}: {sorted(missing)}"
        for level, message, fields in logged()
        if (missing := fields - rows[level, message])
    ] == []


def test_a_log_message_is_constant():
    assert len(logged()) == sum(
        len(
            re.findall(
                r"\blog\.(?:debug|info|warning|error|critical|exception)\(|\bRequestRecord\(log\.name", text
            )
        )
        for text in (file.read_text() for file in ENGINE)
    )


SECURITY = [ROOT / "docs/bff/security.md", ROOT / "docs/bff/security-requirements.md"]


def test_the_tests_that_the_security_chapters_name_exist():
    for chapter in SECURITY:
        named = re.findall(r"`((?:template/)?test_\w+\.py)(?:::(\w+))?`", chapter.read_text())
        missing = [
            (file, test) for file, test in named if test not in names_of_tests(ROOT / "tests/bff" / file)
        ]

        assert named
        assert missing == []


@functools.cache
def names_of_tests(file: Path) -> set[str]:
    """The names of the tests in a file, and "" for the file itself; nothing if there is none."""
    if not file.is_file():
        return set()
    tree = ast.parse(file.read_text())
    return {
        "",
        *(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)),
    }


def test_a_requirement_has_a_test_or_says_why_it_has_none():
    rows = re.findall(r"^\| \d[^|]*\|[^|]*\|([^|]*)\|([^|]*)\|$", SECURITY[1].read_text(), re.MULTILINE)
    excuses = ("Not applicable", "Not kept", "Held by reading")

    assert len(rows) > 100
    assert [
        how for how, tests in rows if "`test_" not in tests and not any(map(how.__contains__, excuses))
    ] == []


def test_the_security_chapter_names_files_that_exist():
    text = SECURITY[0].read_text()
    files = re.findall(r"`((?:app/bff/|deploy/)?[\w/]+\.(?:py|conf))`", text)
    tests = [file for file in files if file.rpartition("/")[2].startswith("test_")]
    missing = [
        file
        for file in set(files) - set(tests)
        if not any((base / file).is_file() for base in (ROOT, ROOT / "app/bff"))
    ]

    assert missing == []


def test_the_changelog_begins_with_the_version_of_the_engine():
    changelog = (ROOT / "docs/bff/CHANGELOG.md").read_text()
    versions = re.findall(r"^## (\S+) \(\d{4}-\d\d-\d\d\)$", changelog, re.MULTILINE)

    assert versions[0] == ENGINE_VERSION
