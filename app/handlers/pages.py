"""The pages. Add yours here, and its route in `app/main.py`."""

from __future__ import annotations

from typing import Any

from app.bff import (
    API_ERRORS,
    BaseHandler,
    TypedClient,
    authenticated,
    claim_entries,
    local_path,
    login_url,
    session_entries,
)


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


class SessionsPage(BaseHandler):
    """Where the user is signed in, to end what should not be."""

    @authenticated
    async def get(self) -> None:
        sessions = session_entries(await self.own_sessions(), current=self.require_session())
        self.render_page("sessions.html", sessions=sessions, now=int(self.services.clock()))


class SignedOut(BaseHandler):
    """Where a page goes when its session has ended elsewhere; whoever is signed in after all goes back."""

    keeps_session_alive = False

    def get(self) -> None:
        return_path = local_path(self.params.get("returnUrl"))
        if self.session is not None:
            self.redirect(return_path)
        else:
            reason = self.params.get("reason")
            self.render_page(
                "signed_out.html", reason=reason, login_url=login_url(return_path, self.login_requirements)
            )
