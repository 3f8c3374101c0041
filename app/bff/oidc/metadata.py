"""The provider's metadata and signing keys: fetched when needed, cached, and used to verify tokens."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any
from urllib.parse import urlsplit

import httpx2

from app.bff.errors import ProviderUnavailable, UntrustedToken, UnusableToken
from app.bff.oidc.cache import CachedDocument
from app.bff.oidc.http import BoundedTransport, json_object, translate_http_errors
from app.bff.oidc.keys import (
    ALGORITHMS,
    Key,
    SignedToken,
    UnknownKey,
    algorithm_of,
    names_one_of,
    parse_jwks,
    verify_signature,
)
from app.bff.settings.validators import absolute, require_https

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Metadata:
    """The members of the discovery document that are used, and no others.

    The document is untrusted input: passed on whole, it could switch off TLS verification in libraries
    that take options by name.
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    revocation_endpoint: str | None
    end_session_endpoint: str | None
    pushed_authorization_request_endpoint: str | None
    requires_pushed_authorization_requests: bool
    signing_algorithms: frozenset[str]
    announces_iss: bool
    announces_pkce: bool
    prompts: frozenset[str]

    @property
    def is_keycloak(self) -> bool:
        """Whether offline_access is the wrong scope for a refresh token, by the paths of Keycloak's realms.

        It issues refresh tokens without that scope. With it, the login belongs to an offline session: no
        session of the browser is left for prompt=none, a logout by an administrator, or at another provider.
        """
        endpoints = (self.authorization_endpoint, self.token_endpoint, self.jwks_uri)
        return "/realms/" in self.issuer or any("/protocol/openid-connect/" in each for each in endpoints)


def advice_without_refresh_token(metadata: Metadata, scope: str) -> str:
    """Return what to do about a login for `scope` that brought no refresh token."""
    if metadata.is_keycloak:
        return "turn on the use of refresh tokens for this client in Keycloak"
    if "offline_access" not in scope.split():
        return "add offline_access to BFF_SCOPE, unless the provider has another way (docs/bff/providers.md)"
    return (
        "allow this client the grant type refresh_token at the provider, and offline access if that is a"
        " setting there; some issue one with prompt=consent only, or want parameters in BFF_LOGIN_PARAMS"
    )


def discovery_url(issuer: str) -> str:
    """Return the URL of an issuer's metadata (Discovery 1.0 §4)."""
    return issuer.rstrip("/") + "/.well-known/openid-configuration"


def metadata_from(document: dict[str, Any], *, issuer: str) -> Metadata:
    """Return the metadata in a discovery document.

    Raises ProviderUnavailable if it names another issuer (Discovery 1.0 §4.3) or lacks an endpoint.
    """
    if document.get("issuer") != issuer:
        raise ProviderUnavailable("the metadata names another issuer than BFF_ISSUER")
    algorithms = strings(document, "id_token_signing_alg_values_supported")
    return Metadata(
        issuer=issuer,
        authorization_endpoint=_endpoint(document, "authorization_endpoint"),
        token_endpoint=_endpoint(document, "token_endpoint"),
        jwks_uri=_endpoint(document, "jwks_uri"),
        userinfo_endpoint=_optional_endpoint(document, "userinfo_endpoint"),
        revocation_endpoint=_optional_endpoint(document, "revocation_endpoint"),
        end_session_endpoint=_optional_endpoint(document, "end_session_endpoint"),
        pushed_authorization_request_endpoint=_optional_endpoint(
            document, "pushed_authorization_request_endpoint"
        ),
        requires_pushed_authorization_requests=document.get("require_pushed_authorization_requests") is True,
        signing_algorithms=ALGORITHMS & algorithms if algorithms else ALGORITHMS,
        announces_iss=document.get("authorization_response_iss_parameter_supported") is True,
        announces_pkce="S256" in strings(document, "code_challenge_methods_supported"),
        prompts=strings(document, "prompt_values_supported"),
    )


def _endpoint(document: dict[str, Any], name: str) -> str:
    in_the_clear = urlsplit(str(document["issuer"])).scheme == "http"
    try:
        return require_https(absolute(str(document.get(name))), debug=in_the_clear)
    except ValueError:
        raise ProviderUnavailable(f"the provider's metadata has no usable {name}") from None


