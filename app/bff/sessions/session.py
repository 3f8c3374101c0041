"""The session of one browser, its tokens, and the rules for its lifetime and number. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from app.bff.settings.models import TooMany
from app.bff.settings.validators import resource_uri

_PUBLIC_ID_LETTERS = 32
_WARNING_SECONDS = 120


class Reason(StrEnum):
    """Why a session has ended; shown on pages and in logs."""

    SIGNED_OUT = "signed_out"  # by its user, in its own browser
    SIGNED_OUT_ELSEWHERE = "signed_out_elsewhere"  # by its user, in another browser
    RENEWED = "renewed"  # replaced by a login of the same user in the same browser; not reported to pages
    SIGNED_IN_AGAIN = "signed_in_again"  # replaced by a login of another user in the same browser
    TOO_MANY = "too_many_sessions"
    PROVIDER = "provider"  # back-channel logout, or the provider rejected the refresh token
    NOT_ALLOWED = "not_allowed"  # the claims do not meet BFF_REQUIRE any more
    OPERATOR = "operator"
    EXPIRED = "expired"


_REASONS = {reason.value: reason for reason in Reason}


def known_reason(value: str) -> Reason:
    """Return the reason of a stored value; that of a newer release, which may be another, as EXPIRED."""
    return _REASONS.get(value, Reason.EXPIRED)


def session_ref(session_id: str) -> str:
    """Return the hash under which the server stores a session: a database dump opens no session."""
    return hashlib.sha256(session_id.encode()).hexdigest()


@dataclass(frozen=True)
class Target:
    """What an access token is for: scope, resource (RFC 8707), audience (RFC 8693).

    LOGIN (all fields empty) is the token from login. `exchanged` marks tokens from a token exchange
    (RFC 8693). Raises ValueError for an invalid resource.
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
        """The parameters of a token request for this target."""
        params = {"scope": self.scope, "resource": self.resource, "audience": self.audience}
        return {name: value for name, value in params.items() if value}


LOGIN = Target()


@dataclass(frozen=True)
class TokenSet:
    """Tokens from one token response, for `target`.

    `received_at` and `expires_at` are seconds since the epoch. `expires_at` is None without
    `expires_in` in the response: then the access token is renewed only after a 401 from an API.
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
        """Return how many seconds before it expires to renew the access token: at most `seconds`.

        At most a tenth of its lifetime: otherwise a token of a minute would be renewed at every call.
        """
        return min(seconds, (self.expires_at - self.received_at) / 10) if self.expires_at is not None else 0

    def updated_by(self, newer: TokenSet) -> TokenSet:
        """Return `newer`; a refresh token, ID token or scope that it lacks stays (RFC 6749 §6)."""
        return replace(
            newer,
            refresh_token=newer.refresh_token or self.refresh_token,
            id_token=newer.id_token or self.id_token,
            scope=newer.scope or self.scope,
        )

    def lasting_part(self, newer: TokenSet) -> TokenSet:
        """Return this one with the refresh and ID token of `newer`, which is for another target."""
        return replace(
            self,
            refresh_token=newer.refresh_token or self.refresh_token,
            id_token=newer.id_token or self.id_token,
        )


@dataclass(frozen=True)
class LogoutHint:
    """What the end of a session leaves for the logout at its provider (RP-Initiated Logout 1.0 §2).

    `issuer` and `client_id` (None: unknown) are those that `id_token` was issued by and for.
    """

    issuer: str
    client_id: str | None
    sid: str = field(repr=False)
    id_token: str = field(repr=False)


@dataclass(frozen=True)
class Session:
    """One signed-in browser.

    All times are seconds since the epoch. `sid` is the provider's id of its own session, or a random one
    if the provider sends none. `tokens` are those for LOGIN, `others` are access tokens for other
    targets; all are bound to `dpop_key`, a private JWK, if there is one. `device` describes the browser.
    `version` counts writes of tokens (fencing). `lease_taken_over` is set by SessionStore.lease alone, and
    not stored. `flashes` are messages for the next page, with their ids, which are stored beside the session.

    A handler has it as `self.session`. `claims` are those of the ID token and of userinfo, as of
    `claims_renewed_at`, and those that the application has `added` (their names) in `on_sign_in` or
    `on_refresh`; `changes` counts how often a refresh has changed them. A background job may store `ref`: it
    opens no session in a browser.

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
    claims_renewed_at: float = 0
    added: tuple[str, ...] = ()
    changes: int = 0
    flashes: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)
    lease_taken_over: bool = field(default=False, compare=False, repr=False)

    @property
    def public_id(self) -> str:
        """An id of the session that its user may see; it opens and finds nothing."""
        return hashlib.sha256(b"public " + self.ref.encode()).hexdigest()[:_PUBLIC_ID_LETTERS]

    @property
    def client_id(self) -> str | None:
        """The client that the login was for: `azp`, else the only `aud` (OIDC Core §2); None if unclear."""
        audience = self.claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        client_id = self.claims.get("azp", audiences[0] if len(audiences) == 1 else None)
        return client_id if isinstance(client_id, str) else None

    @property
    def logout_hint(self) -> LogoutHint | None:
        if self.tokens.id_token is None:
            return None
        return LogoutHint(self.issuer, self.client_id, self.sid, self.tokens.id_token)

    @property
    def without_refresh_token(self) -> Session:
        return replace(self, tokens=replace(self.tokens, refresh_token=None))

    def tokens_for(self, target: Target) -> TokenSet | None:
        if target is LOGIN or target == LOGIN:
            return self.tokens
        return next((tokens for tokens in self.others if tokens.target == target), None)

    def updated_by(self, newer: TokenSet, *, now: float) -> Session:
        """Return the session after a token response; expired access tokens are dropped."""
        others = tuple(
            other for other in self.others if other.target != newer.target and other.is_alive(now=now)
        )
        if newer.target == LOGIN:
            return replace(self, tokens=self.tokens.updated_by(newer), others=others)
        access_only = replace(newer, refresh_token=None, id_token=None)
        return replace(self, tokens=self.tokens.lasting_part(newer), others=(*others, access_only))


@dataclass(frozen=True)
class Lifetime:
    """The idle and the absolute time-out of sessions."""

    idle_seconds: int
    absolute_seconds: int

    def end(self, *, created_at: float, now: float) -> float:
        """Return when a session expires that was used `now`, in seconds since the epoch."""
        return min(now + self.idle_seconds, created_at + self.absolute_seconds)

    @property
    def warning_seconds(self) -> float:
        """How long before it expires its user is warned: at most a tenth of the idle time-out."""
        return min(_WARNING_SECONDS, self.idle_seconds / 10)


def excess_sessions(limit: int, sessions: Sequence[Session], too_many: TooMany) -> list[Session]:
    """Return those of a user's sessions, the oldest first, that exceed the limit.

    The new session is among them, since it is created before it is counted: two logins at the same
    moment see the same list, and decide alike.
    """
    return list(sessions[limit:] if too_many == "refuse" else sessions[:-limit])
