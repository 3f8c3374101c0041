"""Refresh tokens whose session is over are revoked at the provider (RFC 7009)."""

from __future__ import annotations

import logging

from app.errors import ProviderUnavailable
from app.oidc.client import OidcClient
from app.sessions.session import TokenSet

log = logging.getLogger(__name__)


class Revocation:
    """Revokes what a session leaves behind; a provider that is down stops nothing."""

    def __init__(self, client: OidcClient, *, enabled: bool = True) -> None:
        self._client = client
        self._enabled = enabled

    async def revoke(self, tokens: TokenSet) -> None:
        if tokens.refresh_token is None or not self._enabled:
            return
        try:
            await self._client.revoke(tokens.refresh_token)
        except ProviderUnavailable as error:
            log.warning("refresh token could not be revoked", extra={"reason": str(error)})
