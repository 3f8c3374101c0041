"""The user and the sessions endpoint: claims of the signed-in user, and all sessions of theirs."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tornado.web import HTTPError

from app.bff.errors import NoSession
from app.bff.handlers.authenticated import authenticated
from app.bff.handlers.base import ApiHandler
from app.bff.sessions.session import Reason, Session
from app.bff.web.user_agents import describe_user_agent

Entry = dict[str, Any]

# Claims about the ID token, not about the user, and where claims are that it lacks.
_TOKEN_CLAIMS = {"iss", "aud", "azp", "exp", "iat", "nbf", "jti", "nonce", "at_hash", "c_hash", "s_hash"} | {
    *("_claim_names", "_claim_sources", "hasgroups")
}


class User(ApiHandler):
    """The claims of the signed-in user, in Duende.BFF's format; with `typed=true` they keep their types."""

    own_params = ("slide", "typed")

    @property
    def keeps_session_alive(self) -> bool:  # type: ignore[override]
        return self.params.get("slide", "").lower() != "false"

    async def get(self) -> None:
        if self.session is None and self.services.settings.anonymous_session_response == "401":
            raise NoSession("there is no session")
        self.finish_json(self.session and self._entries(self.session))

    def _entries(self, session: Session) -> list[Entry]:
        typed = self.params.get("typed", "").lower() == "true"
        logout_url, names = self.logout_url or "", self.services.settings.user_claims
        return user_entries(
            session, names=names, logout_url=logout_url, now=self.services.clock(), typed=typed
        )


class Sessions(ApiHandler):
    """The sessions of the user, in all browsers."""

    @authenticated
    async def get(self) -> None:
        self.finish_json(session_entries(await self.own_sessions(), current=self.require_session()))

    @authenticated
    async def delete(self) -> None:
        """End all sessions but the current one."""
        current = self.require_session().ref
        others = [session for session in await self.own_sessions() if session.ref != current]
        await self.services.tokens.end_all(others, Reason.SIGNED_OUT_ELSEWHERE)
        self.set_status(204)


class OneSession(ApiHandler):
    @authenticated
    async def delete(self, public_id: str) -> None:
        """End one session of the user; 404 if the user has no such session."""
        for session in await self.own_sessions():
            if session.public_id == public_id:
                return await self._end(session)
        raise HTTPError(404)

    async def _end(self, session: Session) -> None:
        is_current = session.ref == self.require_session().ref
        await self.services.tokens.end(
            session.ref, Reason.SIGNED_OUT if is_current else Reason.SIGNED_OUT_ELSEWHERE
        )
        if is_current:
            self.clear_session_cookie()
        self.set_status(204)


def user_entries(
    session: Session, *, names: Collection[str] = (), logout_url: str, now: float, typed: bool = False
) -> list[Entry]:
    """Return `{type, value}` entries for a session: its claims, of `names` if there are any, then our own.

    Those have the prefix `bff:`. Claims are strings, as .NET's claims are, unless `typed`.
    """
    shown = {name: value for name, value in session.claims.items() if not names or name in names}
    entries = list(claim_entries(shown))
    if not typed:
        entries = [{**entry, "value": _as_string(entry["value"])} for entry in entries]
    entries.append({"type": "bff:logout_url", "value": logout_url})
    entries.append({"type": "bff:session_expires_in", "value": int(session.expires_at - now)})
    if session.session_state is not None:
        entries.append({"type": "bff:session_state", "value": session.session_state})
    return entries


def _as_string(value: Any) -> str:
    """Return the value of a claim as .NET's JWT handler spells it: `true`, `17`, null as nothing."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)


def session_entries(sessions: Sequence[Session], *, current: Session) -> list[Entry]:
    """Return what users may see of their sessions: first `current`, then the others, last used first.

    Each entry has `id` (opens nothing; `DELETE /bff/sessions/{id}` ends the session), `device`, `current`,
    and `created_at`, `last_used_at`, `expires_at` in seconds since the epoch.

    Example::

        class Devices(ApiHandler):
            @authenticated
            async def get(self) -> None:
                sessions = await self.own_sessions()
                self.finish_json(session_entries(sessions, current=self.require_session()))
    """
    return [
        {
            "id": session.public_id,
            "device": session.device or describe_user_agent(""),
            "created_at": int(session.created_at),
            "last_used_at": int(session.renewed_at),
            "expires_at": int(session.expires_at),
            "current": session.ref == current.ref,
        }
        for session in sorted(sessions, key=lambda session: (session.ref != current.ref, -session.renewed_at))
    ]


def claim_entries(claims: Mapping[str, Any]) -> Iterator[Entry]:
    """Yield the claims about the user: an array as repeated entries, an object as JSON text.

    Numbers, booleans and null keep their type. Claims about the ID token itself (`iss`, `aud`, `exp` …) are
    left out.

    >>> list(claim_entries({"sub": "alice", "iss": "https://idp.example.com"}))
    [{'type': 'sub', 'value': 'alice'}]
    >>> list(claim_entries({"roles": ["admin", "sales"]}))
    [{'type': 'roles', 'value': 'admin'}, {'type': 'roles', 'value': 'sales'}]
    """
    for name, value in claims.items():
        if name not in _TOKEN_CLAIMS:
            for member in value if isinstance(value, list) else [value]:
                yield {
                    "type": name,
                    "value": json.dumps(member) if isinstance(member, dict | list) else member,
                }
