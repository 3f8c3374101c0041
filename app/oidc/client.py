"""What we ask of the provider: to log somebody in, for tokens, to revoke one, to log somebody out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from ssl import SSLContext
from typing import Any
from urllib.parse import urlencode

import httpx2
from authlib.integrations.httpx_client import AsyncOAuth2Client

from app.errors import ClientRejected, LoginFailed, ProviderUnavailable
from app.oidc.answers import retry_after_seconds, tokens_from
from app.oidc.claims import check_id_token, check_refreshed_id_token, check_userinfo
from app.oidc.client_auth import PrivateKeyJwt, client_secret_basic, key_from
from app.oidc.http import BoundedTransport, asking_the_provider, json_object
from app.oidc.login import LoginAttempt
from app.oidc.provider import Provider
from app.sessions.session import TokenSet
from app.settings import Settings

log = logging.getLogger(__name__)

CALLBACK_PATH = "/bff/callback"
LOGOUT_CALLBACK_PATH = "/bff/logout/callback"
_MAX_URL = 2000  # longer ones are cut or refused on the way; an id token full of groups gets there


class OidcClient:
    """Our side of the conversation with one provider.

    One long-lived HTTP client serves all users. Of Authlib's client we use what builds and signs
    requests; it also remembers "the" token of a single user, which here must never be read.
    """

    def __init__(
        self,
        settings: Settings,
        provider: Provider,
        *,
        tls: SSLContext,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._provider = provider
        self._clock = clock
        self._http = AsyncOAuth2Client(
            client_id=settings.client_id,
            client_secret=settings.client_secret.get_secret_value(),
            token_endpoint_auth_method=settings.client_auth,
            redirect_uri=settings.base_url + CALLBACK_PATH,
            code_challenge_method="S256",
            transport=BoundedTransport(verify=tls),
            timeout=settings.provider_timeout_seconds,
        )
        self._http.register_client_auth_method(("client_secret_basic", client_secret_basic))
        if settings.client_key_file is not None:
            key = key_from(settings.client_key_file)
            assertion = PrivateKeyJwt(key, audience=settings.issuer, clock=clock)
            self._http.register_client_auth_method(("private_key_jwt", assertion))

    async def close(self) -> None:
        await self._http.aclose()

    async def login_url(self, attempt: LoginAttempt, *, prompt: str | None = None) -> str:
        """Return where to send the browser for this attempt."""
        metadata = await self._provider.metadata()
        extra = {"prompt": prompt} if prompt else {}
        url, _ = self._http.create_authorization_url(
            metadata.authorization_endpoint,
            state=attempt.state,
            nonce=attempt.nonce,
            code_verifier=attempt.verifier,
            scope=self._settings.scope,
            **extra,
        )
        return str(url)

    async def sign_in(self, attempt: LoginAttempt, code: str) -> tuple[dict[str, Any], TokenSet]:
        """Exchange the code; return what we believe about the user, and the tokens.

        Raises GrantRefused, UntrustedToken, LoginFailed or ProviderUnavailable.
        """
        tokens = await self._tokens(
            grant_type="authorization_code",
            code=code,
            redirect_uri=self._settings.base_url + CALLBACK_PATH,
            code_verifier=attempt.verifier,
        )
        if tokens.id_token is None:
            raise LoginFailed("The sign-in service did not say who you are.")
        id_token = await self._provider.verified(tokens.id_token)
        check_id_token(
            id_token,
            issuer=attempt.issuer,
            client_id=self._settings.client_id,
            nonce=attempt.nonce,
            access_token=tokens.access_token,
            now=self._clock(),
        )
        userinfo = await self._userinfo(tokens.access_token, subject=id_token.claims["sub"])
        return {**userinfo, **id_token.claims}, tokens

    async def refresh(self, refresh_token: str) -> TokenSet:
        """Return new tokens. Raises GrantRefused if the refresh token is dead."""
        return await self._tokens(grant_type="refresh_token", refresh_token=refresh_token)

    async def check_refreshed(self, id_token: str, *, earlier: dict[str, Any]) -> None:
        """Raise UntrustedToken unless a refreshed id token speaks of the same login."""
        check_refreshed_id_token(
            await self._provider.verified(id_token),
            earlier=earlier,
            client_id=self._settings.client_id,
            now=self._clock(),
        )

    async def client_credentials(self, *, scope: str | None, resource: str | None) -> TokenSet:
        """Return a token that speaks for this application, not for a user (RFC 6749 §4.4)."""
        wanted = {"scope": scope, "resource": resource}
        return await self._tokens(grant_type="client_credentials", **{k: v for k, v in wanted.items() if v})

    async def revoke(self, refresh_token: str) -> None:
        """Revoke a refresh token (RFC 7009); nothing happens where the provider has no such endpoint."""
        endpoint = (await self._provider.metadata()).revocation_endpoint
        if endpoint is None:
            return
        response = await self._post(endpoint, {"token": refresh_token, "token_type_hint": "refresh_token"})
        if response.status_code != httpx2.codes.OK:
            raise ProviderUnavailable(
                f"the revocation endpoint answered {response.status_code}",
                retry_after_seconds=retry_after_seconds(response.headers),
            )

    async def logout_url(self, *, id_token: str | None, state: str) -> str | None:
        """Return where the browser ends the provider's session, or None if that cannot be done."""
        endpoint = (await self._provider.metadata()).end_session_endpoint
        if endpoint is None:
            return None
        params = {
            "client_id": self._settings.client_id,
            "post_logout_redirect_uri": self._settings.base_url + LOGOUT_CALLBACK_PATH,
            "state": state,
        }
        hinted = _with_query(endpoint, {**params, "id_token_hint": id_token} if id_token else params)
        return hinted if len(hinted) <= _MAX_URL else _with_query(endpoint, params)

    async def _userinfo(self, access_token: str, *, subject: str) -> dict[str, Any]:
        endpoint = (await self._provider.metadata()).userinfo_endpoint
        if endpoint is None:
            return {}
        async with asking_the_provider(self._settings.provider_timeout_seconds):
            bearer = {"Authorization": f"Bearer {access_token}"}
            response = await self._http.get(endpoint, headers=bearer, auth=None)
        userinfo = json_object(response)
        check_userinfo(userinfo, subject=subject)
        return userinfo

    async def _tokens(self, **params: str) -> TokenSet:
        endpoint = (await self._provider.metadata()).token_endpoint
        response = await self._post(endpoint, params)
        try:
            return tokens_from(response.status_code, response.headers, response.content, now=self._clock())
        except ClientRejected as error:
            log.error("provider rejects this client: check BFF_CLIENT_*", extra={"reason": str(error)})
            raise

    async def _post(self, endpoint: str, params: dict[str, str]) -> httpx2.Response:
        async with asking_the_provider(self._settings.provider_timeout_seconds):
            response: httpx2.Response = await self._http.post(
                endpoint,
                data=params,
                headers={"Accept": "application/json"},
                auth=self._http.client_auth(self._settings.client_auth),
            )
        return response


def _with_query(url: str, params: dict[str, str]) -> str:
    return url + ("&" if "?" in url else "?") + urlencode(params)
