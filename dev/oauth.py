"""Authlib's authorization server, with a Realm for its database."""
# Authlib is untyped:
# mypy: disable-error-code="import-untyped", allow-subclassing-any

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import AuthorizationServer, InvalidRequestError, OAuth2Request, grants
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from authlib.oidc.core import OpenIDCode
from tornado.httputil import HTTPServerRequest

from dev.grants import Code, Grant, ProviderSession, TokenRecord, new_secret
from dev.parties import Client, User
from dev.realm import UNSET, Realm
from dev.server import Answer, json_answer, params

AUTH_METHODS = ["client_secret_basic", "client_secret_post"]

# Authlib's grants write every token they issue to the DEBUG log.
logging.getLogger("authlib.oauth2.rfc6749.grants").setLevel(logging.INFO)


class Request(OAuth2Request):
    """Tornado's request in Authlib's words; `data` are the parameters that count."""

    def __init__(self, request: HTTPServerRequest, data: dict[str, str]) -> None:
        # Not the Host header: Authlib wants https or a loopback address, and this always is one.
        super().__init__(request.method, f"http://127.0.0.1{request.uri}", headers=request.headers)
        self.payload = BasicOAuth2Payload(data)

    @property
    def form(self) -> dict[str, str]:
        data: dict[str, str] = self.payload.data
        return data


