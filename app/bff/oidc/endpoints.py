"""Calls the provider's endpoints: client authentication, DPoP, a time-out; breaker and pool per kind."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ssl import SSLContext
from typing import Any, TypeVar

from authlib.integrations.httpx_client import AsyncOAuth2Client

from app.bff.errors import AppError, ClientRejected, ProviderUnavailable
from app.bff.oidc.breaker import Breaker
from app.bff.oidc.client_auth import PrivateKeyJwt, client_secret_basic, client_secret_post, key_from
from app.bff.oidc.dpop import (
    DpopKey,
    Nonces,
    authorization,
    is_api_nonce_challenge,
    is_token_endpoint_nonce_challenge,
    proof,
)
from app.bff.oidc.http import ProviderTransport, parse_json_object, time_limits, translate_http_errors
from app.bff.oidc.metadata import Provider
from app.bff.oidc.refusals import refusal_fields
from app.bff.oidc.responses import EndpointResponse, server_date, skew_seconds
from app.bff.settings.models import BffSettings

log = logging.getLogger(__name__)
T = TypeVar("T")
Params = Mapping[str, str | Sequence[str]]


class RequestKind(StrEnum):
    """What a request to the provider is for. Kinds share neither a circuit breaker nor connections."""

    CODE = "code"  # also userinfo: the rest of a login
    PUSHED = "pushed_authorization"
    REFRESH = "refresh"
    EXCHANGE = "exchange"
    CLIENT_CREDENTIALS = "client_credentials"
    REVOCATION = "revocation"


# A browser without a session causes these, in any number and with content of its choice.
_FOR_ANONYMOUS = (RequestKind.CODE, RequestKind.PUSHED)


# What a provider may repeat in its description of an error, and no log may show.
_SECRET_PARAMS = ("code", "code_verifier", "refresh_token", "subject_token", "token", "client_assertion")

# An endpoint is not there, or not there any more: it has not processed the request.
_GONE = (301, 302, 303, 307, 308, 404, 405, 410, 421)


@dataclass
class _Lane:
    """What requests of one kind share. Nothing that happens in one lane delays or stops another.

    The breaker is that of `endpoint`: one that has moved begins with a closed one.
    """

    breaker: Breaker
    http: AsyncOAuth2Client
    endpoint: str = ""


class EndpointClient:
    """Sends requests to the provider over long-lived HTTP clients, shared by all users.

    With a `provider` its metadata is fetched again when a request fails, and a request that an endpoint did
    not process is sent to where the endpoint has moved.

    Authlib's client authenticates requests. It also stores "the" token of a single user, which must
    never be read here.
    """

    def __init__(
        self,
        settings: BffSettings,
        *,
        tls: SSLContext,
        provider: Provider | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._provider = provider
        self._timeout_seconds = settings.provider_timeout_seconds
        self._auth_method = settings.client_auth
        self._client_secret = settings.client_secret.get_secret_value()
        self._nonces = Nonces()
        self._userinfo_nonces = Nonces()  # a protected resource has nonces of its own (RFC 9449 §9)
        self._dated: tuple[Mapping[str, str], float, float] | None = None
        assertion = _client_assertion(settings, clock)
        self._lanes = {
            kind: _Lane(
                Breaker(for_anonymous=kind in _FOR_ANONYMOUS, clock=clock),
                _authenticating_client(settings, assertion, tls, kind),
            )
            for kind in RequestKind
        }

    @property
    def seconds_ahead(self) -> int | None:
        """How far our clock is ahead of the latest response's `Date`, if it had one; negative: behind."""
        if self._dated is None:
            return None
        headers, sent_at, received_at = self._dated
        date = server_date(headers)
        return None if date is None else round(skew_seconds(date, sent_at=sent_at, received_at=received_at))

    @property
    def breaker_states(self) -> dict[str, str]:
        """The state of each kind's circuit breaker; see `Breaker.state`."""
        return {kind.value: lane.breaker.state for kind, lane in self._lanes.items()}

    async def close(self) -> None:
        for lane in self._lanes.values():
            await lane.http.aclose()

    async def post(
        self,
        kind: RequestKind,
        endpoint: str,
        params: Params,
        parse: Callable[[EndpointResponse], T],
        dpop_key: DpopKey | None = None,
    ) -> T:
        """Post a form with client authentication, and return `parse` of the response.

        Raises what `parse` raises, and logs what the provider said; ProviderUnavailable also if there is
        no response, or if the circuit breaker of this kind of request is open.
        """
        lane = self._lanes[kind]
        if endpoint != lane.endpoint:
            if lane.endpoint:
                lane.breaker = Breaker(for_anonymous=kind in _FOR_ANONYMOUS, clock=self._clock)
            lane.endpoint = endpoint

        async def send(endpoint: str) -> EndpointResponse:
            response = await self._post(lane.http, endpoint, params, dpop_key)
            if dpop_key and is_token_endpoint_nonce_challenge(response.status, response.error):
                response = await self._post(lane.http, endpoint, params, dpop_key)
            return response

        response: EndpointResponse | None = None
        try:
            with lane.breaker.request():
                response = await self._at(endpoint, send)
                return parse(response)
        except AppError as error:
            self._log(kind, params, response, error)
            if isinstance(error, ProviderUnavailable):
                self._suspect()
            raise

    def _log(
        self, kind: RequestKind, params: Params, response: EndpointResponse | None, error: AppError
    ) -> None:
        secrets = [self._client_secret, *(str(params.get(name, "")) for name in _SECRET_PARAMS)]
        said = refusal_fields(response.document if response else {}, secrets=secrets)
        if isinstance(error, ClientRejected):
            reason = {"reason": str(error), "seconds_ahead": self.seconds_ahead}  # assertions have times
            log.error(
                "provider rejected the client: check BFF_CLIENT_* and its registration",
                extra={"request": kind.value, **reason, **said},
            )
        elif said:
            log.info("provider refused a request", extra={"request": kind.value, **said})

    async def get(
        self, endpoint: str, access_token: str, dpop_key: DpopKey | None = None
    ) -> EndpointResponse:
        """Get a resource with an access token; raises ProviderUnavailable if there is no response."""

        async def send(endpoint: str) -> EndpointResponse:
            response = await self._get(endpoint, access_token, dpop_key)
            if dpop_key and is_api_nonce_challenge(response.status, response.headers):
                response = await self._get(endpoint, access_token, dpop_key)
            return response

        try:
            return await self._at(endpoint, send)
        except ProviderUnavailable:
            self._suspect()
            raise

    async def _at(
        self, endpoint: str, send: Callable[[str], Awaitable[EndpointResponse]]
    ) -> EndpointResponse:
        """Return the response of the endpoint, or of the one that has taken its place."""
        try:
            response = await send(endpoint)
        except ProviderUnavailable as error:
            if not error.is_unsent or (moved := await self._moved(endpoint)) is None:
                raise
        else:
            if response.status not in _GONE or (moved := await self._moved(endpoint)) is None:
                return response
        return await send(moved)

    async def _moved(self, endpoint: str) -> str | None:
        return await self._provider.moved(endpoint) if self._provider else None

    def _suspect(self) -> None:
        if self._provider:
            self._provider.suspect()

    async def _post(
        self, http: AsyncOAuth2Client, endpoint: str, params: Params, dpop_key: DpopKey | None
    ) -> EndpointResponse:
        headers = {"Accept": "application/json"}
        if dpop_key:
            nonce = self._nonces.of(endpoint)
            headers["DPoP"] = proof(dpop_key, "POST", endpoint, now=self._clock(), nonce=nonce)
        auth = http.client_auth(self._auth_method)
        options = {"data": params, "headers": headers, "auth": auth}
        return await self._send(http, "POST", endpoint, self._nonces, **options)

    async def _get(self, endpoint: str, access_token: str, dpop_key: DpopKey | None) -> EndpointResponse:
        nonce = self._userinfo_nonces.of(endpoint)
        headers = authorization(access_token, dpop_key, "GET", endpoint, now=self._clock(), nonce=nonce)
        http = self._lanes[RequestKind.CODE].http
        return await self._send(http, "GET", endpoint, self._userinfo_nonces, headers=headers, auth=None)

    async def _send(
        self, http: AsyncOAuth2Client, method: str, endpoint: str, nonces: Nonces, **options: Any
    ) -> EndpointResponse:
        sent_at = self._clock()
        async with translate_http_errors(self._timeout_seconds) as extensions:
            response = await http.request(method, endpoint, extensions=extensions, **options)
        received_at = self._clock()
        self._dated = (response.headers, sent_at, received_at)
        if "DPoP-Nonce" in response.headers:
            nonces.note(endpoint, response.headers)
        json_object = parse_json_object(response.content)
        return EndpointResponse(
            response.status_code, response.headers, json_object, sent_at, received_at, response.content
        )


def _client_assertion(settings: BffSettings, clock: Callable[[], float]) -> PrivateKeyJwt | None:
    if settings.client_key_file is None:
        return None
    return PrivateKeyJwt(key_from(settings.client_key_file), audience=settings.issuer, clock=clock)


def _authenticating_client(
    settings: BffSettings, assertion: PrivateKeyJwt | None, tls: SSLContext, kind: RequestKind
) -> AsyncOAuth2Client:
    http = AsyncOAuth2Client(
        client_id=settings.client_id,
        client_secret=settings.client_secret.get_secret_value(),
        token_endpoint_auth_method=settings.client_auth,
        transport=ProviderTransport(tls, kind.value),
        timeout=time_limits(settings.provider_timeout_seconds),
    )
    http.register_client_auth_method(("client_secret_basic", client_secret_basic))
    http.register_client_auth_method(("client_secret_post", client_secret_post))
    if assertion is not None:
        http.register_client_auth_method(("private_key_jwt", assertion))
    return http
