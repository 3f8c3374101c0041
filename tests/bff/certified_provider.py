"""The certified npm package `oidc-provider` in a process of its own, and who fills in its forms."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urljoin

import httpx2

from tests.bff.harness import CLIENT_ID, CLIENT_SECRET, NAVIGATION_HEADERS, Browser, refresh_target

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "tests/bff/certified/server.mjs"
PACKAGE = ROOT / ".venv/node/node_modules/oidc-provider"
ACCESS_TOKEN_SECONDS = 300
FILLED_IN = {"login": "alice", "password": "any will do", "logout": "yes"}


class CertifiedProvider:
    """The certified provider, as the tests see it."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    async def refreshes(self) -> int:
        """How many refresh tokens it has accepted."""
        async with httpx2.AsyncClient() as http:
            return int((await http.get(f"{self.issuer}/refreshes")).text)

    async def pushed(self) -> int:
        """How many authorization requests have been pushed to it."""
        async with httpx2.AsyncClient() as http:
            return int((await http.get(f"{self.issuer}/pushed")).text)

    async def notifications(self) -> list[str]:
        """How each logout token went that it has sent: `success`, or what was wrong."""
        async with httpx2.AsyncClient() as http:
            return list((await http.get(f"{self.issuer}/notifications")).json())

    async def is_active(self, token: str | None) -> bool:
        return bool((await self.introspected(token))["active"])

    async def introspected(self, token: str | None) -> dict[str, Any]:
        """What its introspection endpoint says of a token (RFC 7662)."""
        assert token
        basic = ("introspector", quote_plus(CLIENT_SECRET))
        async with httpx2.AsyncClient() as http:
            url = f"{self.issuer}/token/introspection"
            response = await http.post(url, data={"token": token}, auth=basic)
        return dict(response.raise_for_status().json())


class FormBrowser(Browser):
    """Fills in the provider's forms: the login, the consent, the sign-out."""

    async def passes_the_provider(self, url: str) -> str:
        """Follow its pages; return the URL of ours that it sends the browser to.

        A form for us (`response_mode=form_post`) is posted, and so is the one that we answer it with.
        """
        while not url.startswith(self.app.base_url):
            response = await self.http.get(url)
            while response.status_code == 200:
                action, hidden = parse_form(response.text)
                if action.startswith(self.app.base_url):
                    return await self._posts_the_response(action, hidden)
                response = await self.http.post(urljoin(url, action), data={**hidden, **FILLED_IN})
            assert response.has_redirect_location, response.text
            url = urljoin(url, response.headers["Location"])
        return url

    async def _posts_the_response(self, action: str, fields: dict[str, str]) -> str:
        """Post the provider's form to us, then the one of our page; return where that leads."""
        cross_site = {"Sec-Fetch-Site": "cross-site", "Origin": "https://provider.example"}
        page = await self.http.post(action, data=fields, headers={**NAVIGATION_HEADERS, **cross_site})
        again, repeated = parse_form(page.text)
        assert repeated == fields
        return refresh_target((await self.submit(again, **repeated)).text)

    async def signs_out_there(self, issuer: str) -> None:
        """Sign out at the provider, without a word to the application."""
        url = f"{issuer}/session/end"
        action, hidden = parse_form((await self.http.get(url)).text)
        response = await self.http.post(urljoin(url, action), data={**hidden, **FILLED_IN})
        assert response.has_redirect_location, response.text

    async def signs_in(self, return_url: str = "/") -> httpx2.Response:
        return await self.get(await self.passes_the_provider(await self.start_login(return_url)))


def parse_form(page: str) -> tuple[str, dict[str, str]]:
    """Where the page's form goes, and its hidden fields."""
    [action] = re.findall(r'<form[^>]* action="([^"]+)"', page)
    return action, dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))


def our_client(base_url: str) -> dict[str, Any]:
    """What a client is registered with, besides its id and the way that it authenticates."""
    return {
        "client_secret": CLIENT_SECRET,
        "redirect_uris": [f"{base_url}/bff/callback"],
        "post_logout_redirect_uris": [f"{base_url}/bff/logout/callback"],
        "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
    }


@asynccontextmanager
async def certified_provider(
    base_url: str,
    *,
    registered: dict[str, Any] | None = None,
    requires: Collection[str] = (),
    further_clients: Sequence[dict[str, Any]] = (),
    token_milliseconds: int = 200,  # so slow that fifty callers are under way before it answers
) -> AsyncIterator[CertifiedProvider]:
    """The provider, with us `registered` so; it may require `par` and `dpop_nonce`."""
    node, hint = shutil.which("node"), "run scripts/test.sh, which installs it"
    assert node, f"there is no node: install Node 20 or newer, then {hint}"
    assert PACKAGE.is_dir(), f"the npm package oidc-provider is not there: {hint}"
    options = {
        "package": str(PACKAGE),
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "redirect_uris": [f"{base_url}/bff/callback"],
        "post_logout_redirect_uris": [f"{base_url}/bff/logout/callback"],
        "backchannel_logout_uri": f"{base_url}/bff/backchannel",
        "registered": registered or {},
        "requires_par": "par" in requires,
        "requires_dpop_nonce": "dpop_nonce" in requires,
        "access_token_seconds": ACCESS_TOKEN_SECONDS,
        "token_milliseconds": token_milliseconds,
        "further": [{**our_client(base_url), **each} for each in further_clients],
    }
    process = await asyncio.create_subprocess_exec(
        node, "--no-warnings", str(SERVER), json.dumps(options), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    try:
        first_line = await asyncio.wait_for(process.stdout.readline(), timeout=20)
        yield CertifiedProvider(json.loads(first_line)["issuer"])
    finally:
        process.terminate()
        await process.wait()
