"""What a page's JavaScript may know of the session."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from app.handlers.base import ApiHandler, authenticated
from app.sessions.session import Session

Entry = dict[str, Any]

# Claims that are about the id token and say nothing of the user.
_OF_THE_TOKEN = {"iss", "aud", "azp", "exp", "iat", "nbf", "jti", "nonce", "at_hash", "c_hash", "s_hash"}


class User(ApiHandler):
    """The claims of the signed-in user, in Duende.BFF's format."""

    @property
    def keeps_session_alive(self) -> bool:  # type: ignore[override]
        return self.params.get("slide") != "false"

    @authenticated
    async def get(self) -> None:
        assert self.session is not None
        entries = user_entries(self.session, logout_url=self.logout_url or "", now=self.services.clock())
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(entries))


def user_entries(session: Session, *, logout_url: str, now: float) -> list[Entry]:
    """Return `{type, value}` entries for a session: its claims, then what we add."""
    entries = list(claim_entries(session.claims))
    entries.append({"type": "bff:logout_url", "value": logout_url})
    entries.append({"type": "bff:session_expires_in", "value": int(session.expires_at - now)})
    if session.session_state is not None:
        entries.append({"type": "bff:session_state", "value": session.session_state})
    return entries


def claim_entries(claims: Mapping[str, Any]) -> Iterator[Entry]:
    """Yield the claims about the user: an array as repeated entries, an object as JSON text."""
    for name, value in claims.items():
        if name not in _OF_THE_TOKEN:
            for member in value if isinstance(value, list) else [value]:
                yield {
                    "type": name,
                    "value": json.dumps(member) if isinstance(member, dict | list) else member,
                }
