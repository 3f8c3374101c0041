"""No exception of a library reaches a handler or an operator: odd names, URLs, values and times."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.bff.cli import run_server
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from app.bff.errors import ProviderUnavailable, SettingsError
from app.bff.oidc.client_auth import key_from
from app.bff.oidc.http import get_following_redirects, translate_http_errors
from app.bff.oidc.metadata import provider_http
from app.bff.server import no_lifespan
from app.bff.sessions.mongo.connection import connect
from app.bff.sessions.session import Session
from app.bff.settings.apis import LONGEST_SECONDS, HttpClientSettings
from app.bff.settings.load import load_settings
from app.bff.settings.validators import absolute, from_json, well_formed
from tests.bff.application.settings import Settings
from tests.bff.harness import Browser, make_settings
from tests.bff.network import Authority, serving

LONG = "a" * 64
BAD_HOSTS = [
    *("p.exämple", "日本.example", "p\u200b", "p\u00ad", "p\ud800", "x:８０"),
    *(f"{LONG}.example", "a" * 254, "a..b", ".example", "-a.example", "a-.example", "xn--.example"),
    *("[::1", "[v1.x]", "[fe80::1%25eth0]", "1.2.3.999", "1.2.3", "999999999999", "x:99999", "x:0", "x:y"),
    *("@x", ":@x", "a%00b", "p,q", "*", "p\\x", 'p"', "<p>"),
]


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_a_url_has_a_host_that_can_be_connected_to(host: str):
    with pytest.raises(ValueError, match=r"^must be"):
        absolute(f"https://{host}/")


@pytest.mark.parametrize("rest", ["é", "\u2028", "\ud800", '"', "<x>", "\x00"])
def test_a_url_is_ascii(rest: str):
    with pytest.raises(ValueError, match=r"^must be"):
        absolute(f"https://provider.example/{rest}")


@pytest.mark.parametrize(
    "url",
    [
        *("https://xn--p-5ga.example", "http://localhost:1", "http://[::1]:8080/a", "https://10.0.0.1/a?b=c"),
        *("https://keycloak_1:8443/realms/a", "https://Provider.example./", f"https://{LONG[1:]}.example"),
        *("https://p.example/{tenantid}/v2.0", "https://p.example/a%20b;c=(d)!~@x"),
    ],
)
def test_a_url_may_be(url: str):
    assert absolute(url) == url


REDIRECTS = [
    f"https://{LONG}.example/",
    "https://a..b/",
    "https://[::1",
    "https://1.2.3.999/",
    "https://x:y/",
]


@pytest.mark.parametrize("url", REDIRECTS)
async def test_an_api_that_redirects_there_cannot_be_reached(
    url: str, browser: Browser, api: DemoApi, session: Session
):
    api.fails["echo"] = Failure(302, headers={"Location": url})

    assert (await browser.get("/account")).status_code == 200  # the page catches API_ERRORS


@pytest.mark.parametrize("url", REDIRECTS)
async def test_a_provider_that_redirects_there_is_not_answering(
    url: str, browser: Browser, provider: Provider
):
    provider.fails["metadata"] = Failure(302, headers={"Location": url})
    answers = [await browser.get(path) for path in ("/bff/login", "/readyz")]

    assert [answer.status_code for answer in answers] == [503, 503]


@pytest.mark.parametrize(
    "name", ["token_endpoint", "authorization_endpoint", "jwks_uri", "userinfo_endpoint"]
)
@pytest.mark.parametrize("url", ["https://p.exämple/", "https://a..b/", "https://[v1.x]/", ["x"], 5])
async def test_an_endpoint_that_is_none_stops_logins_with_503(
    name: str, url: Any, browser: Browser, provider: Provider
):
    provider.overrides["metadata"] = {name: url}

    assert (await browser.get("/bff/login")).status_code == 503


async def broken_tls(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, context: ssl.SSLContext
) -> None:
    """Shake hands, and send a record with a wrong authentication tag."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(received, sent, server_side=True)
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            writer.write(sent.read())
            received.write(await reader.read(65536))
    writer.write(sent.read() + b"\x17\x03\x03\x00\x20" + bytes(32))
    await reader.read()


async def test_a_response_that_is_broken_within_tls_is_no_answer(tmp_path: Path):
    authority = Authority(tmp_path)
    serve = partial(broken_tls, context=authority.server_context("localhost"))
    async with (
        serving(serve) as port,
        provider_http(5, authority.client_context()) as http,
    ):
        with pytest.raises(ProviderUnavailable, match="TLS"):
            async with translate_http_errors(5) as extensions:
                await get_following_redirects(http, f"https://localhost:{port}/", extensions)


