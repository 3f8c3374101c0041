"""The demo's API, which scripts/dev.sh runs, and a typed client for it.

To delete the demo, delete

1. the files: this one, app/handlers/todos.py, frontend/src/pages/Todos.tsx, tests/test_api.py;
2. what is about to-dos in app/main.py, frontend/src/App.tsx, its test, and frontend/src/pages/Home.tsx;
3. the lines with "apiClient", DEMO_API_URL and "import os" in app/settings.py.
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
