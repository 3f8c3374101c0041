"""A provider that nobody here wrote: the certified npm package `oidc-provider`, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urljoin

import httpx2
import pytest
from joserfc import jwk
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from app.handlers.base import ApiHandler
from app.main import make_app
from app.services import running_services
from tests.parts import CLIENT_ID, CLIENT_SECRET, Browser, Clock, RunningApp, a_settings, refresh_target

ROOT = Path(__file__).parent.parent
SERVER = ROOT / "tests/certified/server.mjs"
PACKAGE = ROOT / ".venv/node/node_modules/oidc-provider"
ACCESS_TOKEN_SECONDS = 300
FILLED_IN = {"login": "alice", "password": "any will do", "logout": "yes"}


class Certified:
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

    async def is_active(self, token: str | None) -> bool:
        return bool((await self.introspected(token))["active"])

    async def introspected(self, token: str | None) -> dict[str, Any]:
        """What its introspection endpoint says of a token (RFC 7662)."""
        assert token
        basic = (quote_plus(CLIENT_ID), quote_plus(CLIENT_SECRET))
        async with httpx2.AsyncClient() as http:
            url = f"{self.issuer}/token/introspection"
            response = await http.post(url, data={"token": token}, auth=basic)
        return dict(response.raise_for_status().json())


class Person(Browser):
    """Fills in the provider's forms: the login, the consent, the sign-out."""

    async def passes_the_provider(self, url: str) -> str:
        """Follow its pages; return the URL of ours that it sends the browser to."""
        while not url.startswith(self.app.base_url):
            response = await self.http.get(url)
            while response.status_code == 200:
                action, hidden = form_in(response.text)
                response = await self.http.post(urljoin(url, action), data={**hidden, **FILLED_IN})
            assert response.has_redirect_location, response.text
            url = urljoin(url, response.headers["Location"])
        return url

    async def signs_in(self, return_url: str = "/") -> httpx2.Response:
        return await self.get(await self.passes_the_provider(await self.start_login(return_url)))

    async def token(self, **params: str) -> str:
        response = await self.fetch("/token", params=params)
        assert response.status_code == 200, response.text
        return response.text

    async def refresh_token(self) -> str | None:
        session = await self.app.session_of(self)
        assert session
        return session.tokens.refresh_token


def form_in(page: str) -> tuple[str, dict[str, str]]:
    """Where the page's form goes, and its hidden fields."""
    [action] = re.findall(r'<form[^>]* action="([^"]+)"', page)
    return action, dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))


class Token(ApiHandler):
    """What a handler of somebody's application might do."""

    async def get(self) -> None:
        wanted = {name: self.params[name] for name in ("scope", "resource") if name in self.params}
        self.finish(await self.get_user_access_token(force_renewal="forced" in self.params, **wanted))


