"""Access tokens that speak for this application itself (client credentials), good right now."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from app.errors import GrantRefused, ProviderUnavailable, TokenUnavailable
from app.flights import Flights
from app.oidc.client import OidcClient
from app.sessions.session import TokenSet

log = logging.getLogger(__name__)


class ApplicationTokens:
    """Hands out tokens of our own: one per scope and resource, shared by everybody in this process."""

    def __init__(
        self, client: OidcClient, *, margin_seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._client = client
        self._margin_seconds = margin_seconds
        self._clock = clock
        self._tokens: dict[tuple[str | None, str | None], TokenSet] = {}
        self._flights = Flights[TokenSet]()

    async def get(self, *, scope: str | None, resource: str | None, instead_of: str | None = None) -> str:
        """Return an access token that is good right now and is not `instead_of`.

        Raises TokenUnavailable if the provider does not answer, or refuses; a token that is inside the
        margin but alive is returned even then.
        """
        wanted = (scope, resource)
        kept = self._tokens.get(wanted)
        if kept is not None and kept.access_token == instead_of:
            kept = None
        if kept is not None and kept.is_fresh(margin_seconds=self._margin_seconds, now=self._clock()):
            return kept.access_token
        try:
            tokens = await self._flights.join(wanted, lambda: self._fetch(scope, resource))
        except TokenUnavailable:
            if kept is None or not kept.is_alive(now=self._clock()):
                raise
            return kept.access_token
        return tokens.access_token

    async def _fetch(self, scope: str | None, resource: str | None) -> TokenSet:
        try:
            tokens = await self._client.client_credentials(scope=scope, resource=resource)
        except (GrantRefused, ProviderUnavailable) as error:
            log.warning("no token of our own", extra={"reason": str(error)})
            raise TokenUnavailable(
                "no token of our own", retry_after_seconds=error.retry_after_seconds
            ) from error
        self._tokens[scope, resource] = tokens
        return tokens
