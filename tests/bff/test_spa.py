"""A build that is served as BFF_SPA, by the application and by nginx: one table holds both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

from app.bff import url
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.web.headers import security_headers
from tests.bff.application.handlers import Account, SignedOut
from tests.bff.harness import Browser, Clock, raw_target, running_app
from tests.bff.nginx import running_site
from tests.bff.spa_table import FETCH, ROWS, Row, copy_of_build

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES = [url(r"/account", Account), url(r"/signed-out", SignedOut)]
DECIDED_HERE = ("Cache-Control", "Content-Security-Policy")


@dataclass(frozen=True)
class Served:
    build: Path
    http: httpx2.AsyncClient
    always: dict[str, str]  # headers of every answer


@asynccontextmanager
async def parts(folder: Path) -> AsyncIterator[tuple[Clock, Provider, DemoApi, Path]]:
    clock = Clock()
    provider = Provider([], clock=clock)
    api = DemoApi(provider)
    await provider.start()
    await api.start()
    yield clock, provider, api, copy_of_build(folder)
    await api.stop()
    await provider.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with (
        parts(tmp_path_factory.mktemp("spa")) as (clock, provider, api, build),
        running_app(provider, api, clock=clock, routes=ROUTES, spa=str(build)) as app,
        Browser(app).http as http,
    ):
        yield Served(build, http, always(https=False))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nginx(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("nginx")
    async with (
        parts(folder) as (clock, provider, api, build),
        running_site(
            provider,
            api,
            folder,
            clock=clock,
            places={"/srv/bff/build": str(build)},
            routes=ROUTES,
            spa=str(build),
        ) as site,
        site.browser() as browser,
    ):
        yield Served(build, browser.http, always(https=True))


def always(*, https: bool) -> dict[str, str]:
    headers = security_headers(nonce=None, https=https)
    return {name: value for name, value in headers.items() if name not in DECIDED_HERE}


async def answer(http: httpx2.AsyncClient, row: Row) -> httpx2.Response:
    """Send the request as it stands; what it says of an ETag or a date is first asked for."""
    sends = {"Accept-Encoding": "identity", **row.sends}
    if any("{" in value for value in sends.values()):
        plain = {name: value for name, value in FETCH.items() if name != "Accept"}
        now = (await http.get(row.path, headers={**plain, **_unconditional(row)})).headers
        known = {"{etag}": now["ETag"], "{modified}": now.get("Last-Modified", "")}
        sends = {name: _filled(value, known) for name, value in sends.items()}
    request = http.build_request(row.method, "/", headers=sends)
    request.extensions = {**request.extensions, **raw_target(row.path)["extensions"]}
    response = await http.send(request, stream=True)
    raw = b"".join([chunk async for chunk in response.aiter_raw()])
    await response.aclose()
    response.extensions["raw"] = raw
    return response


def _unconditional(row: Row) -> dict[str, str]:
    kept = {name: value for name, value in row.sends.items() if not name.startswith(("If-", "Range"))}
    return {"Accept": "*/*", **kept, "Accept-Encoding": "identity"}


def _filled(value: str, known: dict[str, str]) -> str:
    for name, known_value in known.items():
        value = value.replace(name, known_value)
    return value


def problems(response: httpx2.Response, row: Row, served: Served, status: int) -> list[str]:
    """What is wrong with an answer; and what every answer must be."""
    found = [f"status {response.status_code}"] if response.status_code != status else []
    for name, value in {**row.gets, **served.always}.items():
        if response.headers.get(name) not in (value, f"{value}, {value}"):  # nginx doubles those of a 416
            found.append(f"{name}: {response.headers.get(name)}")
    if "default-src 'none'" not in response.headers.get("Content-Security-Policy", ""):
        found.append("no Content-Security-Policy")
    raw = response.extensions["raw"]
    if row.body and status == 200 and row.method == "GET" and raw != (served.build / row.body).read_bytes():
        found.append(f"another body: {raw[:60]!r}")
    if status == 304 or row.method == "HEAD":
        found += [f"a body: {raw[:60]!r}"] if raw else []
    if b"outside" in raw or b"SECRET" in raw or (status == 404 and b'id="root"' in raw):
        found.append(f"what must not be sent: {raw[:60]!r}")
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_the_application_answers(application: Served, row: Row):
    response = await answer(application.http, row)

    assert problems(response, row, application, row.status) == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_nginx_answers(nginx: Served, row: Row):
    response = await answer(nginx.http, row)

    if row.nginx:
        assert response.status_code == row.nginx
    else:
        assert problems(response, row, nginx, row.status) == []
