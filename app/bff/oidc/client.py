"""The OpenID Connect client: login, token requests, revocation and logout at one provider."""

from __future__ import annotations

import functools
import logging
import re
import time
from collections.abc import Callable, Container, Mapping
from ssl import SSLContext
from typing import Any, Protocol
from urllib.parse import parse_qs, urlencode

from authlib.oauth2.rfc7636 import create_s256_code_challenge

from app.bff.errors import ClientRejected, LoginFailed, ProviderUnavailable
from app.bff.oidc.browser_requests import LogoutRequest, with_query
from app.bff.oidc.claims import (
    check_id_token,
    check_refreshed_id_token,
    check_signed_userinfo,
    check_userinfo,
    require,
    without_authentication,
)
from app.bff.oidc.client_auth import key_from
from app.bff.oidc.dpop import DpopKey, thumbprint
from app.bff.oidc.endpoints import EndpointClient, Params, RequestKind
from app.bff.oidc.error_codes import CLIENT_ERRORS
from app.bff.oidc.kept_claims import clean_claims, kept_claims, left_out_claims
from app.bff.oidc.login_attempt import LoginAttempt
from app.bff.oidc.metadata import Metadata, Provider, advice_without_refresh_token
from app.bff.oidc.refusals import challenge_params, refusal_fields, requires_pushed_requests
from app.bff.oidc.responses import (
    EndpointResponse,
    check_revoked,
    parse_exchange_response,
    parse_pushed_response,
    parse_token_response,
    parse_userinfo_response,
)
from app.bff.oidc.signed_requests import request_object, response_parameters
from app.bff.paths import CALLBACK_PATH, LOGOUT_CALLBACK_PATH
from app.bff.sessions.session import LOGIN, LogoutHint, Session, Target, TokenSet
from app.bff.settings.models import BffSettings

log = logging.getLogger(__name__)

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
_MAX_LOGGED_NAMES, _MAX_LOGGED_NAME = 10, 50


class Grant(Protocol):
    """What was issued at a login: a session, its refresh token in the outbox, its ID token."""

    @property
    def issuer(self) -> str: ...
    @property
    def client_id(self) -> str | None: ...


