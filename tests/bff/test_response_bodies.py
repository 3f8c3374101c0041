"""Bodies that named clients read as a whole: bounded after decompression, whatever the API sends."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from app.bff import ApiHandler
from app.bff.clients.registry import API_ERRORS, ApiClient, as_app_error
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from app.bff.errors import ApiError, ApiUnreachable
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


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("status", "body", "headers", "detail"),
    [
        *(
            (status, b"", JSON, f"the API answered with {status}")
            for status in (400, 401, 404, 409, 500, 503)
        ),
        pytest.param(200, b"<p>", {"Content-Type": "text/html"}, "of another format", id="HTML"),
        pytest.param(200, b"<p>", JSON, "of another format", id="HTML that says it is JSON"),
        pytest.param(200, b'"\xff"', JSON, "of another format", id="no UTF-8"),
        pytest.param(200, b"{}", {**JSON, "Content-Encoding": "gzip"}, "not encoded as", id="no gzip"),
    ],
)
async def test_what_an_api_answers_is_never_called_an_outage(
    status: int, body: bytes, headers: dict[str, str], detail: str, client: ApiClient, api: DemoApi
):
    api.fails["echo"] = Failure(status, body, headers)
    with pytest.raises(API_ERRORS) as raised:
        async with client.get("echo?secret=x", raise_for_status=True) as response:
            await response.json()
    error = as_app_error(raised.value)

    assert isinstance(error, ApiError)
    assert detail in str(error)
    if "encoded" not in detail:
        assert error.call == {
            "client": "apiClient",
            "method": "GET",
            "api_path": "/api/echo",
            "status": status,
        }


class Orders(ApiHandler):
    async def get(self) -> None:
        async with self.create_client("apiClient").get("status/404", raise_for_status=True) as response:
            self.finish_json(await response.json())


async def test_the_log_names_the_call_that_an_api_refused(
    app: RunningApp, browser: Browser, caplog: pytest.LogCaptureFixture
):
    app.tornado.add_handlers(".*", [("/orders", Orders)])
    await browser.login()
    with caplog.at_level("INFO"):
        response = await browser.fetch("/orders")
    [record] = [vars(each) for each in caplog.records if each.message == "request refused"]

    assert (response.status_code, response.json()["code"]) == (502, "api_error")
    assert [record[name] for name in ("client", "method", "api_path", "status")] == [
        *("apiClient", "GET", "/api/status/404", 404)
    ]


# Headers


@pytest.mark.parametrize("size", [8_191, 65_000])
async def test_a_header_may_have_64_kb(size: int, client: ApiClient, browser: Browser, api: DemoApi):
    await browser.login()
    api.fails["echo"] = Failure(200, b"{}", {"ETag": "x" * size})

    async with client.post("echo") as response:
        assert len(response.headers["ETag"]) == size
    assert len((await browser.fetch("/api/echo", "POST")).headers["ETag"]) == size


async def test_an_error_names_the_size_that_a_header_has_exceeded(
    client: ApiClient, browser: Browser, api: DemoApi
):
    await browser.login()
    api.fails["echo"] = Failure(200, b"{}", {"ETag": "x" * 70_000})
    forwarded = await browser.fetch("/api/echo", "POST")
    with pytest.raises(API_ERRORS) as raised:
        await client.post("echo")

    assert (forwarded.status_code, forwarded.json()["code"]) == (502, "api_error")
    assert forwarded.json()["detail"] == "the API sent a header of more than 65536 bytes"
    assert str(as_app_error(raised.value)) == forwarded.json()["detail"]
