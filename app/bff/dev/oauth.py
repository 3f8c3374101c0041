"""Authlib's authorization server with a Realm as its database."""
# Authlib is untyped:
# mypy: disable-error-code="import-untyped", allow-subclassing-any

from __future__ import annotations

import logging

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import AuthorizationServer
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from tornado.httputil import HTTPServerRequest

from app.bff.dev.client_auth import AUTH_METHODS, client_secret_basic
from app.bff.dev.dpop import ProofRefused, Proofs
from app.bff.dev.grant_types import (
    AuthorizationCodeGrant,
    ClientCredentialsGrant,
    IdTokens,
    RefreshTokenGrant,
    RequiredPkce,
    TokenExchangeGrant,
)
from app.bff.dev.grants import Grant, ProviderSession, TokenRecord, new_secret
from app.bff.dev.par import PushedRequestEndpoint, PushedRequests
from app.bff.dev.realm import UNSET, Realm
from app.bff.dev.registrations import Client
from app.bff.dev.request import Request
from app.bff.dev.server import Answer, json_answer, params

# Authlib's grants write every token they issue to the DEBUG log.
logging.getLogger("authlib.oauth2.rfc6749.grants").setLevel(logging.INFO)


class OAuth(AuthorizationServer):
    def __init__(self, realm: Realm) -> None:
        super().__init__()
        self.realm = realm
        self.pushed = PushedRequests(realm.clock)
        self._proofs = Proofs(realm.clock)
        self.register_client_auth_method("client_secret_basic", client_secret_basic)
        self.register_grant(AuthorizationCodeGrant, [RequiredPkce(), IdTokens(realm)])
        self.register_grant(RefreshTokenGrant, [IdTokens(realm)])
        self.register_grant(ClientCredentialsGrant)
        self.register_grant(TokenExchangeGrant)
        self.register_endpoint(Revocation)
        self.register_endpoint(Introspection)
        self.register_endpoint(PushedRequestEndpoint)

    def authorize(
        self, request: Request, session: ProviderSession | None, *, interactive: bool
    ) -> Answer | None:
        """A redirect with a code or an error; None if the user must interact first.

        The caller has checked the client and its redirect URI, so that errors may go there.
        """
        answer: Answer
        try:
            grant = self.get_consent_grant(request, end_user=session)
        except OAuth2Error as error:
            error.redirect_uri = request.payload.redirect_uri
            answer = self.handle_error_response(request, error)
            return answer
        if interactive and (grant.prompt or session is None):
            return None
        answer = self.create_authorization_response(request, grant_user=session, grant=grant)
        return answer

    def proven_key(self, request: Request) -> str | None:
        """The thumbprint of the key in the DPoP proof; None without a proof."""
        try:
            return self._proofs.key_of(request.http, nonce=self.realm.dpop_nonce)
        except ProofRefused as refused:
            raise OAuth2Error(str(refused), error=refused.error) from refused

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
        """Authlib's signals have no receivers here."""

    def generate_token(
        self,
        grant_type: str,
        client: Client,
        scope: str | None = None,
        include_refresh_token: bool = True,
        **_: object,
    ) -> dict[str, object]:
        seconds = self.realm.access_token_seconds
        switch = self.realm.expires_in
        token: dict[str, object] = {"token_type": "Bearer", "access_token": new_secret("at")}
        token["scope"] = scope or ""
        token["expires_in"] = seconds if switch is UNSET else switch
        if self._includes_refresh_token(grant_type, include_refresh_token):
            token["refresh_token"] = new_secret("rt")
        return token

    def save_token(self, token: dict[str, str], request: Request) -> None:
        grant = request.grant or Grant(request.client.client_id)
        self.realm.ledger.add_access_token(
            token["access_token"],
            grant,
            scope=token["scope"],
            resource=request.target or grant.resource,
            jkt=request.jkt,
            seconds=self.realm.access_token_seconds,
        )
        if "refresh_token" in token:
            self.realm.ledger.add_refresh_token(token["refresh_token"], grant)

    def _includes_refresh_token(self, grant_type: str, is_offline: bool) -> bool:
        if not self.realm.issues_refresh_token:
            return False
        if grant_type == "refresh_token":
            return self.realm.rotates
        return grant_type == "authorization_code" and is_offline


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
        if not record.refreshes:
            payload |= {"token_type": "DPoP" if record.jkt else "Bearer", "exp": int(record.expires_at)}
        payload |= {"sub": record.sub, "aud": record.resource}
        payload["cnf"] = {"jkt": record.jkt} if record.jkt else None
        return {name: value for name, value in payload.items() if value is not None}
