"""Pages that show what the engine gives to a page: the user, the claims, the sessions, an API's answer."""

from __future__ import annotations

import asyncio
from typing import Any

from app.bff import (
    API_ERRORS,
    BaseHandler,
    TypedClient,
    authenticated,
    claim_entries,
    login_url,
    session_entries,
)


class Home(BaseHandler):
    def get(self) -> None:
        self.render_page("home.html")


class EchoClient(TypedClient):
    name = "apiClient"

    async def echo(self) -> dict[str, Any]:
        async with self.api.get("echo", raise_for_status=True) as response:
            return dict(await response.json())


class Account(BaseHandler):
    @authenticated
    async def get(self) -> None:
        claims = list(claim_entries(self.require_session().claims))
        try:
            answer = await self.create_client(EchoClient).echo()
        except API_ERRORS:
            answer = None
        self.render_page("account.html", claims=claims, api_answer=answer)


class SessionsPage(BaseHandler):
    @authenticated
    async def get(self) -> None:
        sessions = session_entries(await self.own_sessions(), current=self.require_session())
        self.render_page("sessions.html", sessions=sessions)


class SignedOut(BaseHandler):
    keeps_session_alive = False

    def get(self) -> None:
        return_path = self.requested_return_path
        if self.session is not None:
            self.redirect(return_path)
        else:
            reason, again = self.params.get("reason"), login_url(return_path)
            self.render_page("signed_out.html", reason=reason, login_url=again)


class Tasks(BaseHandler):
    """How many asyncio tasks this process has: what the soak plots."""

    keeps_session_alive = False

    def get(self) -> None:
        self.finish(str(len(asyncio.all_tasks())))
