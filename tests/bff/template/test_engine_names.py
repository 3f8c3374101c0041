"""The engine names no module, page, file, client or setting that a generated project begins with."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from app.bff import BffSettings
from app.main import ROUTES
from app.settings import HTTP_CLIENTS, REMOTE_APIS, Settings

ROOT = Path(__file__).parents[3]
QUOTED = re.compile(r"""["'`]([^"'`\n]+)["'`]""")


def owner_files(folder: str) -> Iterator[str]:
    """The files of the owner under a folder, as code names them: relative to it."""
    files = (file.relative_to(ROOT / folder) for file in (ROOT / folder).rglob("*") if file.is_file())
    return (file.as_posix() for file in files if "bff" not in file.parts and "__pycache__" not in file.parts)


def owner_modules() -> Iterator[str]:
    files = (name for name in owner_files("app") if name.endswith(".py") and not name.endswith("__init__.py"))
    return (f"app.{name.removesuffix('.py').replace('/', '.')}" for name in files if name != "__main__.py")


def owner_names() -> set[str]:
    pages = (rule.matcher.regex.pattern.rstrip("$") for rule in ROUTES)
    return {
        *owner_modules(),
        *owner_files("templates"),
        *(
            name for name in owner_files("static") if name != "favicon.ico"
        ),  # browsers look there by themselves
        *(page for page in pages if page != "/"),
        *(rule.target.__name__ for rule in ROUTES),
        *HTTP_CLIENTS,
        *(api.path for api in REMOTE_APIS),
        *(Settings.model_fields.keys() - BffSettings.model_fields.keys()),
    }


def strings(file: Path) -> set[str]:
    """The strings of a file; for Python without docstrings, whose examples are of a project."""
    if file.suffix != ".py":
        return set(QUOTED.findall(file.read_text()))
    nodes = list(ast.walk(ast.parse(file.read_text())))
    statements = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    constants = (node for node in nodes if isinstance(node, ast.Constant) and id(node) not in statements)
    return {node.value for node in constants if isinstance(node.value, str)}


def test_no_file_of_the_engine_names_what_is_its_owners():
    names, texts = owner_names(), (".py", ".html", ".js", ".css")
    files = (
        file for folder in ("app/bff", "templates/bff", "static/bff") for file in (ROOT / folder).rglob("*")
    )
    found = {file.name: strings(file) & names for file in files if file.suffix in texts}

    assert {"base.html", "app.main", "/account", "apiClient", "Account"} <= names
    assert {name: named for name, named in found.items() if named} == {}
