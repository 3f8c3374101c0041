"""The session: our record for one browser, and the tokens in it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from app.bff.settings.models import TooMany
from app.bff.settings.validators import resource_uri

_ID_BYTES = 32  # 256 bits; RFC 10017 and OWASP ask for at least 128
_PUBLIC_ID_LETTERS = 32
_WARNING_SECONDS = 120


class Reason(StrEnum):
    """Why a session has ended; pages and logs show it."""

    SIGNED_OUT = "signed_out"  # in its own browser
    SIGNED_OUT_ELSEWHERE = "signed_out_elsewhere"  # by its user, in another one
    RENEWED = "renewed"  # by a login of its user in its browser: nobody else has to know
    SIGNED_IN_AGAIN = "signed_in_again"  # by somebody else, in its browser
    TOO_MANY = "too_many_sessions"
    PROVIDER = "provider"  # signed out there, or its refresh token is dead
    OPERATOR = "operator"
    EXPIRED = "expired"


def new_session_id() -> str:
    """Return what stands in the browser's cookie, and nowhere else."""
    return secrets.token_urlsafe(_ID_BYTES)


def session_ref(session_id: str) -> str:
    """Return what the server keeps instead of the session id: a dump of it opens no session."""
    return hashlib.sha256(session_id.encode()).hexdigest()


@dataclass(frozen=True)
class Target:
    """What an access token is for: scope, resource (RFC 8707), audience (RFC 8693).

    LOGIN, the empty one, is what was asked for at login. `exchanged` tells a token that was got in
    exchange for the user's own from one that a refresh has brought. Raises ValueError for a resource
    that is none.
    """

    scope: str | None = None
    resource: str | None = None
    audience: str | None = None
    exchanged: bool = False

    def __post_init__(self) -> None:
        if self.resource is not None:
            resource_uri(self.resource)

    @property
    def params(self) -> dict[str, str]:
        """What a token request says of it."""
        params = {"scope": self.scope, "resource": self.resource, "audience": self.audience}
        return {name: value for name, value in params.items() if value}


LOGIN = Target()


@dataclass(frozen=True)
class TokenSet:
    """Tokens from one token response, for `target`.

    `received_at` and `expires_at` are seconds since the epoch. `expires_at` is None when the
    provider did not say: then only an API's 401 tells that the access token is over.
    """

    access_token: str = field(repr=False)
    received_at: float
    expires_at: float | None = None
    refresh_token: str | None = field(default=None, repr=False)
    id_token: str | None = field(default=None, repr=False)
    scope: str | None = None
    target: Target = LOGIN

    def is_alive(self, *, now: float) -> bool:
        return self.expires_at is None or now < self.expires_at

    def margin(self, seconds: float) -> float:
        """Return how long before its end to renew the access token: `seconds`, or less.

        Never more than a tenth of its lifetime: a token that lives for a minute would otherwise be
        renewed at every call.
        """
        return min(seconds, (self.expires_at - self.received_at) / 10) if self.expires_at is not None else 0

    def updated_by(self, newer: TokenSet) -> TokenSet:
        """Return `newer`; a refresh or id token that it leaves out is kept (RFC 6749 §6)."""
        return replace(
            newer,
            refresh_token=newer.refresh_token or self.refresh_token,
            id_token=newer.id_token or self.id_token,
            scope=newer.scope or self.scope,
        )

    def lasting_part(self, newer: TokenSet) -> TokenSet:
        """Return this one with what `newer`, for another target, brings for the whole session."""
        return replace(
            self,
            refresh_token=newer.refresh_token or self.refresh_token,
            id_token=newer.id_token or self.id_token,
        )


@dataclass(frozen=True)
class Session:
    """One signed-in browser.

    All times are seconds since the epoch. `sid` is the provider's name for its own session, or one
    we made up where it has none. `tokens` are those of the login, `others` are access tokens for
    other targets. `dpop_key`, a private JWK, is what they are bound to. `device` says in words which
    browser it is. `version` counts the writes of tokens.

    A handler has it as `self.session`. `claims` are those of the ID token and of userinfo, `ref` is what a
    background job may keep: it opens nothing in a browser.

    Example::

        class Name(ApiHandler):
            @authenticated
            async def get(self) -> None:
                session = self.require_session()
                self.finish_json([session.subject, session.claims.get("name"), session.expires_at])
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
    others: tuple[TokenSet, ...] = ()
    dpop_key: Mapping[str, str] | None = field(default=None, repr=False)
    device: str = ""
    version: int = 1

    @property
    def public_id(self) -> str:
        """A name for the session that its user may see: nothing can be found or opened with it."""
        return hashlib.sha256(b"public " + self.ref.encode()).hexdigest()[:_PUBLIC_ID_LETTERS]

    def tokens_for(self, target: Target) -> TokenSet | None:
        if target is LOGIN or target == LOGIN:
            return self.tokens
        return next((tokens for tokens in self.others if tokens.target == target), None)

    def updated_by(self, newer: TokenSet, *, now: float) -> Session:
        """Return the session after a token response. Of access tokens, only what is over is lost."""
        others = tuple(
            other for other in self.others if other.target != newer.target and other.is_alive(now=now)
        )
        if newer.target == LOGIN:
            return replace(self, tokens=self.tokens.updated_by(newer), others=others)
        access_only = replace(newer, refresh_token=None, id_token=None)
        return replace(self, tokens=self.tokens.lasting_part(newer), others=(*others, access_only))


@dataclass(frozen=True)
class Lifetime:
    """How long a session lasts: without a request, and at the most."""

    idle_seconds: int
    absolute_seconds: int

    def end(self, *, created_at: float, now: float) -> float:
        """Return when a session ends that was last used `now`."""
        return min(now + self.idle_seconds, created_at + self.absolute_seconds)

    @property
    def warning_seconds(self) -> float:
        """How long before the end its user is warned: never for more than a tenth of the idle time."""
        return min(_WARNING_SECONDS, self.idle_seconds / 10)


def excess_sessions(limit: int, sessions: Sequence[Session], too_many: TooMany) -> list[Session]:
    """Return those of a user's sessions, the oldest first, that exceed the limit.

    The new session is among them, since it is created before it is counted: two logins at the same
    moment see the same list, and decide alike.
    """
    return list(sessions[limit:] if too_many == "refuse" else sessions[:-limit])
