"""Which room of a generated project a file belongs to."""

from __future__ import annotations

from pathlib import PurePosixPath

# In neither room: what builds, checks, configures and deploys. An update merges into these.
SHARED = {
    ".dockerignore",
    ".editorconfig",
    ".env.example",
    ".gitattributes",
    ".gitignore",
    ".pre-commit-config.yaml",
    ".ruff.toml",
    "Dockerfile",
    "compose.yaml",
    "mypy.ini",
    "pyproject.toml",
    "pytest.ini",
    "requirements/dev.txt",
    "requirements/speed.txt",
    "requirements/metrics.txt",
    "requirements/tracing.txt",
    "setup.py",
}
SHARED_FOLDERS = ("deploy/", "scripts/")


def is_engine(name: str) -> bool:
    return "bff" in PurePosixPath(name).parts[:-1] or name == "requirements/bff.txt"


def is_shared(name: str) -> bool:
    return name in SHARED or name.startswith(SHARED_FOLDERS)
