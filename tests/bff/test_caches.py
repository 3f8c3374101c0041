"""One user's data never comes out of a cache for another: the browser's own, and a shared one in front."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Browser as Chromium

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from tests.bff.browser_users import browser_user, running_chromium, running_site
from tests.bff.harness import Browser, Clock, RunningApp, running_app
from tests.bff.nginx import KINDS, find_nginx
from tests.bff.subprocesses import free_ports, is_listening, terminate, wait_until

CACHEABLE = [
    "max-age=300",
    "private, max-age=300",
    "public, s-maxage=300, max-age=300",
    "max-age=300, immutable",
]
PATHS = ["/api/echo", "/account", "/bff/user", "/bff/session", "/bff/forward-auth", "/api/socket"]
CONFIG = """
user {user}; pid {folder}/nginx.pid; error_log {folder}/error.log; events {{ }}
http {{
    access_log off; {temporary}
    proxy_cache_path {folder}/cache keys_zone=shared:1m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {app};
            proxy_set_header Host {host};
            proxy_set_header Accept-Encoding "";
            proxy_cache shared;
            add_header X-Cache $upstream_cache_status always;
        }}
    }}
}}
"""


def fails_with(api: DemoApi, user: str, **headers: str) -> None:
    """Let the API answer with data of this user, as if it might be stored."""
    api.fails["echo"] = Failure(
        200, user.encode(), {name.replace("_", "-"): v for name, v in headers.items()}
    )


@asynccontextmanager
async def shared_cache(app: RunningApp, folder: Path) -> AsyncIterator[str]:
    """A plain nginx that stores what the answers allow, for everybody."""
    port = free_ports()
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in KINDS)
    host = app.base_url.removeprefix("http://")
    app_url = app.base_url.replace("localhost", "127.0.0.1")
    places = {"user": getpass.getuser(), "folder": folder, "temporary": temporary, "port": port, "host": host}
    (folder / "shared.conf").write_text(CONFIG.format(app=app_url, **places))
    options = ("-p", folder, "-c", folder / "shared.conf", "-e", folder / "error.log", "-g", "daemon off;")
    process = await asyncio.create_subprocess_exec(find_nginx(), *options, start_new_session=True)
    try:
        await wait_until(lambda: asyncio.sleep(0, process.returncode is not None or is_listening(port)))
        assert process.returncode is None, (folder / "error.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        await terminate(process)


@pytest.mark.parametrize("cache", ["no-store", "private"])
@pytest.mark.parametrize("allowed", CACHEABLE)
async def test_a_shared_cache_gives_an_answer_to_its_user_only(
    allowed: str, cache: str, provider: Provider, api: DemoApi, clock: Clock, tmp_path: Path
):
    remote = [{"path": "/api", "client": "apiClient", "cache": cache}]
    fails_with(
        api, "alice", Cache_Control=allowed, X_Accel_Expires="300", Expires="Thu, 01 Jan 2099 00:00:00 GMT"
    )
    async with (
        running_app(provider, api, clock=clock, remote_apis=remote) as app,
        shared_cache(app, tmp_path) as url,
    ):
        browser = Browser(app)
        await browser.login("alice")
        cookie = {"Cookie": f"bff={browser.cookie('bff')}"}
        async with httpx2.AsyncClient(base_url=url) as http:
            hers = await http.get("/api/echo", headers={"X-CSRF": "1", **cookie})
            foreign = [await http.get(path, headers={"Sec-Fetch-Site": "cross-site"}) for path in PATHS]
        await browser.http.aclose()

    assert hers.text == "alice"
    assert [response.headers["X-Cache"] for response in foreign] == ["MISS"] * len(PATHS)
    assert not any("alice" in response.text.lower() for response in foreign)


@pytest.fixture
async def chromium() -> AsyncIterator[Chromium]:
    async with running_chromium() as chromium:
        yield chromium


@pytest.mark.parametrize("cache", ["no-store", "private"])
@pytest.mark.parametrize("allowed", CACHEABLE)
async def test_a_browser_gives_an_answer_to_its_user_only(
    allowed: str, cache: str, chromium: Chromium, clock: Clock
):
    remote = [{"path": "/api", "client": "apiClient", "cache": cache}]
    fetch = "async () => (await fetch('/api/echo', {headers: {'X-CSRF': '1'}})).text()"
    async with running_site(clock, remote_apis=remote) as site, browser_user(chromium, site) as user:
        await user.signs_in("/account")
        fails_with(site.api, "data of alice", Cache_Control=allowed, ETag='"1"')
        assert await user.page.evaluate(fetch) == "data of alice"

        clock.advance(site.app.services.settings.session_absolute_seconds + 1)
        assert "data of alice" not in await user.page.evaluate(fetch)

        await user.page.context.clear_cookies()  # those of the provider too; what is cached stays
        await user.goes_to("/account")
        await user.chooses("Bob Brown")
        await user.sees_name("Bob Brown")
        fails_with(site.api, "data of bob", Cache_Control=allowed, ETag='"1"')
        assert await user.page.evaluate(fetch) == "data of bob"
