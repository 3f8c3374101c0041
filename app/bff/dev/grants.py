"""Grants, authorization codes and tokens of the development provider."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

CODE_SECONDS = 60


@dataclass(frozen=True)
class ProviderSession:
    """The provider's session of one browser. Clients learn `sid`, never the cookie."""

    sub: str
    sid: str
    auth_time: int
    acr: str | None = None  # authentication context class; None: none was requested


@dataclass(eq=False)
class Grant:
    """One login at one client. Its tokens are a family: they end together."""

    client_id: str
    sub: str | None = None  # None: client credentials
    scope: str = ""
    resource: str | None = None  # the API that the access tokens are for
    sid: str = ""
    auth_time: int = 0
    acr: str | None = None
    nonce: str | None = None
    is_offline: bool = False  # its code brings a refresh token
    ended: bool = False


@dataclass(eq=False)
class Code:
    """An authorization code. The methods implement Authlib's interface."""

    value: str = field(repr=False)
    grant: Grant
    redirect_uri: str
    code_challenge: str
    expires_at: float
    code_challenge_method: str = "S256"
    jkt: str | None = None  # the thumbprint of the key that alone may redeem it
    used: bool = False

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.grant.scope


@dataclass(eq=False)
class TokenRecord:
    """An access or refresh token."""

    value: str = field(repr=False)
    grant: Grant
    scope: str
    expires_at: float
    resource: str | None = None
    jkt: str | None = None  # the thumbprint of the key that it is bound to
    refreshes: bool = False
    used: bool = False  # a one-time refresh token that has been exchanged
    revoked: bool = False

    @property
    def sub(self) -> str | None:
        return self.grant.sub

    @property
    def client_id(self) -> str:
        return self.grant.client_id

    def check_client(self, client: object) -> bool:
        return getattr(client, "client_id", None) == self.client_id

    def get_scope(self) -> str:
        return self.scope


def new_secret(prefix: str) -> str:
    """Return a random secret whose prefix names its kind, so that tests find it in logs."""
    return f"{prefix}-{secrets.token_urlsafe(32)}"


class Ledger:
    """Every issued code and token, and its validity."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._codes: dict[str, Code] = {}
        self._tokens: dict[str, TokenRecord] = {}
        self._revoked_sids: set[str] = set()

    def add_code(
        self, value: str, grant: Grant, redirect_uri: str, code_challenge: str, jkt: str | None
    ) -> None:
        expires_at = self._clock() + CODE_SECONDS
        self._codes[value] = Code(value, grant, redirect_uri, code_challenge, expires_at, jkt=jkt)

    def clients_of(self, sid: str) -> set[str]:
        """The clients with a login in this provider session."""
        return {code.grant.client_id for code in self._codes.values() if code.grant.sid == sid}

    def usable_code(self, value: str) -> Code | None:
        """None when unknown, too old or used; using one twice ends its grant (RFC 6749 §4.1.2)."""
        code = self._codes.get(value)
        if code is not None and code.used:
            code.grant.ended = True
        if code is None or code.used or code.expires_at <= self._clock():
            return None
        return code

    def add_access_token(
        self, value: str, grant: Grant, *, scope: str, resource: str | None, jkt: str | None, seconds: float
    ) -> None:
        expires_at = self._clock() + seconds
        self._tokens[value] = TokenRecord(value, grant, scope, expires_at, resource, jkt)

    def add_refresh_token(self, value: str, grant: Grant) -> None:
        never = float("inf")
        self._tokens[value] = TokenRecord(value, grant, grant.scope, never, refreshes=True)

    def find(self, value: str) -> TokenRecord | None:
        return self._tokens.get(value)

    def alive(self, value: str) -> TokenRecord | None:
        record = self._tokens.get(value)
        if record is None or record.used or record.revoked or record.grant.ended:
            return None
        return record if record.expires_at > self._clock() else None

    def access_token(self, value: str) -> TokenRecord | None:
        record = self.alive(value)
        return None if record is None or record.refreshes else record

    def usable_refresh_token(self, value: str) -> TokenRecord | None:
        """None if it is invalid; using a one-time token twice ends its grant (RFC 9700 §4.14.2)."""
        record = self._tokens.get(value)
        if record is None or not record.refreshes:
            return None
        if record.used:
            record.grant.ended = True
        return self.alive(value)

    def revoke(self, record: TokenRecord) -> None:
        """Revoke a token; a refresh token with its whole grant (RFC 7009 §2.1)."""
        record.revoked = True
        if record.refreshes:
            record.grant.ended = True
            self._revoked_sids.add(record.grant.sid)

    def has_revoked(self, sid: str) -> bool:
        """Whether a refresh token of this provider session was revoked."""
        return sid in self._revoked_sids

    def revoke_refresh_tokens(self) -> None:
        for record in self._tokens.values():
            record.revoked = record.revoked or record.refreshes
