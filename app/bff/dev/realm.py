"""State of the development provider, and the switches that make it misbehave."""

from __future__ import annotations

import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence

from app.bff.dev.grants import Grant, Ledger, TokenRecord
from app.bff.dev.keys import MALFORMED_KEYS, SigningKeys
from app.bff.dev.registrations import USERS, Client, User

ID_TOKEN_SECONDS = 300
LOGOUT_TOKEN_SECONDS = 120
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
UNSET = object()


class Realm:
    """Clients, users, keys and grants. Every switch is an attribute; tests assign it."""

    issuer = ""
    access_token_seconds: int = 300
    expires_in: object = UNSET  # sent as it stands; None leaves the member out
    rotates: bool = True  # one-time refresh tokens; False: the first stays valid and is not sent again
    issues_refresh_token: bool = True
    refresh_returns_id_token: bool = True
    signing_alg: str = "RS256"  # "ES256"; "HS256" signs with the client secret; "none" does not sign
    signs_with_unpublished_key: bool = False  # the kid is right, the signature is not
    publishes_malformed_keys: bool = False
    acrs: tuple[str, ...] = ("pwd", "mfa")  # supported acr values; others are ignored
    refuses_other_acrs: bool = False  # True: answered by unmet_authentication_requirements
    sessions_end_with_their_grants: bool = False  # as Keycloak's: see BrowserLogin.end_session
    requires_par: bool = False  # an authorization request that was not pushed is refused
    refused_scopes: frozenset[str] = frozenset()  # each is an invalid_scope
    form_post_scopes: frozenset[str] = frozenset()  # each needs response_mode=form_post
    offline_params: Mapping[str, str] | None = (
        None  # bring a refresh token; None: the scope offline_access does
    )
    audience_names_api: bool = (
        False  # `audience` of an authorization request names the API, as `resource` does
    )
    further_audiences: tuple[str, ...] = ()  # in `aud` beside the client
    demands_logout_hint: bool = False  # a logout without id_token_hint is answered with an error page
    logout_uri_parameter: str = "post_logout_redirect_uri"  # another one must be there, and `state` is lost
    dpop_nonce: str | None = None  # what every DPoP proof at the token endpoint must carry
    userinfo_nonce: str | None = None  # what every proof at the userinfo endpoint must carry

    def __init__(self, clients: Sequence[Client], clock: Callable[[], float]) -> None:
        self.clients = {client.client_id: client for client in clients}
        self.users: Mapping[str, User] = USERS
        self.clock = clock
        self.ledger = Ledger(clock)
        self.refuses_targets: set[str] = set()  # each `resource` or `audience` in it is an invalid_target
        # Of "id_token", "id_token_header", "logout_token", "logout_token_header", "userinfo", "metadata",
        # "callback", "token", "jwk", by member; None removes a member.
        self.overrides: dict[str, dict[str, object]] = {}
        self._keys = SigningKeys()
        self._id_tokens: dict[str, Grant] = {}  # each one ever issued

    def with_overrides(self, subject: str, members: Mapping[str, object]) -> dict[str, object]:
        """Return the members with those of `overrides` applied."""
        overridden = {**members, **self.overrides.get(subject, {})}
        return {name: value for name, value in overridden.items() if value is not None}

    def rotate_keys(self) -> None:
        """Sign with a new key under a new kid; the old one disappears from the jwks."""
        self._keys.rotate()

    def jwks(self) -> dict[str, object]:
        malformed = MALFORMED_KEYS if self.publishes_malformed_keys else []
        return {"keys": malformed + [self.with_overrides("jwk", key) for key in self._keys.published()]}

    def is_active(self, token: str) -> bool:
        """Whether this access or refresh token is valid."""
        return self.ledger.alive(token) is not None

    def access_token(self, token: str) -> TokenRecord | None:
        """None when it is unknown, expired or revoked."""
        return self.ledger.access_token(token)

    def end_all_grants(self) -> None:
        """Every refresh token is now invalid_grant. Access tokens live until they expire."""
        self.ledger.revoke_refresh_tokens()

    def issue_id_token(self, grant: Grant, access_token: str, nonce: str | None) -> str:
        id_token = self._signed("id_token", {}, self._claims(grant, access_token, nonce), grant.client_id)
        self._id_tokens[id_token] = grant
        return id_token

    def logout_token(self, client_id: str, *, sub: str | None = None, sid: str | None = None) -> str:
        """OpenID Connect Back-Channel Logout 1.0 §2.4."""
        now = int(self.clock())
        claims = {
            "iss": self.issuer,
            "aud": client_id,
            "iat": now,
            "exp": now + LOGOUT_TOKEN_SECONDS,
            "jti": secrets.token_urlsafe(12),
            "events": {LOGOUT_EVENT: {}},
            "sub": sub,
            "sid": sid,
        }
        return self._signed("logout_token", {"typ": "logout+jwt"}, claims, client_id)

    def signed_response(self, client_id: str, response: Mapping[str, object]) -> str:
        """An authorization response as a JWT (JARM §2.1)."""
        claims = {"iss": self.issuer, "aud": client_id, "exp": int(self.clock()) + 60, **response}
        return self._signed("authorization_response", {}, claims, client_id)

    def _signed(
        self, kind: str, header: Mapping[str, object], claims: Mapping[str, object], client_id: str
    ) -> str:
        alg = self.signing_alg
        return self._keys.sign(
            self.with_overrides(f"{kind}_header", {**self._keys.header(alg), **header}),
            self.with_overrides(kind, claims),
            alg=alg,
            secret=self.clients[client_id].client_secret,
            forged=self.signs_with_unpublished_key,
        )

    def client_of_id_token(self, id_token: str) -> Client | None:
        """The client of an ID token, expired or not; None if it was not issued here."""
        grant = self._id_tokens.get(id_token)
        return self.clients.get(grant.client_id) if grant else None

    def sid_of_id_token(self, id_token: str) -> str | None:
        grant = self._id_tokens.get(id_token)
        return grant.sid if grant else None

    def _claims(self, grant: Grant, access_token: str, nonce: str | None) -> dict[str, object]:
        now = int(self.clock())
        return {
            **self.users[grant.sub or ""].claims(grant.scope),
            "iss": self.issuer,
            "aud": [grant.client_id, *self.further_audiences] if self.further_audiences else grant.client_id,
            "azp": grant.client_id if self.further_audiences else None,
            "iat": now,
            "exp": now + ID_TOKEN_SECONDS,
            "auth_time": grant.auth_time,
            "acr": grant.acr,
            "sid": grant.sid,
            "at_hash": at_hash(access_token),
            "nonce": nonce,
        }


def at_hash(access_token: str) -> str:
    """For every algorithm that ends in 256 (OpenID Connect Core §3.1.3.6)."""
    half = hashlib.sha256(access_token.encode("ascii")).digest()[:16]
    return urlsafe_b64encode(half).rstrip(b"=").decode()
