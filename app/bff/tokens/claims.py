"""Renews the claims of a session at each refresh of its tokens: from the ID token, and from userinfo."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from app.bff.errors import ProviderUnavailable, StoreUnavailable, UntrustedToken
from app.bff.hooks import HookRunner
from app.bff.oidc.client import OidcClient
from app.bff.oidc.kept_claims import changed_claims, renewed_claims
from app.bff.oidc.keys import unverified_claims
from app.bff.sessions.interfaces import SessionStore
from app.bff.sessions.session import LOGIN, Session, TokenSet
from app.bff.telemetry.logs import session_log_id

log = logging.getLogger(__name__)


class ClaimsRenewal:
    """What a refresh does to the claims of its session.

    Those of the ID token are saved with the new tokens, in one write. Whatever takes a request of its own
    comes after that write: the new refresh token must not wait for it.
    """

    def __init__(
        self,
        sessions: SessionStore,
        client: OidcClient,
        *,
        hooks: HookRunner | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sessions = sessions
        self._client = client
        self._clock = clock
        self._hooks = hooks

    def of_id_token(self, changed: Session, earlier: Session, id_token: Mapping[str, Any]) -> Session:
        """Return `changed`, which has the new tokens, with the claims of the ID token that came with them."""
        before = unverified_claims(earlier.tokens.id_token or "")  # verified when it arrived
        return self._renewed(changed, renewed_claims(earlier.claims, earlier=before, id_token=id_token))

    async def finish(self, saved: Session, earlier: Session, tokens: TokenSet) -> Session:
        """Renew what needs more than the token response, and return the session as it then is.

        `earlier` is the session before the refresh, which has been saved. Nothing that fails here undoes it.
        """
        renewed = await self._of_userinfo(saved, tokens)
        if self._hooks is not None and (changed := changed_claims(earlier.claims, renewed.claims)):
            hooked = await self._hooks.refreshed(renewed, changed)
            count = saved.changes + bool(changed_claims(saved.claims, hooked.claims))
            renewed = replace(hooked, changes=count) if hooked is not renewed else renewed
        if renewed is not saved:
            renewed = await self._saved(renewed, saved)
        return renewed

    async def _of_userinfo(self, saved: Session, tokens: TokenSet) -> Session:
        if not self._client.asks_userinfo_on_refresh or tokens.target != LOGIN:
            return saved
        try:
            userinfo = await self._client.userinfo(saved, tokens)
        except (ProviderUnavailable, UntrustedToken) as error:
            fields = {"session": session_log_id(saved.ref), "reason": str(error)}
            log.warning("claims not renewed from userinfo", extra=fields)
            return saved
        if userinfo is None:
            return saved
        id_token = unverified_claims(saved.tokens.id_token or "")
        return self._renewed(
            saved, renewed_claims(saved.claims, earlier={}, id_token=id_token, userinfo=userinfo)
        )

    def _renewed(self, session: Session, claims: Mapping[str, Any]) -> Session:
        """Return the session with these claims of the provider; what the application has added stays."""
        kept = self._client.kept(self._client.cleaned(claims))
        added = {name: session.claims[name] for name in session.added}
        renewed = {**kept, **added}
        changed = changed_claims(session.claims, renewed)
        if changed:
            log.info("claims changed", extra={"session": session_log_id(session.ref), "claims": changed})
        return replace(
            session,
            claims=renewed,
            claims_renewed_at=self._clock(),
            changes=session.changes + bool(changed),
        )

    async def _saved(self, renewed: Session, saved: Session) -> Session:
        """Save claims, unless another refresh has renewed them meanwhile; return what is stored."""
        try:
            if written := await self._sessions.save(renewed):
                return written
            current = await self._sessions.get(saved.ref)
            if current and current.claims_renewed_at <= saved.claims_renewed_at:
                newer = replace(
                    current,
                    claims=renewed.claims,
                    claims_renewed_at=renewed.claims_renewed_at,
                    added=renewed.added,
                    changes=current.changes + renewed.changes - saved.changes,
                )
                return await self._sessions.save(newer) or current
        except StoreUnavailable:
            return saved  # the next refresh renews them
        return current or saved
