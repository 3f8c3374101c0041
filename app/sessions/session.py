"""The session: our record for one browser, and the tokens in it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

_ID_BYTES = 32  # 256 bits; RFC 10017 and OWASP ask for at least 128


def new_session_id() -> str:
    """Return what stands in the browser's cookie, and nowhere else."""
    return secrets.token_urlsafe(_ID_BYTES)


def session_ref(session_id: str) -> str:
    """Return what the server keeps instead of the session id: a dump of it opens no session."""
    return hashlib.sha256(session_id.encode()).hexdigest()


@dataclass(frozen=True)
class TokenSet:
    """Tokens from one token response.

    `received_at` and `expires_at` are seconds since the epoch. `expires_at` is None when the
    provider did not say: then only an API's 401 tells that the access token is over.
    """

    access_token: str = field(repr=False)
    received_at: float
    expires_at: float | None = None
    refresh_token: str | None = field(default=None, repr=False)
    id_token: str | None = field(default=None, repr=False)
    scope: str | None = None

    def is_alive(self, *, now: float) -> bool:
        return self.expires_at is None or now < self.expires_at

    def is_fresh(self, *, margin_seconds: float, now: float) -> bool:
        """Whether it is early enough to hand out the access token without refreshing it.

        The margin is never more than a tenth of the lifetime: a token that lives for a minute
        would otherwise be refreshed at every call.
        """
        if self.expires_at is None:
            return True
        margin = min(margin_seconds, (self.expires_at - self.received_at) / 10)
        return now < self.expires_at - margin

    def updated_by(self, newer: TokenSet) -> TokenSet:
        """Return `newer`; a refresh or id token that it leaves out is kept (RFC 6749 §6)."""
        return replace(
            newer,
            refresh_token=newer.refresh_token or self.refresh_token,
            id_token=newer.id_token or self.id_token,
            scope=newer.scope or self.scope,
        )


@dataclass(frozen=True)
class Session:
    """One signed-in browser.

    All times are seconds since the epoch. `sid` is the provider's name for its own session, or one
    we made up where it has none. `version` counts the writes of tokens.
    """

    ref: str
    issuer: str
    subject: str
    sid: str = field(repr=False)
    claims: Mapping[str, Any] = field(repr=False)
    tokens: TokenSet
    created_at: float
    renewed_at: float
    expires_at: float
    session_state: str | None = None
    version: int = 1


@dataclass(frozen=True)
class Lifetime:
    """How long a session lasts: without a request, and at the most."""

    idle_seconds: int
    absolute_seconds: int

    def end(self, *, created_at: float, now: float) -> float:
        """Return when a session ends that was last used `now`."""
        return min(now + self.idle_seconds, created_at + self.absolute_seconds)
