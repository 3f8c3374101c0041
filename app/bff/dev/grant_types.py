"""The grant types of the token endpoint."""
# Authlib is untyped:
# mypy: disable-error-code="import-untyped", allow-subclassing-any

from __future__ import annotations

from dataclasses import replace
from typing import Any

from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidRequestError, InvalidScopeError, grants
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import OpenIDCode

from app.bff.dev.client_auth import AUTH_METHODS
from app.bff.dev.grants import Code, Grant, TokenRecord, new_secret
from app.bff.dev.realm import Realm
from app.bff.dev.registrations import TOKEN_EXCHANGE, Client, User
from app.bff.dev.request import Request, check_target, resources_of, target_of
from app.bff.dev.step_up import check_authentication_requirements

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


class GrantType(grants.BaseGrant):
    """Common to all grant types: client authentication, target and proven key."""

    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS
    TARGETS: tuple[str, ...] = ("resource",)  # the parameters that name the API; the first one counts

    @property
    def realm(self) -> Realm:
        realm: Realm = self.server.realm
        return realm

    def requested_target(self) -> str | None:
        return target_of(self.request, self.TARGETS, self.realm.refuses_targets)

    def validate_token_request(self) -> None:
        super().validate_token_request()
        self.request.target = self.requested_target()
        self.request.jkt = self.server.proven_key(self.request)

    def generate_token(self, scope: str | None = None, **options: object) -> dict[str, object]:
        token: dict[str, object] = super().generate_token(scope=scope, **options)
        return {**token, "token_type": "DPoP"} if self.request.jkt else token

    def create_token_response(self) -> tuple[int, dict[str, object], Any]:
        status, token, headers = super().create_token_response()
        return status, self.realm.with_overrides("token", token), headers


class AuthorizationCodeGrant(GrantType, grants.AuthorizationCodeGrant):
    def validate_authorization_request(self) -> str:
        redirect_uri: str = super().validate_authorization_request()
        check_authentication_requirements(self.request.form, self.realm)
        self._check_scopes(set(self.request.form.get("scope", "").split()))
        for resource in resources_of(self.request):
            check_target("resource", resource, self.realm.refuses_targets)
        return redirect_uri

    def _check_scopes(self, scopes: set[str]) -> None:
        if scopes & self.realm.refused_scopes:
            raise InvalidScopeError(f"There is no scope {min(scopes & self.realm.refused_scopes)} here.")
        if scopes & self.realm.form_post_scopes and self.request.form.get("response_mode") != "form_post":
            raise InvalidRequestError("With these scopes the response_mode must be form_post.")

    def generate_authorization_code(self) -> str:
        return new_secret("code")

    def save_authorization_code(self, code: str, request: Request) -> None:
        session, data, resources = request.user, request.form, resources_of(request)
        if self.realm.audience_names_api:
            resources = [data[name] for name in ("audience",) if name in data]
        grant = Grant(
            client_id=request.client.client_id,
            sub=session.sub,
            scope=request.scope,
            resource=resources[0] if len(resources) == 1 else None,
            sid=session.sid,
            auth_time=session.auth_time,
            acr=session.acr,
            nonce=data.get("nonce"),
            is_offline=self._is_offline(data),
        )
        self.realm.ledger.add_code(
            code, grant, data["redirect_uri"], data["code_challenge"], data.get("dpop_jkt")
        )

    def _is_offline(self, data: dict[str, str]) -> bool:
        if self.realm.offline_params is None:
            return "offline_access" in data.get("scope", "").split()
        return self.realm.offline_params.items() <= data.items()

    def generate_token(self, scope: str | None = None, **options: object) -> dict[str, object]:
        offline = self.request.authorization_code.grant.is_offline
        return super().generate_token(scope=scope, **{**options, "include_refresh_token": offline})

    def query_authorization_code(self, value: str, client: Client) -> Code | None:
        code = self.realm.ledger.usable_code(value)
        return code if code and code.grant.client_id == client.client_id else None

    def validate_token_request(self) -> None:
        super().validate_token_request()
        if self.request.authorization_code.jkt not in (None, self.request.jkt):
            raise InvalidGrantError("There is no proof of the key that the code is bound to.")

    def delete_authorization_code(self, code: Code) -> None:
        code.used = True

    def authenticate_user(self, code: Code) -> User | None:
        return self.realm.users.get(code.grant.sub or "")


class RefreshTokenGrant(GrantType, grants.RefreshTokenGrant):
    def authenticate_refresh_token(self, value: str) -> TokenRecord | None:
        return self.realm.ledger.usable_refresh_token(value)

    def authenticate_user(self, record: TokenRecord) -> User | None:
        return self.realm.users.get(record.sub or "")

    def revoke_old_credential(self, record: TokenRecord) -> None:
        record.used = self.realm.rotates and self.realm.issues_refresh_token


class ClientCredentialsGrant(GrantType, grants.ClientCredentialsGrant):
    pass


class TokenExchangeGrant(ClientCredentialsGrant):
    """Exchanges a subject token for one of the authenticated client (RFC 8693)."""

    GRANT_TYPE = TOKEN_EXCHANGE
    TARGETS = ("audience", "resource")

    def validate_token_request(self) -> None:
        super().validate_token_request()
        subject = self._subject(self.request.form)
        self.request.exchanged = replace(
            subject.grant,
            client_id=self.request.client.client_id,
            scope=subject.scope,
            resource=subject.resource,
        )

    def _subject(self, form: dict[str, str]) -> TokenRecord:
        if form.get("subject_token_type") != ACCESS_TOKEN:
            raise InvalidRequestError(f"The subject_token_type must be {ACCESS_TOKEN}.")
        if form.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN or "actor_token" in form:
            raise InvalidRequestError("There are only access tokens here, and no actors.")
        subject = self.realm.access_token(form.get("subject_token", ""))
        if subject is None:
            raise InvalidRequestError("The subject_token is not a valid access token.")
        return subject

    def generate_token(self, scope: str | None = None, **options: object) -> dict[str, object]:
        token = super().generate_token(scope=scope or self.request.exchanged.scope, **options)
        return {**token, "issued_token_type": ACCESS_TOKEN}


class RequiredPkce(CodeChallenge):
    """PKCE is not optional here, and "plain" is no PKCE (RFC 9700 §2.1.1)."""

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        if grant.request.form.get("code_challenge_method") != "S256":
            raise InvalidRequestError("code_challenge_method=S256 is required.")
        super().validate_code_challenge(grant, redirect_uri)


class IdTokens(OpenIDCode):
    """Adds an ID token to the answers of the token endpoint, when the scope has `openid`."""

    def __init__(self, realm: Realm) -> None:
        super().__init__()
        self.realm = realm

    def exists_nonce(self, nonce: str, request: Request) -> bool:
        return False

    def process_token(self, grant: Any, response: Any) -> None:
        if grant.GRANT_TYPE == "authorization_code" or self.realm.refresh_returns_id_token:
            super().process_token(grant, response)

    def encode_id_token(self, token: dict[str, str], request: Request) -> str:
        grant = request.grant
        assert grant is not None
        # A refreshed ID token should have no nonce (OpenID Connect Core §12.2).
        nonce = grant.nonce if request.authorization_code else None
        return self.realm.issue_id_token(grant, token["access_token"], nonce)
