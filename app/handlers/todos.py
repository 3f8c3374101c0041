"""A page of the demo: what an API has for the user. Its script calls the same API by itself, at /api."""

from __future__ import annotations

from typing import Any

from app.bff import API_ERRORS, BaseHandler, authenticated
from app.clients.demo import DemoClient


class Todos(BaseHandler):
    @authenticated
    async def get(self) -> None:
        self.render_page("todos.html", **await self._data())

    async def _data(self) -> dict[str, Any]:
        demo = self.create_client(DemoClient)
        try:
            return {"todos": await demo.todos(), "echo": await demo.echo()}
        except API_ERRORS:
            return {"todos": None, "echo": None}
