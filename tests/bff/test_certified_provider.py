"""An independent provider: the certified npm package `oidc-provider`, in a process of its own."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from app.bff.handlers.base import ApiHandler
from app.bff.server import make_app
from app.bff.services import running_services
from tests.bff.certified_provider import (
    ACCESS_TOKEN_SECONDS,
    CertifiedProvider,
    FormBrowser,
    certified_provider,
)
from tests.bff.harness import Clock, RunningApp, make_settings, refresh_target


class Person(FormBrowser):
    """Looks at a page that shows the access token, and into the store."""

    async def token(self, **params: str) -> str:
        response = await self.fetch("/token", params=params)
        assert response.status_code == 200, response.text
        return response.text

    async def refresh_token(self) -> str | None:
        session = await self.app.session_of(self)
        assert session
        return session.tokens.refresh_token


class Token(ApiHandler):
    """A handler as an application could have it."""

    async def get(self) -> None:
        options = {name: self.params[name] for name in ("scope", "resource") if name in self.params}
        self.finish(await self.get_user_access_token(force_renewal="forced" in self.params, **options))


@asynccontextmanager
async def a_person(
    clock: Clock,
    *,
    registered: dict[str, Any] | None = None,
    requires: Collection[str] = (),
    **settings: Any,
) -> AsyncIterator[tuple[Person, CertifiedProvider]]:
    """Somebody in front of an application that trusts a certified provider."""
    [socket] = bind_sockets(0, "127.0.0.1")
    base_url = f"http://localhost:{socket.getsockname()[1]}"
    async with certified_provider(base_url, registered=registered, requires=requires) as certified:
        chosen = make_settings(**{"base_url": base_url, "issuer": certified.issuer, **settings})
        async with running_services(chosen, clock=clock) as services:
            tornado = make_app(services, [])
            tornado.add_handlers(r".*", [("/token", Token)])
            server = HTTPServer(tornado)
            server.add_sockets([socket])
            person = Person(RunningApp(base_url, [], services, tornado))
            yield person, certified
            await person.http.aclose()
            server.stop()
            await server.close_all_connections()


@pytest.fixture
async def meeting(clock: Clock) -> AsyncIterator[tuple[Person, CertifiedProvider]]:
    async with a_person(clock) as meeting:
        yield meeting


@pytest.fixture
def alice(meeting: tuple[Person, CertifiedProvider]) -> Person:
    return meeting[0]


@pytest.fixture
def certified(meeting: tuple[Person, CertifiedProvider]) -> CertifiedProvider:
    return meeting[1]


async def test_alice_signs_in_and_her_access_token_is_alive_there(
    alice: Person, certified: CertifiedProvider
):
    answer = await alice.signs_in("/account")

    assert refresh_target(answer.text) == "/account"
    claims = {entry["type"]: entry["value"] for entry in (await alice.fetch("/bff/user")).json()}
    assert (claims["sub"], claims["name"], claims["email"]) == ("alice", "Alice Adams", "alice@example.com")
    assert await certified.is_active(await alice.token())


async def test_every_forced_refresh_rotates_and_the_rotated_token_works_again(
    alice: Person, certified: CertifiedProvider
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


async def test_fifty_callers_with_an_expired_token_cause_one_refresh_and_no_session_ends(
    alice: Person, certified: CertifiedProvider, clock: Clock
):
    await alice.signs_in()
    clock.advance(ACCESS_TOKEN_SECONDS + 1)

    tokens = await asyncio.gather(*(alice.token() for _ in range(50)))

    assert len(set(tokens)) == 1
    assert await certified.refreshes() == 1
    assert await certified.is_active(tokens[0])
    assert (await alice.fetch("/bff/user")).status_code == 200


async def test_after_logout_the_refresh_token_is_dead_and_the_provider_sends_her_back(
    alice: Person, certified: CertifiedProvider
):
    await alice.signs_in()
    refresh_token = await alice.refresh_token()
    assert await certified.is_active(refresh_token)

    leaving = await alice.get(await alice.logout_url() + "&returnUrl=/bye")
    way_back = await alice.passes_the_provider(leaving.headers["Location"])
    assert await certified.is_active(refresh_token)  # the provider's own logout does not end it

    back = await alice.get(way_back)
    assert back.headers["Location"] == "/bye"
    assert not await certified.is_active(refresh_token)
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


async def test_after_a_second_login_the_tokens_are_valid(meeting: tuple[Person, CertifiedProvider]):
    alice, certified = meeting
    await alice.signs_in()
    await alice.signs_in()  # to the provider both are one grant, and revoking a token ends all of it

    assert await certified.is_active(await alice.token())
    assert await certified.is_active(await alice.refresh_token())


async def test_that_this_client_must_push_is_understood_from_the_refusal(
    clock: Clock, caplog: pytest.LogCaptureFixture
):
    registered = {"require_pushed_authorization_requests": True}
    async with a_person(clock, registered=registered) as (alice, certified):
        refused = await alice.signs_in("/account")
        [again] = re.findall(r'class="button" href="([^"]+)"', refused.text)
        pushed = (await alice.get(unescape(again))).headers["Location"]
        answer = await alice.get(await alice.passes_the_provider(pushed))

        assert (refused.status_code, refresh_target(answer.text)) == (400, "/account")
        assert await certified.pushed() == 1
    message = "provider requires pushed authorization requests of this client: set BFF_PAR=true"
    assert caplog.messages.count(message) == 1
