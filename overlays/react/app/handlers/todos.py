"""Data of this application, made of an API's. The to-do list itself is the API's, forwarded at /api."""

from __future__ import annotations

from app.bff import ApiHandler, authenticated
from app.clients.demo import DemoClient


class TodoCounts(ApiHandler):
    @authenticated
    async def get(self) -> None:
        todos = await self.create_client(DemoClient).todos()
        done = sum(todo["done"] for todo in todos)
        self.finish_json({"open": len(todos) - done, "done": done})
