"""The clients and users that are registered at the development provider."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
GRANT_TYPES = ("authorization_code", "refresh_token", "client_credentials", TOKEN_EXCHANGE)


@dataclass(frozen=True)
class User:
    sub: str
    name: str
    email: str
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()  # nested in `realm_access`, as Keycloak has them

    def claims(self, scope: str) -> dict[str, object]:
        """The claims that the scope requests (OpenID Connect Core §5.4); groups are part of `profile`."""
        scopes = scope.split()
        claims: dict[str, object] = {"sub": self.sub}
        if "profile" in scopes:
            claims |= {"name": self.name, "groups": [*self.groups], "realm_access": {"roles": [*self.roles]}}
        if "email" in scopes:
            claims |= {"email": self.email, "email_verified": True}
        return claims


USERS = {
    user.sub: user
    for user in (
        User("alice", "Alice Adams", "alice@example.com", ("staff", "admins"), ("user", "admin")),
        User("bob", "Bob Brown", "bob@example.com", ("staff",), ("user",)),
    )
}


@dataclass(frozen=True)
class Client:
    """A registered client. The methods implement Authlib's `ClientMixin`."""

    client_id: str
    client_secret: str = field(repr=False)
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uris: tuple[str, ...] = ()
    backchannel_logout_uri: str | None = None

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        """None: OpenID Connect wants the redirect URI spelled out (Core §3.1.2.1)."""

    def get_allowed_scope(self, scope: str | None) -> str:
        return scope or ""

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(self.client_secret.encode(), client_secret.encode())

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method in ("client_secret_basic", "client_secret_post")

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in GRANT_TYPES
