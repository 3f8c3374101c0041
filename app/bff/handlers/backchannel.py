"""The endpoint for logout tokens of the provider (OpenID Connect Back-Channel Logout 1.0)."""

from __future__ import annotations

import json
import logging

from app.bff.errors import BadRequest, ProviderUnavailable, UntrustedToken
from app.bff.handlers.web import WebHandler
from app.bff.oidc.keys import UnknownKey
from app.bff.oidc.logout_token import LogoutToken, validate
from app.bff.sessions.session import Reason, Session
from app.bff.web.query import single_values

log = logging.getLogger(__name__)

_FORM = "application/x-www-form-urlencoded"


class BackChannelLogout(WebHandler):
    """Ends the sessions that a logout token names, in all processes.

    Answers 200, also if there is no such session; 400 for an invalid token; 503 if the session store or
    the provider's keys are unavailable: the provider may send the token again.
    """

    renders_html = False

    def check_trusted_origin(self, origin: str) -> bool:
        return True  # authenticated by the token's signature, not by a cookie

    async def post(self) -> None:
        try:
            await self._end(await self._validated_token(self._posted_token()))
        except BadRequest as error:
            log.warning("logout token refused", extra={"reason": str(error)})
            self._refuse(str(error))
        else:
            self.clear_header("Content-Type")
            self.finish()

    def _posted_token(self) -> str:
        if self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != _FORM:
            raise BadRequest(f"the body must be {_FORM}")
        token = single_values(self.request.body_arguments).get("logout_token")
        if token is None:
            raise BadRequest("the parameter logout_token is missing")
        return token

    async def _validated_token(self, token: str) -> LogoutToken:
        services = self.services
        settings = services.settings
        try:
            signed = await services.provider.verify(token, source="backchannel")
            return validate(
                signed,
                issuer=services.provider.issuers.of(signed.claims),
                client_id=settings.client_id,
                trusted_audiences=settings.trusted_audiences,
                now=services.clock(),
            )
        except UnknownKey as error:
            wait = settings.provider_keys_cooldown_seconds
            raise ProviderUnavailable(str(error), retry_after_seconds=wait) from error
        except UntrustedToken as error:
            raise BadRequest(str(error)) from error

    async def _end(self, logout: LogoutToken) -> None:
        """End the sessions first, then add the token to the replay cache.

        If anything fails in between, a retry by the provider is not refused as a replay, and ends the rest.
        """
        services = self.services
        if await services.replay_cache.has(logout.key):
            raise BadRequest("this logout token has been used")
        sessions = await self._sessions_named_by(logout)
        await services.tokens.end_all(sessions, Reason.PROVIDER)
        await services.replay_cache.add(logout.key, until=logout.replay_until)
        log.info("signed out at the provider", extra={"sessions": len(sessions)})

    async def _sessions_named_by(self, logout: LogoutToken) -> list[Session]:
        """A `sid` names one session of the provider; a `sub` beside it must be its subject (§2.7)."""
        sessions, issuer = self.services.sessions, logout.issuer
        if logout.sid is None:
            return await sessions.of_user(issuer, logout.subject or "")
        found = await sessions.of_sid(issuer, logout.sid)
        return [session for session in found if logout.subject in (None, session.subject)]

    def _refuse(self, reason: str) -> None:
        self.set_status(400)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"error": "invalid_request", "error_description": reason}))
