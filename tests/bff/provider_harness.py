"""The parts of the development provider's own tests: a person's browser, and the client behind it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlsplit

import httpx2 as httpx
from joserfc.jwk import KeySet

from app.bff.dev.provider import Client, Provider

CALLBACK = "http://localhost:8888/bff/callback"
SIGNED_OUT = "http://localhost:8888/bff/logout/callback"
APP = Client("app", "a secret: 100%41+", (CALLBACK,), (SIGNED_OUT,))
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # with its challenge: RFC 7636 appendix B
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
BASIC = "Basic " + base64.b64encode(f"app:{quote_plus(APP.client_secret)}".encode()).decode()


class Browser:
    """One person at the provider, and the client that the provider sends them back to."""

    def __init__(self, issuer: str) -> None:
        self.http = httpx.AsyncClient(base_url=issuer)

    async def authorize(self, **changed: str) -> httpx.Response:
        return await self.http.get("/authorize", params=authorize_params(changed))

    async def sign_in(self, sub: str = "alice", **changed: str) -> dict[str, str]:
        """The parameters that the provider sends back to the client."""
        answer = await self.http.post("/authorize", params=authorize_params(changed), data={"sub": sub})
        return callback_params(answer)

    async def token(
        self, grant_type: str, basic: str = BASIC, proof: str | None = None, **form: str
    ) -> httpx.Response:
        data = {"grant_type": grant_type, **form}
        headers = {"Authorization": basic} | ({"DPoP": proof} if proof else {})
        return await self.http.post("/token", data=data, headers=headers)

    async def redeem(self, code: str, verifier: str = VERIFIER, **more: str) -> httpx.Response:
        form = {"code": code, "redirect_uri": CALLBACK, "code_verifier": verifier, **more}
        return await self.token("authorization_code", **form)

    async def refresh(self, refresh_token: str, **more: str) -> httpx.Response:
        return await self.token("refresh_token", refresh_token=refresh_token, **more)

    async def tokens(self, **changed: str) -> dict[str, Any]:
        back = await self.sign_in(**changed)
        tokens: dict[str, Any] = (await self.redeem(back["code"])).json()
        return tokens

    async def introspect(self, token: str) -> dict[str, Any]:
        answer = await self.http.post("/introspect", data={"token": token}, headers={"Authorization": BASIC})
        body: dict[str, Any] = answer.json()
        return body

    async def userinfo(self, access_token: str) -> httpx.Response:
        return await self.http.get("/userinfo", headers={"Authorization": f"Bearer {access_token}"})

    async def keys(self) -> KeySet:
        return KeySet.import_key_set((await self.http.get("/jwks")).json())


def authorize_params(changed: dict[str, str]) -> dict[str, str]:
    request = {
        "response_type": "code",
        "client_id": "app",
        "redirect_uri": CALLBACK,
        "scope": "openid profile email offline_access",
        "state": "the-state",
        "nonce": "the-nonce",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    return {**request, **changed}


def callback_params(answer: httpx.Response, to: str = CALLBACK) -> dict[str, str]:
    assert answer.status_code == 303
    url = urlsplit(answer.headers["Location"])
    assert url._replace(query="").geturl() == to
    return dict(parse_qsl(url.query))


def basic(client_id: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


@asynccontextmanager
async def browser_at(provider: Provider) -> AsyncIterator[Browser]:
    """Somebody who is about to sign in to APP."""
    provider.clients[APP.client_id] = APP
    browser = Browser(provider.issuer)
    yield browser
    await browser.http.aclose()
