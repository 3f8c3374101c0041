"""Pages of the demo: what an API has for the user. Their scripts call the same API by themselves, at /api."""

from __future__ import annotations

from typing import Any

from app.bff import API_ERRORS, BaseHandler, authenticated
from app.clients.demo import DemoAdminClient, DemoClient


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


class Everyone(BaseHandler):
    """For admins: the development provider says that Alice is one, and Bob is not."""

    @authenticated(require={"groups": "admins"})
    async def get(self) -> None:
        self.render_page("everyone.html", totals=await self.create_client(DemoAdminClient).totals())