def _optional_endpoint(document: dict[str, Any], name: str) -> str | None:
    return _endpoint(document, name) if document.get(name) else None


def expected_algorithms(announced: frozenset[str], configured: str) -> frozenset[str]:
    """Return what ID, logout and userinfo tokens for this client may be signed with.

    One algorithm is registered for a client, by default RS256 (Dynamic Client Registration 1.0 §2); a token
    with another one must be refused (OIDC Core §3.1.3.7, rule 7).
    """
    if configured:
        return frozenset({configured})
    return announced & {"RS256"} or announced


def strings(document: Mapping[str, Any], name: str) -> frozenset[str]:
    """Return the strings in a list of the document; an empty set if it is no list."""
    values = document.get(name)
    return (
        frozenset(value for value in values if isinstance(value, str))
        if isinstance(values, list)
        else frozenset()
    )


class Provider:
    """One OpenID provider, identified by its issuer.

    Nothing is fetched at start, so the application starts while the provider is down. Cached documents
    are served stale while it does not answer.

    `login_page` is the authorization endpoint, or the issuer until metadata is loaded (used for frame-src).
    """

    def __init__(
        self,
        issuer: str,
        http: httpx2.AsyncClient,
        *,
        timeout_seconds: float,
        keys_cooldown_seconds: float,
        id_token_alg: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.issuer = self.login_page = issuer
        self._http = http
        self._timeout_seconds = timeout_seconds
        self._cooldown_seconds = keys_cooldown_seconds
        self._id_token_alg = id_token_alg
        self._metadata = CachedDocument(self._fetch_metadata, clock=clock)
        self._keys = CachedDocument(self._fetch_keys, clock=clock)

    async def close(self) -> None:
        await self._http.aclose()

    async def metadata(self) -> Metadata:
        """Return the cached metadata; raises ProviderUnavailable if it was never fetched."""
        return await self._metadata.get()

    async def verify(self, token: str) -> SignedToken:
        """Return the content of a token that a published key has signed, or raise UntrustedToken.

        UnknownKey among them is not final: the token may be valid once the keys are fetched again.

        Keys are refetched for a signature that no cached key matches, since they may have been rotated;
        but once per cooldown, so that forged tokens cannot cause a flood of requests to the provider.
        """
        allowed = expected_algorithms((await self.metadata()).signing_algorithms, self._id_token_alg)
        algorithm_of(token, allowed)
        cached = await self._keys.get()
        try:
            return verify_signature(token, cached, allowed)
        except UnknownKey:
            if self._keys.age() < self._cooldown_seconds:
                raise
            newer = await self._keys.refetch()
            if newer is cached:  # served stale: the provider did not answer
                raise
        try:
            return verify_signature(token, newer, allowed)
        except UnknownKey as error:
            if names_one_of(token, newer):
                raise UntrustedToken(str(error)) from error
            # withdrawn since it signed: that need not mean that the token is forged
            raise UnusableToken("its key is not published, or not any more") from error

    async def _fetch_metadata(self) -> Metadata:
        metadata = metadata_from(await self._fetch(discovery_url(self.issuer)), issuer=self.issuer)
        if not metadata.announces_pkce:
            log.warning("provider does not announce PKCE with S256; state and nonce alone protect logins")
        self.login_page = metadata.authorization_endpoint
        return metadata

    async def _fetch_keys(self) -> list[Key]:
        keys = parse_jwks(await self._fetch((await self.metadata()).jwks_uri))
        if not keys:
            raise ProviderUnavailable("the provider publishes no usable key")
        return keys

    async def _fetch(self, url: str) -> dict[str, Any]:
        async with translate_http_errors(self._timeout_seconds):
            response = await self._http.get(url)
        return json_object(response.status_code, response.content)


def provider_http(timeout_seconds: float, tls: SSLContext) -> httpx2.AsyncClient:
    """Return the long-lived client for metadata and keys."""
    return httpx2.AsyncClient(transport=BoundedTransport(verify=tls), timeout=timeout_seconds)
