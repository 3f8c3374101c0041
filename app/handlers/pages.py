"""The pages. Add yours here, and its route in `app/main.py`."""

from __future__ import annotations

from typing import Any

from app.clients.registry import API_ERRORS, TypedClient
from app.handlers.base import BaseHandler, authenticated
from app.handlers.session import claim_entries


class Home(BaseHandler):
    async def get(self) -> None:
        self.render_page("home.html")


class DemoClient(TypedClient):
    """A typed client for the demo API: the token is put on by the named client that it is bound to."""

    name = "apiClient"

    async def echo(self) -> dict[str, Any]:
        async with self.api.get("echo", raise_for_status=True) as response:
            return dict(await response.json())

    async def todos(self) -> list[dict[str, Any]]:
        async with self.api.get("todos", raise_for_status=True) as response:
            return list(await response.json())


class Account(BaseHandler):
    """Who is signed in, for how long, and what the demo API answers for them."""

    @authenticated
    async def get(self) -> None:
        assert self.session is not None
        self.render_page(
            "account.html",
            claims=list(claim_entries(self.session.claims)),
            session_expires_in=int(self.session.expires_at - self.services.clock()),
            **await self._api(),
        )

    async def _api(self) -> dict[str, Any]:
        demo = self.create_client(DemoClient)
        try:
            answer, todos = await demo.echo(), await demo.todos()
        except API_ERRORS:
            return {"api_answer": None, "todos": None, "api_error": "The demo API did not answer."}
        return {"api_answer": answer, "todos": todos, "api_error": None}
