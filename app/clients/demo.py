"""The demo's API, which scripts/dev.sh runs, and a typed client for it.

To delete the demo, delete

1. the files: this one, app/handlers/todos.py, templates/todos.html, templates/everyone.html,
   static/js/todos.js, static/js/everyone.js, tests/test_api.py;
2. the lines with "todos" in app/main.py, templates/base.html and templates/home.html;
3. the lines with apiClient, DEMO_API_URL and "import os" in app/settings.py;

and run `.venv/bin/ruff check --fix` and `.venv/bin/ruff format`, for the blank lines that are left.
"""

from __future__ import annotations

from typing import Any

from app.bff import TypedClient


class DemoClient(TypedClient):
    """Calls the API with the user's access token: app/settings.py says so for `name`."""

    name = "apiClient"

    async def todos(self) -> list[dict[str, Any]]:
        async with self.api.get("todos", raise_for_status=True) as response:
            return list(await response.json())

    async def echo(self) -> dict[str, Any]:
        """Return the request as the API received it, without the token."""
        async with self.api.get("echo", raise_for_status=True) as response:
            return dict(await response.json())


class DemoAdminClient(TypedClient):
    name = "apiClientForAdmins"

    async def totals(self) -> dict[str, int]:
        """Return how many to-dos each user has."""
        async with self.api.get("todos", raise_for_status=True) as response:
            return dict(await response.json())