class OidcClient:
    """The relying party of one provider.

    Token requests raise GrantRefused if the code or refresh token is invalid, ClientRejected if the
    provider rejects this client or its request, InteractionRequired if it wants the user to sign in again,
    and ProviderUnavailable if there is no usable response.
    With a `dpop_key` tokens are bound to it (RFC 9449); a token of another type is refused.
    """

    def __init__(
        self,
        settings: BffSettings,
        provider: Provider,
        *,
        tls: SSLContext,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.issuers = provider.issuers
        self._several_issuers: Container[object] = provider.issuers if settings.tenants else ()
        self.client_id = settings.client_id
        self._settings = settings
        self._provider = provider
        self._clock = clock
        self.asks_userinfo_on_refresh = settings.userinfo_on_refresh
        self._kept_claims = settings.kept_claims
        self._endpoints = EndpointClient(settings, tls=tls, provider=provider, clock=clock)
        file = settings.client_key_file if settings.signed_requests else None
        self._request_key = key_from(file) if file else None
        self._par_required: bool | None = None  # of this client, as a refusal has said; False: it was wrong
        self._has_advised = False  # on logins without a refresh token
        self._has_told = False  # of claims that a token only refers to

    async def close(self) -> None:
        await self._endpoints.close()

    @property
    def seconds_ahead(self) -> int | None:
        """How far our clock is ahead of the provider's, by its latest response; negative: behind."""
        return self._endpoints.seconds_ahead

    @property
    def breaker_states(self) -> dict[str, str]:
        """The state of the circuit breaker for each kind of request."""
        return self._endpoints.breaker_states

    def issued(self, grant: Grant) -> bool:
        """Whether it is of this provider, for this client: tokens of another are never sent.

        An unknown client counts as this one.
        """
        return grant.issuer in self.issuers and grant.client_id in (None, self.client_id)

    async def login_url(self, attempt: LoginAttempt, further: Mapping[str, str] | None = None) -> str:
        """Return the authorization URL for this attempt, with `further` parameters for the provider."""
        metadata, given = await self._provider.metadata(), self._login_params(attempt, further or {})
        pushes = self._settings.par or metadata.requires_pushed_authorization_requests
        tries_to_push = not pushes and self._par_required is True
        if self._request_key is not None:
            client_id, pushes = self._settings.client_id, True  # in a URL it might be too long
            request = request_object(
                given, self._request_key, client_id=client_id, audience=attempt.issuer, now=self._clock()
            )
            given = {"client_id": client_id, "request": request}
        query = urlencode(given, doseq=True)
        if pushes:
            query = await self._push(metadata, query)
        elif tries_to_push:
            try:
                query = await self._push(metadata, query)
            except ProviderUnavailable as error:
                # A browser may have made the refusal up: what it said must not stop the logins of others.
                self._par_required = not isinstance(error, ClientRejected)
        return with_query(metadata.authorization_endpoint, query)

    def _login_params(self, attempt: LoginAttempt, further: Mapping[str, str]) -> dict[str, Any]:
        mode = self._settings.response_mode
        params = {
            **further,
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._settings.base_url + CALLBACK_PATH,
            "scope": self._settings.login_scope,
            "resource": self._settings.login_resources,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": create_s256_code_challenge(attempt.verifier),
            "code_challenge_method": "S256",
            "dpop_jkt": thumbprint(attempt.dpop_key) if attempt.dpop_key else None,
            "response_mode": mode if mode != "query" else None,
            **attempt.request_params,
        }
        return {name: value for name, value in params.items() if value}

    async def _push(self, metadata: Metadata, query: str) -> str:
        """Push the authorization request, and return the query that refers to it (RFC 9126)."""
        endpoint = metadata.pushed_authorization_request_endpoint
        if endpoint is None:
            log.error("provider has no pushed authorization request endpoint: check BFF_PAR")
            raise ProviderUnavailable("the provider has no pushed authorization request endpoint")
        request_uri = await self._endpoints.post(
            RequestKind.PUSHED, endpoint, parse_qs(query), parse_pushed_response
        )
        return urlencode({"client_id": self._settings.client_id, "request_uri": request_uri})

    def _heed(self, refusal: Mapping[str, str], metadata: Metadata) -> None:
        """Log a refused authorization request; if it had to be pushed, push those of the next attempts."""
        if refusal.get("error") in CLIENT_ERRORS:
            log.error("provider refused the login: check BFF_SCOPE and the registration", extra=refusal)
        elif refusal:
            log.info("provider refused the login", extra=refusal)
        if requires_pushed_requests(refusal):
            log.error("provider requires pushed authorization requests of this client: set BFF_PAR=true")
            if self._par_required is None and metadata.pushed_authorization_request_endpoint:
                self._par_required = True

    async def sign_in(
        self, attempt: LoginAttempt, response: Mapping[str, str]
    ) -> tuple[dict[str, Any], dict[str, Any], TokenSet]:
        """Validate the authorization response and redeem its code.

        Return the user's claims, those that the session keeps, and the tokens.

        Raises also LoginFailed for the response, and UntrustedToken for the ID token or userinfo.
        """
        parse = _parser(parse_token_response, LOGIN, attempt.dpop_key)
        metadata = await self._provider.metadata()
        if attempt.issuer != self.issuers.configured:
            raise LoginFailed("This sign-in was begun at another sign-in service.")
        if self._settings.response_mode == "jwt":
            response = await self._verified_response(response)
        try:
            code = attempt.validate_response(
                response,
                announces_iss=metadata.announces_iss,
                now=self._clock(),
                issuers=self._several_issuers,
            )
        except LoginFailed as error:
            self._heed(error.refusal, metadata)
            raise
        params = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._settings.base_url + CALLBACK_PATH,
            "code_verifier": attempt.verifier,
        }
        tokens = await self._endpoints.post(
            RequestKind.CODE, metadata.token_endpoint, params, parse, attempt.dpop_key
        )
        if tokens.id_token is None:
            raise LoginFailed("The sign-in service did not say who you are.")
        if tokens.refresh_token is None and not self._has_advised:
            self._advise(metadata)
        id_token = await self._provider.verify(tokens.id_token)
        check_id_token(
            id_token,
            issuer=self.issuers.of(id_token.claims),
            client_id=self._settings.client_id,
            trusted_audiences=self._settings.trusted_audiences,
            nonce=attempt.nonce,
            access_token=tokens.access_token,
            now=self._clock(),
        )
        require(response.get("iss") in (None, id_token.claims["iss"]), "iss")  # of several tenants, the same
        claims = await self._with_userinfo(id_token.claims, tokens, attempt.dpop_key, metadata)
        return claims, kept_claims(claims, self._kept_claims), tokens

    def _advise(self, metadata: Metadata) -> None:
        """Log, once, what a login without a refresh token may lack."""
        self._has_advised = True
        advice = advice_without_refresh_token(metadata, self._settings.login_scope)
        log.warning("login brought no refresh token", extra={"advice": advice})

    async def _with_userinfo(
        self, claims: Mapping[str, Any], tokens: TokenSet, dpop_key: DpopKey | None, metadata: Metadata
    ) -> dict[str, Any]:
        """Return the claims of the ID token with those of userinfo, if there are any."""
        userinfo: Mapping[str, Any] = {}
        if self._settings.userinfo and metadata.userinfo_endpoint:
            endpoint, token = metadata.userinfo_endpoint, tokens.access_token
            userinfo = await self._userinfo(endpoint, token, dpop_key, claims) or {}
        # Those of the ID token come first: should the claims exceed their limit, they stay.
        return self.cleaned({**claims, **userinfo, **claims})

    async def userinfo(self, session: Session, tokens: TokenSet) -> Mapping[str, Any] | None:
        """Return the claims of userinfo after a refresh; None if there are none that can be used.

        Raises UntrustedToken if they are of another user, or ProviderUnavailable.
        """
        endpoint = (await self._provider.metadata()).userinfo_endpoint
        if not endpoint:
            return None
        return await self._userinfo(endpoint, tokens.access_token, session.dpop_key, session.claims)

    async def _userinfo(
        self, endpoint: str, access_token: str, dpop_key: DpopKey | None, of_login: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        answer = await self._endpoints.get(endpoint, access_token, dpop_key)
        parsed = parse_userinfo_response(answer)
        userinfo = (
            await self._verified_userinfo(parsed, of_login["iss"]) if isinstance(parsed, str) else parsed
        )
        if userinfo is None:
            challenge = challenge_params(answer.headers.get("WWW-Authenticate", ""))
            said = refusal_fields({**challenge, **answer.document}, secrets=[access_token])
            log.warning("userinfo not used: check BFF_USERINFO", extra={"status": answer.status, **said})
            return None
        check_userinfo(userinfo, subject=of_login["sub"])
        return without_authentication(userinfo)

    def kept(self, claims: Mapping[str, Any]) -> dict[str, Any]:
        """Return those that a session keeps."""
        return kept_claims(claims, self._kept_claims)

    def cleaned(self, claims: Mapping[str, Any]) -> dict[str, Any]:
        """Return the claims that can be kept; log what cannot, and once what the provider has left out."""
        clean, dropped = clean_claims(claims)
        if dropped:
            names = [name[:_MAX_LOGGED_NAME] for name in list(dropped)[:_MAX_LOGGED_NAMES]]
            sizes = {name: size for name, size in zip(names, dropped.values(), strict=False) if size}
            fields = {"claims": names, "count": len(dropped), "too_large": sizes}
            log.warning("claims dropped", extra=fields)
        if ("_claim_names" in clean or "hasgroups" in clean) and not self._has_told:
            self._has_told = True
            names = [name[:_MAX_LOGGED_NAME] for name in left_out_claims(clean)[:_MAX_LOGGED_NAMES]]
            log.warning("provider left claims out: look them up in on_sign_in", extra={"claims": names})
        return clean

    async def _verified_response(self, response: Mapping[str, str]) -> dict[str, str]:
        """Return the parameters in a signed authorization response (JARM §2.4)."""
        claims = (await self._provider.verify(response.get("response", ""), source="callback")).claims
        return response_parameters(
            claims,
            issuer=self.issuers.of(claims),
            client_id=self._settings.client_id,
            trusted_audiences=self._settings.trusted_audiences,
            now=self._clock(),
        )

    async def _verified_userinfo(self, userinfo: str, issuer: str) -> Mapping[str, Any]:
        """Return the claims of userinfo that is a JWT (OIDC Core §5.3.2)."""
        claims = (await self._provider.verify(userinfo)).claims
        check_signed_userinfo(
            claims,
            issuer=issuer,
            client_id=self._settings.client_id,
            trusted_audiences=self._settings.trusted_audiences,
            now=self._clock(),
        )
        return claims

    async def refresh(
        self, refresh_token: str, *, target: Target = LOGIN, dpop_key: DpopKey | None = None
    ) -> TokenSet:
        """Return new tokens, the access token for `target` (RFC 6749 §6, RFC 8707 §2.2)."""
        params = {"grant_type": "refresh_token", "refresh_token": refresh_token, **target.params}
        return await self._request_tokens(RequestKind.REFRESH, params, target, dpop_key)

    async def exchange(
        self, access_token: str, *, target: Target, dpop_key: DpopKey | None = None
    ) -> TokenSet:
        """Return a token for `target` in exchange for the user's access token (RFC 8693 §2)."""
        params = {
            "grant_type": TOKEN_EXCHANGE,
            "subject_token": access_token,
            "subject_token_type": ACCESS_TOKEN,
            **target.params,
        }
        return await self._request_tokens(
            RequestKind.EXCHANGE, params, target, dpop_key, parse_exchange_response
        )

    async def client_credentials(self, target: Target, *, dpop_key: DpopKey | None = None) -> TokenSet:
        """Return a token that speaks for this application, not for a user (RFC 6749 §4.4)."""
        params = {"grant_type": "client_credentials", **target.params}
        return await self._request_tokens(RequestKind.CLIENT_CREDENTIALS, params, target, dpop_key)

    async def check_refreshed(self, id_token: str, *, earlier: dict[str, Any]) -> Mapping[str, Any]:
        """Return the claims of a refreshed ID token; UntrustedToken unless it belongs to the same login.

        UnusableToken if nothing in it says that it belongs to another one, or ProviderUnavailable.
        """
        signed = await self._provider.verify(id_token)
        check_refreshed_id_token(
            signed,
            earlier=earlier,
            client_id=self._settings.client_id,
            trusted_audiences=self._settings.trusted_audiences,
            now=self._clock(),
        )
        return signed.claims

    async def revoke(self, refresh_token: str) -> bool:
        """Revoke a refresh token (RFC 7009); return False if the provider has no revocation endpoint.

        Raises GrantRefused if the endpoint does not support refresh tokens.
        """
        endpoint = (await self._provider.metadata()).revocation_endpoint
        if endpoint is None:
            return False
        params = {"token": refresh_token, "token_type_hint": "refresh_token"}
        await self._endpoints.post(RequestKind.REVOCATION, endpoint, params, check_revoked)
        return True

    async def logout_request(self, *, hint: LogoutHint | None, state: str) -> LogoutRequest | None:
        """Return the end-session request, or None if the provider has no such endpoint.

        A hint that another provider has issued, or for another client, is left out.
        """
        endpoint = (await self._provider.metadata()).end_session_endpoint
        if endpoint is None:
            return None
        params = {
            "client_id": self._settings.client_id,
            "post_logout_redirect_uri": self._settings.base_url + LOGOUT_CALLBACK_PATH,
            "state": state,
        }
        params = {**self._logout_params(params), **params}
        id_token = hint.id_token if hint and self.issued(hint) else None
        return LogoutRequest(endpoint, params, id_token)

    def _logout_params(self, values: Mapping[str, str]) -> dict[str, str]:
        """Return BFF_LOGOUT_PARAMS with the placeholders filled in."""
        configured = self._settings.logout_params
        return {
            name: re.sub(r"\{(\w+)\}", lambda found: values[found[1]], value)
            for name, value in configured.items()
        }

    async def _request_tokens(
        self,
        kind: RequestKind,
        params: Params,
        target: Target,
        dpop_key: DpopKey | None,
        parse: Callable[..., TokenSet] = parse_token_response,
    ) -> TokenSet:
        endpoint = (await self._provider.metadata()).token_endpoint
        return await self._endpoints.post(kind, endpoint, params, _parser(parse, target, dpop_key), dpop_key)


def _parser(
    parse: Callable[..., TokenSet], target: Target, dpop_key: DpopKey | None
) -> Callable[[EndpointResponse], TokenSet]:
    return functools.partial(parse, target=target, token_type="DPoP" if dpop_key else "Bearer")
