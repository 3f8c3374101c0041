"""The README tells the truth about settings and routes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from app.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ROWS = dict(re.findall(r"^\| `(BFF_\w+)` \| (.*?) \|", README, re.MULTILINE))


def test_the_settings_table_names_every_setting_and_no_other():
    assert set(ROWS) == {f"BFF_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("name", [name for name, default in ROWS.items() if default.startswith("`")])
def test_the_settings_table_has_the_default_that_the_code_has(name: str):
    default = Settings.model_fields[name.removeprefix("BFF_").lower()].default
    written = default if isinstance(default, str) else json.dumps(default)

    assert ROWS[name] == f"`{written}`"


@pytest.mark.parametrize("path", re.findall(r"`((?:app|tests|static|scripts|templates)/[\w./]+)`", README))
def test_every_file_that_the_readme_names_is_there(path: str):
    assert (ROOT / path).exists()