class OAuth(AuthorizationServer):
    def __init__(self, realm: Realm) -> None:
        super().__init__()
        self.realm = realm
        self.register_client_auth_method("client_secret_basic", client_secret_basic)
        self.register_grant(AuthorizationCodeGrant, [RequiredPkce(), IdTokens(realm)])
        self.register_grant(RefreshTokenGrant, [IdTokens(realm)])
        self.register_grant(ClientCredentialsGrant)
        self.register_endpoint(Revocation)
        self.register_endpoint(Introspection)

    def authorize(self, request: Request, session: ProviderSession | None, *, asks: bool) -> Answer | None:
        """A redirect with a code or an error; None when somebody must be asked first.

        The caller has checked the client and its redirect URI, so that errors may go there.
        """
        answer: Answer
        try:
            grant = self.get_consent_grant(request, end_user=session)
        except OAuth2Error as error:
            error.redirect_uri = request.payload.redirect_uri
            answer = self.handle_error_response(request, error)
            return answer
        if asks and (grant.prompt or session is None):
            return None
        answer = self.create_authorization_response(request, grant_user=session, grant=grant)
        return answer

    def query_client(self, client_id: str) -> Client | None:
        return self.realm.clients.get(client_id)

    def create_oauth2_request(self, request: HTTPServerRequest | Request) -> Request:
        if isinstance(request, Request):
            return request
        return Request(request, params(request.body_arguments))

    def handle_response(self, status: int, body: object, headers: list[tuple[str, str]]) -> Answer:
        if body == "":
            return Answer(status, b"", dict(headers))
        return json_answer(body, status, dict(headers))

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Nobody listens."""

    def generate_token(
        self, grant_type: str, client: Client, scope: str | None = None, **_: object
    ) -> dict[str, object]:
        seconds = self.realm.access_token_seconds
        lever = self.realm.expires_in
        token: dict[str, object] = {"token_type": "Bearer", "access_token": new_secret("at")}
        token["scope"] = scope or ""
        token["expires_in"] = seconds if lever is UNSET else lever
        if self._includes_refresh_token(grant_type, scope or ""):
            token["refresh_token"] = new_secret("rt")
        return {name: value for name, value in token.items() if value is not None}

    def save_token(self, token: dict[str, str], request: Request) -> None:
        grant = grant_of(request) or Grant(request.client.client_id)
        seconds = self.realm.access_token_seconds
        self.realm.ledger.add_access_token(token["access_token"], grant, token["scope"], seconds)
        if "refresh_token" in token:
            self.realm.ledger.add_refresh_token(token["refresh_token"], grant)

    def _includes_refresh_token(self, grant_type: str, scope: str) -> bool:
        if not self.realm.issues_refresh_token:
            return False
        if grant_type == "refresh_token":
            return self.realm.rotates
        return grant_type == "authorization_code" and "offline_access" in scope.split()


def grant_of(request: Request) -> Grant | None:
    source: Code | TokenRecord | None = request.authorization_code or request.refresh_token
    return source.grant if source else None


class AuthorizationCodeGrant(grants.AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS

    def generate_authorization_code(self) -> str:
        return new_secret("code")

    def save_authorization_code(self, code: str, request: Request) -> None:
        session, data = request.user, request.form
        grant = Grant(
            client_id=request.client.client_id,
            sub=session.sub,
            scope=request.scope,
            sid=session.sid,
            auth_time=session.auth_time,
            nonce=data.get("nonce"),
        )
        ledger = self.server.realm.ledger
        ledger.add_code(code, grant, data["redirect_uri"], data["code_challenge"])

    def query_authorization_code(self, value: str, client: Client) -> Code | None:
        code: Code | None = self.server.realm.ledger.usable_code(value)
        return code if code and code.grant.client_id == client.client_id else None

    def delete_authorization_code(self, code: Code) -> None:
        code.used = True

    def authenticate_user(self, code: Code) -> User | None:
        user: User | None = self.server.realm.users.get(code.grant.sub)
        return user


class RefreshTokenGrant(grants.RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS

    def authenticate_refresh_token(self, value: str) -> TokenRecord | None:
        record: TokenRecord | None = self.server.realm.ledger.usable_refresh_token(value)
        return record

    def authenticate_user(self, record: TokenRecord) -> User | None:
        user: User | None = self.server.realm.users.get(record.sub)
        return user

    def revoke_old_credential(self, record: TokenRecord) -> None:
        realm: Realm = self.server.realm
        record.used = realm.rotates and realm.issues_refresh_token


class ClientCredentialsGrant(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS


class RequiredPkce(CodeChallenge):
    """PKCE is not optional here, and "plain" is no PKCE (RFC 9700 §2.1.1)."""

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        if grant.request.form.get("code_challenge_method") != "S256":
            raise InvalidRequestError("code_challenge_method=S256 is required.")
        super().validate_code_challenge(grant, redirect_uri)


class IdTokens(OpenIDCode):
    """Adds an id token to the answers of the token endpoint, when the scope has `openid`."""

    def __init__(self, realm: Realm) -> None:
        super().__init__()
        self.realm = realm

    def exists_nonce(self, nonce: str, request: Request) -> bool:
        return False

    def process_token(self, grant: Any, response: Any) -> None:
        if grant.GRANT_TYPE == "authorization_code" or self.realm.refresh_returns_id_token:
            super().process_token(grant, response)

    def encode_id_token(self, token: dict[str, str], request: Request) -> str:
        grant = grant_of(request)
        assert grant is not None
        # A refreshed id token should have no nonce (OpenID Connect Core §12.2).
        nonce = grant.nonce if request.authorization_code else None
        return self.realm.issue_id_token(grant, token["access_token"], nonce)


class Revocation(RevocationEndpoint):
    CLIENT_AUTH_METHODS = AUTH_METHODS

    def query_token(self, value: str, hint: str | None) -> TokenRecord | None:
        record: TokenRecord | None = self.server.realm.ledger.find(value)
        return record

    def revoke_token(self, record: TokenRecord, request: Request) -> None:
        self.server.realm.ledger.revoke(record)


class Introspection(IntrospectionEndpoint):
    CLIENT_AUTH_METHODS = AUTH_METHODS

    def query_token(self, value: str, hint: str | None) -> TokenRecord | None:
        record: TokenRecord | None = self.server.realm.ledger.alive(value)
        return record

    def check_permission(self, record: TokenRecord, client: Client, request: Request) -> bool:
        return True

    def create_introspection_payload(self, record: TokenRecord | None) -> dict[str, object]:
        if record is None:
            return {"active": False}
        payload: dict[str, object] = {"active": True, "iss": self.server.realm.issuer}
        payload |= {"client_id": record.client_id, "scope": record.scope}
        if record.sub is not None:
            payload["sub"] = record.sub
        if not record.refreshes:
            payload |= {"token_type": "Bearer", "exp": int(record.expires_at)}
        return payload


_FORM_URLENCODED = re.compile(r"(?:[A-Za-z0-9*._~+-]|%[0-9A-Fa-f]{2})+")


def client_secret_basic(query_client: Callable[[str], Client | None], request: Request) -> Client | None:
    """Id and secret are form-urlencoded before they are joined (RFC 6749 §2.3.1).

    Authlib's own decodes `%20` but not `+`, and lets a client get away with encoding nothing.
    """
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        joined = base64.b64decode(credentials, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return None
    client_id, _, secret = joined.partition(":")
    if not _FORM_URLENCODED.fullmatch(client_id) or not _FORM_URLENCODED.fullmatch(secret):
        return None
    client = query_client(unquote_plus(client_id))
    return client if client and client.check_client_secret(unquote_plus(secret)) else None
