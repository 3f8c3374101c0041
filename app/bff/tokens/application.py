"""Valid access tokens of the application itself (client credentials grant, RFC 6749 §4.4)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from app.bff.errors import GrantRefused, ProviderUnavailable, TokenUnavailable
from app.bff.oidc.client import OidcClient
from app.bff.oidc.dpop import DpopKey
from app.bff.sessions.session import Target, TokenSet
from app.bff.singleflight import SingleFlight
from app.bff.tokens.policy import TokenRequest, alive_or_raise

log = logging.getLogger(__name__)


class ApplicationTokens:
    """Returns the application's own access tokens: one per target, shared by all callers in this process."""

    def __init__(
        self,
        client: OidcClient,
        *,
        margin_seconds: float,
        dpop_key: DpopKey | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.dpop_key = dpop_key
        self._client = client
        self._margin_seconds = margin_seconds
        self._clock = clock
        self._tokens: dict[Target, TokenSet] = {}
        self._renewed: set[Target] = set()  # those whose token is not the first one
        self._flights = SingleFlight[TokenSet]()

    async def get(self, target: Target, *, rejected: str | None = None) -> str:
        """Return the access token of `tokens`."""
        return (await self.tokens(target, rejected=rejected)).access_token

    async def tokens(self, target: Target, *, rejected: str | None = None) -> TokenSet:
        """Return a valid access token that is not `rejected`.

        Raises TokenUnavailable if the provider does not answer or rejects the request, unless the
        current token has not expired. Early in its margin a token is renewed in the background.
        """
        request = TokenRequest(self._margin_seconds, self._clock, target, rejected)
        return request.fresh(self) or await self._refreshed(request)

    def tokens_for(self, target: Target) -> TokenSet | None:
        return self._tokens.get(target)

    def has_renewed(self, target: Target) -> bool:
        return target in self._renewed

    async def _refreshed(self, request: TokenRequest) -> TokenSet:
        flight = self._flights.start(request.target, lambda: self._fetch(request.target))
        if tokens := request.usable_while_renewing(self):
            return tokens
        try:
            return alive_or_raise(await asyncio.shield(flight), now=self._clock())
        except TokenUnavailable as error:
            return request.unexpired_or_raise(self, error)

    async def _fetch(self, target: Target) -> TokenSet:
        try:
            tokens = await self._client.client_credentials(target, dpop_key=self.dpop_key)
        except (GrantRefused, ProviderUnavailable) as error:
            log.warning("application token not obtained", extra={"reason": str(error)})
            raise TokenUnavailable(
                "the application has no access token", retry_after_seconds=error.retry_after_seconds
            ) from error
        if target in self._tokens:
            self._renewed.add(target)
        self._tokens[target] = tokens
        return tokens
