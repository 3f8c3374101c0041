"""The pages. Add yours here, and its route in `app/main.py`."""

from __future__ import annotations

from app.bff import (
    BaseHandler,
    authenticated,
    claim_entries,
    login_url,
    session_entries,
)


class Home(BaseHandler):
    async def get(self) -> None:
        self.render_page("home.html")


class Account(BaseHandler):
    """Who is signed in, since when, and for how long."""

    @authenticated
    async def get(self) -> None:
        session, now = self.require_session(), self.services.clock()
        self.render_page(
            "account.html",
            email=session.claims.get("email"),
            claims=list(claim_entries(session.claims)),
            signed_in_for=int(now - session.created_at),
            ends_in=int(session.expires_at - now),
        )


class SessionsPage(BaseHandler):
    """The browsers in which the user is signed in; the page's script signs them out."""

    @authenticated
    async def get(self) -> None:
        sessions = session_entries(await self.own_sessions(), current=self.require_session())
        self.render_page("sessions.html", sessions=sessions, now=int(self.services.clock()))


class SignedOut(BaseHandler):
    """Where a page goes when its session has ended; a browser that is signed in again goes back."""

    keeps_session_alive = False

    def get(self) -> None:
        return_path = self.requested_return_path
        if self.session is not None:
            self.redirect(return_path)
        else:
            reason = self.params.get("reason")
            self.render_page(
                "signed_out.html", reason=reason, login_url=login_url(return_path, self.login_requirements)
            )