# Settings


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
@pytest.mark.parametrize(
    "uri",
    [
        *("mongodb://", "mongodb://[::1", "mongodb://h:x", "mongodb://h:99999", "mongodb://u:p@w@h/"),
        *(
            "mongodb://u:%zz@h",
            "mongodb://h/?tls=true&tlsCAFile=/nowhere",
            "mongodb://h,i/?directConnection=true",
        ),
        *(
            "mongodb://h/?authMechanism=GSSAPI",
            "mongodb://h/?w=0&journal=true",
        ),
        *("mongodb://h/?loadBalanced=true&replicaSet=x", "mongodb://h/?srvMaxHosts=2"),
        *("mongodb://secret\ud800@h/", "mongodb+srv://127.0.0.1:1/"),
    ],
)
async def test_a_store_that_the_driver_refuses_stops_the_start_with_one_line(uri: str, driver: str):
    with pytest.raises(SettingsError, match="BFF_SESSION_STORE: the driver ") as stopped:
        connect(uri, driver=driver)

    assert "secret" not in str(stopped.value)


@pytest.mark.parametrize("value", ["caf\udce9", '{"a": "\\ud800"}'])
def test_text_that_is_no_utf_8_is_refused(value: str):
    with pytest.raises(ValueError, match="is not UTF-8"):
        well_formed(from_json(value) if value[0] == "{" else value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "caf\udce9") for name in ("APP_NAME", "CLIENT_ID", "CLIENT_SECRET", "SCOPE", "ADDRESS")),
        *((name, "9" * 30) for name in ("SESSION_IDLE_SECONDS", "SESSION_ABSOLUTE_SECONDS")),
        *(
            (name, "9" * 30)
            for name in ("PROVIDER_KEYS_COOLDOWN_SECONDS", "REFRESH_BEFORE_EXPIRATION_SECONDS")
        ),
        *(("PROVIDER_TIMEOUT_SECONDS", value) for value in ("inf", "nan", "1e300")),
        *(("STALL_SECONDS", value) for value in ("inf", "nan", "1e300")),
        ("CLIENT_KEY_FILE", "a" * 5000),
        ("LOGIN_PARAMS", '{"a": "\\ud800"}'),
        ("LOGIN_PARAMS", "[" * 100_000),
        ("HTTP_CLIENTS", json.dumps({"x": {"base_url": "https://x", "headers": {"a b": "c"}}})),
    ],
)
def test_the_start_names_the_setting_that(name: str, value: str, monkeypatch: pytest.MonkeyPatch):
    for right in ("ISSUER=https://p.example", "CLIENT_ID=a", "CLIENT_SECRET=b", "DEBUG=1"):
        monkeypatch.setenv(*f"BFF_{right}".split("="))
    monkeypatch.setenv(f"BFF_{name}", value)
    with pytest.raises(SettingsError) as stopped:
        load_settings(Settings)
    lines = str(stopped.value).splitlines()[1:]

    assert len(lines) == 1
    assert lines[0].strip().startswith(f"BFF_{name}")


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"a":' * 100_000, b"\xff", b'{"kty": 5}', b'{"kty":"RSA","n":5}']
)
def test_a_file_without_a_key_stops_the_start_with_one_line(content: bytes, tmp_path: Path):
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="BFF_CLIENT_KEY_FILE: no private key"):
        key_from(file)


@pytest.fixture
def signals() -> Iterator[None]:
    """The handlers of signals as they were: a server sets its own."""
    earlier = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    yield
    for number, handler in earlier.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("address", ["a..b", LONG, "no such", "256.1.1.1"])
def test_an_address_that_is_none_is_named(address: str, capsys: pytest.CaptureFixture[str]):
    assert run_server(make_settings(address=address, port=0), [], no_lifespan) == 1
    assert f"Cannot listen on {address}:0: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "headers",
    [{"a b": "c"}, {"": "c"}, {"é": "c"}, {"a:": "c"}, {"a": "b\nc"}, {"a": "b\x00"}, {"a": "\ud800"}],
)
def test_the_headers_of_a_client_can_be_sent(headers: dict[str, str]):
    with pytest.raises(ValidationError):
        HttpClientSettings(base_url="https://x.example", headers=headers)


def test_white_space_around_a_header_is_no_part_of_it():
    assert HttpClientSettings(base_url="https://x.example", headers={"X-Key": " k\n"}).headers == {
        "X-Key": "k"
    }


@pytest.mark.parametrize("seconds", [LONGEST_SECONDS * 2, float("inf"), float("nan")])
def test_the_time_of_a_client_fits_a_timer(seconds: float):
    with pytest.raises(ValidationError):
        HttpClientSettings(base_url="https://x.example", timeout_seconds=seconds)


@pytest.mark.parametrize(("content", "mistake"), [(b"\xe9", ".env: is not UTF-8"), (b"\xef\xbb\xbf", "")])
def test_the_file_of_settings_is_utf_8_with_or_without_a_mark(
    content: bytes, mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lines = b"BFF_ISSUER=https://p.example\nBFF_CLIENT_ID=a\nBFF_CLIENT_SECRET=b\nBFF_DEBUG=1\n"
    (tmp_path / ".env").write_bytes(content + lines)
    monkeypatch.chdir(tmp_path)
    if mistake:
        with pytest.raises(SettingsError, match=mistake):
            load_settings(Settings)
    else:
        assert load_settings(Settings).issuer == "https://p.example"
