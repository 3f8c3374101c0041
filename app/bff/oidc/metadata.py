"""The provider's metadata and signing keys: fetched when needed, cached, and used to verify tokens."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2

from app.bff.backoff import (
    KEYS_BURST,
    METADATA_BURST,
    METADATA_COOLDOWN_SECONDS,
    READY_BURST,
    READY_SECONDS,
)
from app.bff.budget import Budget
from app.bff.errors import ProviderUnavailable, UntrustedToken, UnusableToken
from app.bff.oidc.cache import CachedDocument
from app.bff.oidc.http import (
    ProviderTransport,
    get_following_redirects,
    parse_json_object,
    time_limits,
    translate_http_errors,
)
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
from app.bff.settings.issuers import TENANT, Issuers
from app.bff.settings.models import BffSettings
from app.bff.settings.validators import absolute, is_confidential, require_https

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


def metadata_url(settings: BffSettings) -> str:
    """Return where the metadata is fetched: BFF_METADATA_URL, or the URL that belongs to BFF_ISSUER."""
    return settings.metadata_url or discovery_url(settings.issuer)


def metadata_from(document: dict[str, Any], *, issuer: str, in_the_clear: bool = False) -> Metadata:
    """Return the metadata in a discovery document. Its endpoints are used as they are.

    They may use http if the issuer does, or `in_the_clear`. Raises ProviderUnavailable if the document names
    another issuer (Discovery 1.0 §4.3) or lacks an endpoint.
    """
    if document.get("issuer") != issuer:
        several = TENANT in str(document.get("issuer")) and TENANT not in issuer
        hint = "; it is for several tenants: see BFF_TENANTS" if several else ""
        raise ProviderUnavailable(f"the metadata names another issuer than BFF_ISSUER{hint}")
    debug = in_the_clear or urlsplit(issuer).scheme == "http"

    def endpoint(name: str) -> str:
        try:
            return require_https(absolute(str(document.get(name))), debug=debug)
        except ValueError:
            raise ProviderUnavailable(f"the provider's metadata has no usable {name}") from None

    def optional_endpoint(name: str) -> str | None:
        return endpoint(name) if document.get(name) else None

    algorithms = strings(document, "id_token_signing_alg_values_supported")
    return Metadata(
        issuer=issuer,
        authorization_endpoint=endpoint("authorization_endpoint"),
        token_endpoint=endpoint("token_endpoint"),
        jwks_uri=endpoint("jwks_uri"),
        userinfo_endpoint=optional_endpoint("userinfo_endpoint"),
        revocation_endpoint=optional_endpoint("revocation_endpoint"),
        end_session_endpoint=optional_endpoint("end_session_endpoint"),
        pushed_authorization_request_endpoint=optional_endpoint("pushed_authorization_request_endpoint"),
        requires_pushed_authorization_requests=document.get("require_pushed_authorization_requests") is True,
        signing_algorithms=ALGORITHMS & algorithms if algorithms else ALGORITHMS,
        announces_iss=document.get("authorization_response_iss_parameter_supported") is True,
        announces_pkce="S256" in strings(document, "code_challenge_methods_supported"),
        prompts=strings(document, "prompt_values_supported"),
    )


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


# The URLs that this server itself requests, or sends browsers to.
_URLS = (
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "userinfo_endpoint",
    "revocation_endpoint",
    "end_session_endpoint",
    "pushed_authorization_request_endpoint",
)

Source = Literal["provider", "backchannel", "callback"]  # which endpoint a token has come from, or to


class Provider:
    """One OpenID provider, identified by its issuer.

    Nothing is fetched at start, so the application starts while the provider is down. Cached documents
    are served stale while it does not answer. When something of the provider fails, its metadata is fetched
    again, which tells where an endpoint has moved to.

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
        tenants: Iterable[str] = (),
        url: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.issuer = self.login_page = issuer
        self.issuers = Issuers(issuer, frozenset(tenants))
        self._http = http
        self._url = url or discovery_url(issuer)
        self._timeout_seconds = timeout_seconds
        self._id_token_alg = id_token_alg
        self._metadata = CachedDocument(self._fetch_metadata, clock=clock)
        self._keys = CachedDocument(self._fetch_keys, clock=clock)
        self._names: dict[str, str] = {}  # of the URLs in this metadata and in the one before
        self._last_names: dict[str, str] = {}
        self._latest: Metadata | None = None
        self._refetches = Budget(METADATA_BURST, seconds=METADATA_COOLDOWN_SECONDS, clock=clock)
        self._checks = Budget(READY_BURST, seconds=1, clock=clock)
        self._key_fetches = {
            "provider": Budget(KEYS_BURST, seconds=keys_cooldown_seconds / KEYS_BURST, clock=clock),
            "backchannel": Budget(1, seconds=keys_cooldown_seconds, clock=clock),
            "callback": Budget(1, seconds=keys_cooldown_seconds, clock=clock),
        }

    async def close(self) -> None:
        await self._http.aclose()

    async def metadata(self) -> Metadata:
        """Return the cached metadata; raises ProviderUnavailable if it was never fetched."""
        return await self._metadata.get()

    async def problem(self) -> str:
        """Return why metadata could not be fetched in the last READY_SECONDS; "" if it could."""
        return await self._metadata.problem(self._checks, seconds=READY_SECONDS)

    def suspect(self) -> None:
        """Something of the provider fails: fetch metadata again in the background, as the cooldown allows."""
        self._metadata.start_refetch(self._refetches)

    async def moved(self, url: str) -> str | None:
        """Return where the endpoint at `url` is by now, or None if it is still there.

        Metadata is fetched again for that, as the cooldown allows.
        """
        name = self._names.get(url, "")
        current = getattr(await self._metadata.get(), name, None)
        if current == url:
            current = getattr(await self._metadata.refetch(self._refetches), name, None)
        return current if current != url else None

    async def verify(self, token: str, *, source: Source = "provider") -> SignedToken:
        """Return the content of a token that a published key has signed, or raise UntrustedToken.

        UnknownKey among them is not final: the token may be valid once the keys are fetched again.

        Keys are refetched for a signature that no cached key matches: they may have been rotated, also under
        the same `kid`. Anyone can send a token to the back-channel or the callback, but not make the
        provider's endpoints answer with one: forged tokens cause one request of each `source` in
        `keys_cooldown_seconds`, and delay no others.
        """
        allowed = expected_algorithms((await self.metadata()).signing_algorithms, self._id_token_alg)
        algorithm_of(token, allowed)
        cached = await self._keys.get()
        try:
            return verify_signature(token, cached, allowed)
        except UnknownKey:
            newer = await self._keys.refetch(self._key_fetches[source])
            if newer is cached:  # the budget is used up, or the provider did not answer
                raise
        try:
            return verify_signature(token, newer, allowed)
        except UnknownKey as error:
            if names_one_of(token, newer):
                raise UntrustedToken(str(error)) from error
            # withdrawn since it signed: that need not mean that the token is forged
            raise UnusableToken("its key is not published, or not any more") from error

    async def _fetch_metadata(self) -> Metadata:
        metadata = metadata_from(
            await self._fetch(self._url),
            issuer=self.issuers.announced,
            in_the_clear=not is_confidential(self._url),
        )
        if not metadata.announces_pkce:
            log.warning("provider does not announce PKCE with S256; state and nonce alone protect logins")
        self.login_page = metadata.authorization_endpoint
        names = {str(getattr(metadata, name)): name for name in _URLS}
        if moved := sorted({names[url] for url in names.keys() - self._last_names if self._last_names}):
            log.warning("provider endpoints have moved", extra={"endpoints": moved})
        self._names, self._last_names, self._latest = {**self._last_names, **names}, names, metadata
        return metadata

    async def _fetch_keys(self) -> list[Key]:
        url = (self._latest or await self.metadata()).jwks_uri
        try:
            document = await self._fetch(url)
        except ProviderUnavailable:
            newer = await self.moved(url)
            if newer is None:
                raise
            document = await self._fetch(newer)
        keys = parse_jwks(document)
        if not keys:
            raise ProviderUnavailable("the provider publishes no usable key")
        return keys

    async def _fetch(self, url: str) -> dict[str, Any]:
        async with translate_http_errors(self._timeout_seconds) as extensions:
            response = await get_following_redirects(self._http, url, extensions)
        found = parse_json_object(response.content)
        if response.status_code != httpx2.codes.OK or found is None:
            raise ProviderUnavailable(f"the provider answered {response.status_code} without a JSON object")
        return found


def provider_http(timeout_seconds: float, tls: SSLContext) -> httpx2.AsyncClient:
    """Return the long-lived client for metadata and keys."""
    return httpx2.AsyncClient(transport=ProviderTransport(tls), timeout=time_limits(timeout_seconds))
