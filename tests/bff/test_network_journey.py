"""A process behind a proxy, with a provider and an API whose certificates are of a private authority."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Client, Provider
from tests.bff.harness import CLIENT_ID, CLIENT_SECRET
from tests.bff.network import Authority, forward_proxy, tls_in_front_of
from tests.bff.subprocesses import APPLICATION, app_settings, running_process

ISSUER, API = "https://login.test", "https://api.test/api/"


async def test_a_login_and_an_api_call_through_a_proxy_and_then_the_certificate_expires(
    tmp_path: Path, provider: Provider, api: DemoApi
):
    there, authority = provider.issuer, Authority(tmp_path)
    async with AsyncExitStack() as stack:
        valid = await stack.enter_async_context(
            tls_in_front_of(provider.port, authority.server_context("login.test"))
        )
        expired = await stack.enter_async_context(
            tls_in_front_of(provider.port, authority.server_context("login.test", days=-1))
        )
        secure_api = await stack.enter_async_context(
            tls_in_front_of(api.port, authority.server_context("api.test"))
        )
        proxy = await stack.enter_async_context(
            forward_proxy({"login.test:443": valid, "api.test:443": secure_api})
        )
        provider.issuer = ISSUER
        settings = app_settings(
            BFF_ISSUER=ISSUER,
            BFF_SESSION_STORE="memory:",
            BFF_HTTP_CLIENTS=json.dumps({"apiClient": {"base_url": API, "token": "user"}}),
            BFF_REMOTE_APIS='[{"path": "/api", "client": "apiClient"}]',
            HTTPS_PROXY=proxy.url,
            SSL_CERT_FILE=authority.file,
        )
        app = await stack.enter_async_context(running_process(APPLICATION, tmp_path, **settings))
        redirect = f"{app.url}/bff/callback"
        provider.clients[CLIENT_ID] = Client(CLIENT_ID, CLIENT_SECRET, (redirect,))
        await app.answers("/readyz")
        browser = app.browser()
        authorize_url = (await browser.start_login()).replace(ISSUER, there)
        await browser.get(await browser.choose(authorize_url))

        assert (await browser.fetch("/api/echo")).status_code == 200
        assert {line.split()[1] for line in proxy.requests} == {"login.test:443", "api.test:443"}

        proxy.ports["login.test:443"] = expired
        unready = await app.answers("/readyz", status=503)
        assert "its certificate is not trusted: certificate has expired" in unready.json()["provider"]
        assert "certificate has expired" in app.stderr  # in the log, too
        await browser.http.aclose()
