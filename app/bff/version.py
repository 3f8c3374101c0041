"""The versions that a bug report needs."""

from __future__ import annotations

import platform

import tornado

from app.bff.paths import pyproject

ENGINE_VERSION = "2.0.0"  # docs/bff/CHANGELOG.md says what changed


def describe_versions() -> str:
    """Return the versions of the application, the engine, Tornado and Python, in one line."""
    project = pyproject()["project"]
    return (
        f"{project['name']} {project['version']} (engine {ENGINE_VERSION},"
        f" Tornado {tornado.version}, Python {platform.python_version()})"
    )