@asynccontextmanager
async def certified_provider(
    base_url: str, registered: dict[str, Any], requires: Collection[str] = ()
) -> AsyncIterator[Certified]:
    node, hint = shutil.which("node"), "run scripts/test.sh, which installs it"
    assert node, f"there is no node: install Node 20 or newer, then {hint}"
    assert PACKAGE.is_dir(), f"the npm package oidc-provider is not there: {hint}"
    options = {
        "package": str(PACKAGE),
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "redirect_uris": [f"{base_url}/bff/callback"],
        "post_logout_redirect_uris": [f"{base_url}/bff/logout/callback"],
        "registered": registered,
        "requires_par": "par" in requires,
        "requires_dpop_nonce": "dpop_nonce" in requires,
        "access_token_seconds": ACCESS_TOKEN_SECONDS,
        "token_milliseconds": 200,  # so slow that fifty callers are under way before it answers
    }
    process = await asyncio.create_subprocess_exec(
        node, "--no-warnings", str(SERVER), json.dumps(options), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    try:
        first_line = await asyncio.wait_for(process.stdout.readline(), timeout=20)
        yield Certified(json.loads(first_line)["issuer"])
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def a_person(
    clock: Clock,
    *,
    registered: dict[str, Any] | None = None,
    requires: Collection[str] = (),
    **settings: Any,
) -> AsyncIterator[tuple[Person, Certified]]:
    """Somebody in front of an application that trusts a certified provider, where it is `registered` so."""
    [socket] = bind_sockets(0, "127.0.0.1")
    base_url = f"http://localhost:{socket.getsockname()[1]}"
    async with certified_provider(base_url, registered or {}, requires) as certified:
        chosen = a_settings(**{"base_url": base_url, "issuer": certified.issuer, **settings})
        async with running_services(chosen, clock=clock) as services:
            tornado = make_app(services)
            tornado.add_handlers(r".*", [("/token", Token)])
            server = HTTPServer(tornado)
            server.add_sockets([socket])
            person = Person(RunningApp(base_url, services, tornado))
            yield person, certified
            await person.http.aclose()
            server.stop()
            await server.close_all_connections()


@pytest.fixture
async def meeting(clock: Clock) -> AsyncIterator[tuple[Person, Certified]]:
    async with a_person(clock) as meeting:
        yield meeting


@pytest.fixture
def alice(meeting: tuple[Person, Certified]) -> Person:
    return meeting[0]


@pytest.fixture
def certified(meeting: tuple[Person, Certified]) -> Certified:
    return meeting[1]


async def test_alice_signs_in_and_her_access_token_is_alive_there(alice: Person, certified: Certified):
    answer = await alice.signs_in("/account")

    assert refresh_target(answer.text) == "/account"
    claims = {entry["type"]: entry["value"] for entry in (await alice.fetch("/bff/user")).json()}
    assert (claims["sub"], claims["name"], claims["email"]) == ("alice", "Alice Adams", "alice@example.com")
    assert await certified.is_active(await alice.token())


async def test_every_forced_refresh_rotates_and_the_rotated_token_works_again(
    alice: Person, certified: Certified
):
    await alice.signs_in()
    tokens = [await alice.token()]
    refresh_tokens = [await alice.refresh_token()]
    for _ in range(2):
        tokens.append(await alice.token(forced="yes"))
        refresh_tokens.append(await alice.refresh_token())

    assert len(set(tokens)) == len(set(refresh_tokens)) == 3
    assert [await certified.is_active(token) for token in refresh_tokens] == [False, False, True]
    assert await certified.is_active(tokens[-1])


async def test_fifty_callers_with_an_expired_token_cause_one_refresh_and_nobody_is_signed_out(
    alice: Person, certified: Certified, clock: Clock
):
    await alice.signs_in()
    clock.advance(ACCESS_TOKEN_SECONDS + 1)

    tokens = await asyncio.gather(*(alice.token() for _ in range(50)))

    assert len(set(tokens)) == 1
    assert await certified.refreshes() == 1
    assert await certified.is_active(tokens[0])
    assert (await alice.fetch("/bff/user")).status_code == 200


async def test_after_logout_the_refresh_token_is_dead_and_the_provider_sends_her_back(
    alice: Person, certified: Certified
):
    await alice.signs_in()
    refresh_token = await alice.refresh_token()
    assert await certified.is_active(refresh_token)

    leaving = await alice.get(await alice.logout_url() + "&returnUrl=/bye")
    assert not await certified.is_active(refresh_token)  # before the provider's own logout ends it as well

    back = await alice.get(await alice.passes_the_provider(leaving.headers["Location"]))
    assert back.headers["Location"] == "/bye"
    assert (await alice.fetch("/bff/user")).status_code == 401


async def test_after_logout_the_provider_asks_for_the_password_again(alice: Person):
    await alice.signs_in()
    leaving = await alice.logout()
    await alice.get(await alice.passes_the_provider(leaving.headers["Location"]))

    page = await alice.http.get(await alice.start_login(), follow_redirects=True)

    assert 'name="password"' in page.text


async def test_a_wrong_client_secret_is_the_operators_business_and_the_log_says_so(
    clock: Clock, caplog: pytest.LogCaptureFixture
):
    async with a_person(clock, client_secret="not the one it knows") as (alice, _):
        answer = await alice.signs_in()

    assert answer.status_code == 503
    assert "The sign-in service is not answering" in answer.text
    loud = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert any("invalid_client" in str(vars(record)) for record in loud)
    assert "not the one it knows" not in caplog.text


@pytest.mark.parametrize("kind", ["RSA", "EC", "OKP"])
async def test_a_private_key_proves_who_we_are_without_a_secret(clock: Clock, tmp_path: Path, kind: str):
    key = jwk.generate_key(kind, auto_kid=True)
    file = tmp_path / "client.pem"
    file.write_bytes(key.as_pem(private=True))
    public = {"jwks": {"keys": [key.as_dict(private=False)]}, "token_endpoint_auth_method": "private_key_jwt"}
    ours = {"client_auth": "private_key_jwt", "client_key_file": file, "client_secret": ""}

    async with a_person(clock, registered=public, **ours) as (alice, certified):
        await alice.signs_in()
        first, second = await alice.token(), await alice.token(forced="yes")

        assert first != second
        assert await certified.refreshes() == 1
