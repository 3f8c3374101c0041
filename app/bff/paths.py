"""Paths of the engine's routes, and of the project's folder."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any


def project_folder(package: Path) -> Path:
    """Return where templates/, static/ and pyproject.toml are: in a wheel inside `app`, else beside it."""
    return package if (package / "templates").is_dir() else package.parent


PROJECT = project_folder(Path(__file__).resolve().parents[1])


@functools.cache
def pyproject() -> dict[str, Any]:
    """Return what the project's pyproject.toml has; nothing where there is none."""
    try:
        return tomllib.loads((PROJECT / "pyproject.toml").read_text())
    except OSError:
        return {}


LOGIN_PATH = "/bff/login"
SILENT_LOGIN_PATH = "/bff/silent-login"
CALLBACK_PATH = "/bff/callback"
LOGOUT_PATH = "/bff/logout"
LOGOUT_CALLBACK_PATH = "/bff/logout/callback"
USER_PATH = "/bff/user"
SESSIONS_PATH = "/bff/sessions"
EVENTS_PATH = "/bff/events"
# Called by front ends, also in capitals or with a slash at the end, as ASP.NET routes; not the routes of the
# provider and of proxies, which know exact URLs.
IN_ANY_SPELLING = frozenset(
    {LOGIN_PATH, SILENT_LOGIN_PATH, LOGOUT_PATH, USER_PATH, SESSIONS_PATH, EVENTS_PATH}
)
FORWARD_AUTH_PATH = "/bff/forward-auth"
BACKCHANNEL_PATH = "/bff/backchannel"
FRONTCHANNEL_PATH = "/bff/frontchannel"
ALIVE_PATH = "/healthz"
READY_PATH = "/readyz"
