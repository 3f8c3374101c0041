"""Bodies that named clients read as a whole: bounded after decompression, whatever the API sends."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from app.bff.clients.registry import API_ERRORS, ApiClient, as_app_error
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from app.bff.errors import ApiUnreachable
from app.bff.sessions.session import Session
from tests.bff.harness import Browser, Clock, RunningApp, running_app

LIMIT = 100_000
BOMB_BYTES = 64_000_000  # 62 kB of gzip

Read = Callable[[aiohttp.ClientResponse], Awaitable[Any]]
READS: list[Any] = [
    pytest.param(lambda response: response.read(), id="read"),
    pytest.param(lambda response: response.text(), id="text"),
    pytest.param(lambda response: response.json(), id="json"),
    pytest.param(lambda response: response.content.read(), id="content.read"),
]
ENCODINGS: list[Any] = [
    pytest.param("gzip", lambda data: gzip.compress(data, 9), id="gzip"),
    pytest.param("deflate", lambda data: zlib.compress(data, 9), id="deflate"),
    pytest.param("identity", lambda data: data, id="not compressed"),
]


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    clients = {"apiClient": {"base_url": api.base_url, "token": "user", "max_response_bytes": LIMIT}}
    async with running_app(provider, api, clock=clock, http_clients=clients) as app:
        yield app


@pytest.fixture
def client(app: RunningApp, session: Session) -> ApiClient:
    return app.services.clients.create("apiClient", session)


def json_of(size: int) -> bytes:
    return b'"%s"' % (b"x" * (size - 2))


def sends(body: bytes, encoding: str) -> Failure:
    return Failure(200, body, {"Content-Type": "application/json", "Content-Encoding": encoding})


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(("encoding", "encode"), ENCODINGS)
async def test_a_body_is_read_up_to_the_limit_and_no_further(
    read: Read, encoding: str, encode: Callable[[bytes], bytes], client: ApiClient, api: DemoApi
):
    api.fails["echo"] = sends(encode(json_of(LIMIT)), encoding)
    async with client.get("echo") as response:
        assert len(await read(response)) in (LIMIT, LIMIT - 2)

    api.fails["echo"] = sends(encode(json_of(LIMIT + 1)), encoding)
    with pytest.raises(API_ERRORS) as refused:
        async with client.get("echo") as response:
            await read(response)
    assert isinstance(as_app_error(refused.value), ApiUnreachable)


@pytest.mark.parametrize("read", READS)
async def test_a_bomb_is_not_unpacked(read: Read, client: ApiClient, api: DemoApi):
    api.fails["echo"] = sends(gzip.compress(bytes(BOMB_BYTES), 9), "gzip")
    tracemalloc.start()
    with pytest.raises(API_ERRORS):
        async with client.get("echo") as response:
            await read(response)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 5_000_000


async def test_chunks_may_be_more_than_the_limit_and_are_never_collected(client: ApiClient, api: DemoApi):
    api.fails["echo"] = sends(gzip.compress(bytes(10 * LIMIT), 9), "gzip")
    received = 0
    async with client.get("echo") as response:
        async for chunk in response.content.iter_chunked(1000):
            received += len(chunk)

    assert received == 10 * LIMIT


async def test_what_is_forwarded_stays_as_the_api_has_sent_it(browser: Browser, api: DemoApi):
    await browser.login()
    api.fails["echo"] = sends(gzip.compress(json_of(10 * LIMIT)), "gzip")
    response = await browser.fetch("/api/echo")

    assert (response.headers["Content-Encoding"], len(response.json())) == ("gzip", 10 * LIMIT - 2)


async def test_a_client_goes_on_after_a_body_that_was_too_large(client: ApiClient, api: DemoApi):
    api.fails["echo"] = sends(json_of(10 * LIMIT), "identity")
    for _ in range(3):
        with pytest.raises(API_ERRORS):
            async with client.get("echo") as response:
                await response.read()
    del api.fails["echo"]

    async with client.get("echo") as response:
        assert (await response.json())["user"] == "alice"
