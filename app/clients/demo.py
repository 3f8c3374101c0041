"""The demo's API, which scripts/dev.sh runs, and a typed client for it.

To delete the demo, delete this file, app/handlers/todos.py, templates/todos.html, static/js/todos.js and
tests/test_api.py; then the lines that name them: /todos in app/main.py, templates/base.html and home.html,
"apiClient" and "/api" in app/settings.py.
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
