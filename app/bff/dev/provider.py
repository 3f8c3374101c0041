"""A small OpenID provider for development and tests: two users, no passwords, fault-injection switches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tornado.httputil import HTTPServerRequest

from app.bff.dev.client_auth import AUTH_METHODS
from app.bff.dev.dpop import ALGORITHMS
from app.bff.dev.grants import TokenRecord
from app.bff.dev.login import BrowserLogin
from app.bff.dev.oauth import OAuth
from app.bff.dev.protected_resource import ProtectedResource, refuse_token, with_nonce
from app.bff.dev.realm import UNSET, Realm
from app.bff.dev.registrations import GRANT_TYPES, USERS, Client, User
from app.bff.dev.server import Answer, Endpoint, Failure, LocalServer, json_answer, params

__all__ = ["UNSET", "USERS", "Client", "Failure", "Provider", "TokenRecord", "User"]

Route = tuple[str, type[Endpoint], dict[str, object]]


class Provider(Realm, LocalServer):
    """An OpenID provider that keeps everything in memory.

    Codes begin with `code-`, access tokens with `at-`, refresh tokens with `rt-`, so that a test
    finds leaked ones. The names of its endpoints, for `holds`,
    `holds_answer`, `fails`, `counts` and `last_request`: metadata, jwks, par, authorize, token,
    userinfo, revoke, introspect, end_session. The other switches are in `Realm`.
    """

    def __init__(self, clients: Sequence[Client], *, clock: Callable[[], float] = time.time) -> None:
        Realm.__init__(self, clients, clock)
        LocalServer.__init__(self)
        self.last_request: dict[str, dict[str, str]] = {}
        self._oauth = OAuth(self)
        self._login = BrowserLogin(self, self._oauth)
        self.backchannel = self._login.backchannel
        self._guard = ProtectedResource(self)

    async def start(self, port: int = 0) -> None:
        await super().start(port)
        self.issuer = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        self.backchannel.give_up()
        await super().stop()

    async def end_sessions(self, sub: str) -> None:
        """End the user's provider sessions in every browser, with back-channel logout to all clients."""
        self._login.end_sessions(sub)
        await self.backchannel.settle()

    def routes(self) -> list[Route]:
        get, post, both = ("GET",), ("POST",), ("GET", "POST")
        return [
            self._route("/.well-known/openid-configuration", "metadata", self._metadata, get),
            self._route("/jwks", "jwks", self._jwks, get),
            self._route("/authorize", "authorize", self._login.authorize, both),
            self._route("/par", "par", self._par, post),
            self._route("/token", "token", self._token, post),
            self._route("/userinfo", "userinfo", self._userinfo, both),
            self._route("/revoke", "revoke", self._revoke, post),
            self._route("/introspect", "introspect", self._introspect, post),
            self._route("/logout", "end_session", self._login.end_session, both),
        ]

    def record(self, endpoint: str, request: HTTPServerRequest) -> None:
        super().record(endpoint, request)
        self.last_request[endpoint] = params(request.arguments)
        if endpoint == "token":
            self.counts[f"token:{self.last_request['token'].get('grant_type')}"] += 1

    def _route(
        self, path: str, name: str, work: Callable[[HTTPServerRequest], Answer], methods: tuple[str, ...]
    ) -> Route:
        return path, Endpoint, {"server": self, "name": name, "work": work, "methods": methods}

    def _metadata(self, request: HTTPServerRequest) -> Answer:
        """OpenID Connect Discovery 1.0 §3."""
        metadata: dict[str, object] = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "pushed_authorization_request_endpoint": f"{self.issuer}/par",
            "require_pushed_authorization_requests": self.requires_par or None,
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks",
            "revocation_endpoint": f"{self.issuer}/revoke",
            "introspection_endpoint": f"{self.issuer}/introspect",
            "end_session_endpoint": f"{self.issuer}/logout",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query", "form_post", "jwt"],
            "authorization_signing_alg_values_supported": [self.signing_alg],
            "grant_types_supported": GRANT_TYPES,
            "subject_types_supported": ["public"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "claims_supported": ["sub", "name", "email", "email_verified", "auth_time", "acr", "sid"],
            "acr_values_supported": self.acrs,
            "id_token_signing_alg_values_supported": sorted({"RS256", "ES256", self.signing_alg}),
            "token_endpoint_auth_methods_supported": AUTH_METHODS,
            "revocation_endpoint_auth_methods_supported": AUTH_METHODS,
            "introspection_endpoint_auth_methods_supported": AUTH_METHODS,
            "code_challenge_methods_supported": ["S256"],
            "dpop_signing_alg_values_supported": ALGORITHMS,
            "prompt_values_supported": ["none", "login", "consent", "select_account"],
            "authorization_response_iss_parameter_supported": True,
            "backchannel_logout_supported": True,
            "backchannel_logout_session_supported": True,
        }
        return json_answer(self.with_overrides("metadata", metadata))

    def _jwks(self, request: HTTPServerRequest) -> Answer:
        return json_answer(self.jwks())

    def _par(self, request: HTTPServerRequest) -> Answer:
        answer: Answer = self._oauth.create_endpoint_response("par", request)
        return with_nonce(answer, self.dpop_nonce)

    def _token(self, request: HTTPServerRequest) -> Answer:
        answer: Answer = self._oauth.create_token_response(request)
        return with_nonce(answer, self.dpop_nonce)

    def _userinfo(self, request: HTTPServerRequest) -> Answer:
        nonce = self.userinfo_nonce
        answer = self._guard.admit(request, lambda token: self._claims_for(token, request), nonce)
        return with_nonce(answer, nonce)

    def _claims_for(self, token: TokenRecord, request: HTTPServerRequest) -> Answer:
        if token.sub is None or "openid" not in token.scope.split():
            return refuse_token(request, "insufficient_scope", 403)
        return json_answer(self.with_overrides("userinfo", self.users[token.sub].claims(token.scope)))

    def _revoke(self, request: HTTPServerRequest) -> Answer:
        answer: Answer = self._oauth.create_endpoint_response("revocation", request)
        return answer

    def _introspect(self, request: HTTPServerRequest) -> Answer:
        answer: Answer = self._oauth.create_endpoint_response("introspection", request)
        return answer
