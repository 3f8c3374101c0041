"""Every method of client authentication × PAR × DPoP × response mode, at the certified provider.

It refuses a request in which a parameter is there twice.
"""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from joserfc import jwk
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from app.bff.server import make_app
from app.bff.services import running_services
from tests.bff.certified_provider import CertifiedProvider, certified_provider
from tests.bff.harness import Clock, RunningApp, make_settings, query_params, refresh_target
from tests.bff.test_certified_provider import Person, Token

pytestmark = pytest.mark.asyncio(loop_scope="module")

API = {
    "base_url": "http://127.0.0.1:1/",
    "token": "client",
    "scope": "orders.read",
    "resource": "https://a.example",
}
KEY = jwk.generate_key("RSA", 2048, parameters={"kid": "ours", "alg": "RS256"})
METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt"]
FAPI = "fapi"  # requires signed requests, and signs its responses


def registration(name: str) -> dict[str, Any]:
    method = "private_key_jwt" if name == FAPI else name
    signed = {"require_signed_request_object": True, "request_object_signing_alg": "RS256"}
    jwks = {"jwks": {"keys": [KEY.as_dict(private=False)]}} if method == "private_key_jwt" else {}
    options = {"token_endpoint_auth_method": method, **jwks, **(signed if name == FAPI else {})}
    return {"client_id": name, "authorization_signed_response_alg": "RS256", **options}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[tuple[socket.socket, str, CertifiedProvider]]:
    """The port of the application, its address, and a provider that knows a client for each method."""
    [bound] = bind_sockets(0, "127.0.0.1")
    base_url = f"http://localhost:{bound.getsockname()[1]}"
    clients = [registration(name) for name in [*METHODS, FAPI]]
    async with certified_provider(base_url, further_clients=clients, token_milliseconds=0) as certified:
        yield bound, base_url, certified
    bound.close()


@asynccontextmanager
async def a_person(
    site: tuple[socket.socket, str, CertifiedProvider], folder: Path, client: str, **settings: Any
) -> AsyncIterator[Person]:
    bound, base_url, certified = site
    file = folder / "client.json"
    file.write_text(json.dumps(KEY.as_dict(private=True)))
    method = "private_key_jwt" if client == FAPI else client
    key = {"client_key_file": file, "client_secret": ""} if method == "private_key_jwt" else {}
    addresses = {"base_url": base_url, "issuer": certified.issuer, "http_clients": {"ours": API}}
    ours = {**addresses, "client_id": client, "client_auth": method, **key, **settings}
    async with running_services(make_settings(**ours), clock=Clock()) as services:
        tornado = make_app(services, [])
        tornado.add_handlers(r".*", [("/token", Token)])
        server = HTTPServer(tornado)
        server.add_sockets([bound.dup()])
        person = Person(RunningApp(base_url, [], services, tornado))
        # As browsers do: http://localhost counts as secure.
        person.http.cookies.jar.set_policy(DefaultCookiePolicy(secure_protocols=("http", "https")))
        yield person
        await person.http.aclose()
        server.stop()
        await server.close_all_connections()


@pytest.mark.parametrize("mode", ["query", "jwt", "form_post"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("par", [False, True], ids=["", "PAR"])
@pytest.mark.parametrize("dpop", [False, True], ids=["", "DPoP"])
async def test_a_user_signs_in_and_out_and_tokens_are_renewed_and_revoked(
    site: tuple[socket.socket, str, CertifiedProvider],
    tmp_path: Path,
    mode: str,
    method: str,
    par: bool,
    dpop: bool,
):
    certified = site[2]
    async with a_person(site, tmp_path, method, par=par, dpop=dpop, response_mode=mode) as alice:
        url = await alice.start_login()
        assert ("request_uri" in query_params(url)) == par
        back = await alice.passes_the_provider(url)
        if mode != "form_post":  # which has ended the login already
            assert refresh_target((await alice.get(back)).text) == "/"
        renewed, refresh_token = await alice.token(forced="yes"), await alice.refresh_token()
        assert await certified.is_active(renewed)
        assert await certified.is_active(await alice.app.services.clients.application_token("ours"))
        leaving = await alice.logout()
        await alice.get(await alice.passes_the_provider(leaving.headers["Location"]))

        assert not await certified.is_active(refresh_token)


async def test_a_provider_that_requires_signed_requests_and_signs_its_responses(
    site: tuple[socket.socket, str, CertifiedProvider], tmp_path: Path
):
    async with a_person(site, tmp_path, FAPI, dpop=True, signed_requests=True, response_mode="jwt") as alice:
        url = await alice.start_login(max_age="60")
        assert set(query_params(url)) == {"client_id", "request_uri"}
        url = await alice.passes_the_provider(url)
        assert set(query_params(url)) == {"response"}
        await alice.get(url)

        assert await site[2].is_active(await alice.token())
