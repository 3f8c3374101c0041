"""Why a connection failed, named for the provider, APIs and MongoDB, in logs and in responses."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from socket import EAI_AGAIN, EAI_NONAME, gaierror

import aiohttp
import pytest
from pymongo.errors import DuplicateKeyError, OperationFailure, ServerSelectionTimeoutError

from app.bff.causes import cause_of
from app.bff.clients.api import as_app_error, pool_of
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.errors import ProviderUnavailable, StoreUnavailable
from app.bff.oidc.http import get_following_redirects, translate_http_errors
from app.bff.oidc.metadata import provider_http
from app.bff.sessions.mongo.causes import cause_of_driver_error
from app.bff.sessions.mongo.connection import translate_driver_errors
from app.bff.settings.apis import HttpClientSettings
from tests.bff.harness import Clock, new_browser, running_app
from tests.bff.network import Authority, serving, tls_in_front_of


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def certificate_error(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] (_ssl.c:1006)")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("reason", "named"),
    [
        (gaierror(EAI_NONAME, "Name or service not known"), "DNS name not found"),
        (gaierror(EAI_AGAIN, "Temporary failure in name resolution"), "DNS lookup failed"),
        (ConnectionRefusedError(111, "Connect call failed ('10.0.0.7', 443)"), "connection refused"),
        (ConnectionResetError(104, "Connection reset by peer"), "connection reset"),
        (BrokenPipeError(32, "Broken pipe"), "connection reset"),
        (TimeoutError(), "timed out"),
        (
            certificate_error(10, "certificate has expired"),
            "its certificate is not trusted: certificate has expired",
        ),
        (
            certificate_error(9, "certificate is not yet valid"),
            "its certificate is not trusted: certificate is not yet valid",
        ),
        (
            certificate_error(18, "self-signed certificate"),
            "its certificate is not trusted: self-signed certificate",
        ),
        *(
            (
                certificate_error(code, "mismatch, certificate is not valid for 'api.internal'."),
                "its certificate is not trusted: it is for another host",
            )
            for code in (62, 64)
        ),
        *(
            (
                certificate_error(code, "unable to get issuer certificate"),
                "its certificate is not trusted: unknown authority; see SSL_CERT_FILE",
            )
            for code in (19, 20, 21)
        ),
        (tls_error("WRONG_VERSION_NUMBER"), "TLS handshake failed: WRONG_VERSION_NUMBER"),
        (ssl.SSLError(1, "something"), "TLS handshake failed"),
        (ssl.SSLEOFError(8, "EOF occurred"), "TLS handshake failed: the connection was closed"),
        (OSError(113, "Connect call failed ('10.0.0.7', 443)"), "No route to host"),
        (OSError("All connection attempts failed"), None),
        (ValueError("GET https://user:password@host/"), None),
    ],
)
def test_a_cause_is_named_however_deep_it_lies(reason: Exception, named: str | None):
    outer, middle = RuntimeError("wrapped"), OSError("All connection attempts failed")
    outer.__cause__, middle.__context__ = middle, ExceptionGroup("one for each address", [reason])

    assert cause_of(outer) == named


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def provider_failure(url: str, authority: Authority, timeout_seconds: float = 5) -> str:
    """What is said of the provider's document there."""
    async with provider_http(timeout_seconds, authority.client_context()) as http:
        with pytest.raises(ProviderUnavailable) as failure:
            async with translate_http_errors(timeout_seconds) as extensions:
                await get_following_redirects(http, url, extensions)
    return failure.value.detail


@pytest.mark.parametrize(
    ("host", "days", "cause"),
    [
        ("localhost", -1, "certificate has expired"),
        ("localhost", 10, "certificate is not yet valid"),
        ("other.test", 1, "it is for another host"),
    ],
)
async def test_of_the_provider_a_certificate_is_named_as_the_cause(
    host: str, days: int, cause: str, authority: Authority
):
    async with tls_in_front_of(1, authority.server_context(host, days=days)) as port:
        said = await provider_failure(f"https://localhost:{port}/", authority)

    assert said == f"the provider could not be reached: its certificate is not trusted: {cause}"


async def test_an_authority_that_is_not_known_is_named(authority: Authority, tmp_path: Path):
    async with tls_in_front_of(1, Authority(tmp_path).server_context("localhost")) as port:
        said = await provider_failure(f"https://localhost:{port}/", authority)

    assert said.endswith("unknown authority; see SSL_CERT_FILE")


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("http://127.0.0.1:1/", "could not be reached: connection refused"),
        ("https://localhost:1/", "could not be reached: connection refused"),
        ("http://provider.invalid/", "could not be reached: DNS name not found"),
        ("http://é..x/", "announces a URL that cannot be used"),
    ],
)
async def test_of_the_provider_a_failed_connection_is_named(url: str, cause: str, authority: Authority):
    assert await provider_failure(url, authority) == f"the provider {cause}"


async def test_a_time_out_of_the_provider_names_the_phase(authority: Authority):
    async with serving(silence) as plain, serving(silence, authority.server_context("localhost")) as secure:
        in_tls = await provider_failure(f"https://localhost:{plain}/", authority, 0.3)
        in_http = await provider_failure(f"https://localhost:{secure}/", authority, 0.3)

    assert in_tls == "the provider took too long: timed out in the TLS handshake"
    assert in_http == "the provider took too long: timed out while waiting for the response"


async def test_a_connection_that_breaks_names_the_phase(authority: Authority):
    async with serving(closing) as port:
        said = await provider_failure(f"http://127.0.0.1:{port}/", authority)

    assert said == "the provider could not be reached: the connection broke while waiting for the response"


# APIs


async def api_failure(base_url: str, timeout_seconds: float = 5) -> str:
    pool = pool_of(HttpClientSettings(base_url=base_url, timeout_seconds=timeout_seconds))
    try:
        await pool.http.get(base_url)
    except (aiohttp.ClientError, TimeoutError) as error:
        return str(as_app_error(error))
    finally:
        await pool.http.close()
    return ""


async def test_of_an_api_the_cause_is_named(authority: Authority):
    context = authority.server_context("localhost")
    async with tls_in_front_of(1, context) as port, serving(silence) as silent:
        untrusted = await api_failure(f"https://localhost:{port}/")
        slow = await api_failure(f"http://127.0.0.1:{silent}/", 0.2)
        handshake = await api_failure(f"https://localhost:{silent}/", 0.5)

    assert untrusted == (
        "the API could not be reached: its certificate is not trusted: unknown authority; see SSL_CERT_FILE"
    )
    assert slow == "the API did not answer in time"
    assert handshake == "connecting to the API took too long"
    assert await api_failure("http://127.0.0.1:1/") == "the API could not be reached: connection refused"
    assert await api_failure("http://api.invalid/") == "the API could not be reached: DNS name not found"


async def test_an_api_that_is_down_is_named_in_response_and_log(
    provider: Provider, api: DemoApi, clock: Clock, caplog: pytest.LogCaptureFixture
):
    away = {"away": {"base_url": "http://127.0.0.1:1/"}}
    settings = {"http_clients": away, "remote_apis": [{"path": "/away", "client": "away"}]}
    caplog.set_level(logging.INFO)
    async with running_app(provider, api, clock=clock, **settings) as app, new_browser(app) as browser:
        response = await browser.fetch("/away/x")

    assert (response.status_code, response.json()["detail"]) == (
        502,
        "the API could not be reached: connection refused",
    )
    assert response.json()["detail"] in [getattr(record, "reason", "") for record in caplog.records]


# MongoDB


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (
            ServerSelectionTimeoutError(
                "127.0.0.1:1: [Errno 111] Connection refused (configured timeouts: connectTimeoutMS: 2000.0)"
                ", Timeout: 3s, Topology Description: <TopologyDescription id: 1>"
            ),
            "127.0.0.1:1: [Errno 111] Connection refused",
        ),
        (
            ServerSelectionTimeoutError(
                "db:27017: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has"
                " expired (_ssl.c:1006) (configured timeouts: connectTimeoutMS: 2000.0ms), Timeout: 3s"
            ),
            "db:27017: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired"
            " (_ssl.c:1006)",
        ),
        (ServerSelectionTimeoutError("No replica set members match selector", {}), "there is no primary"),
        (OperationFailure("no", 18, {"codeName": "AuthenticationFailed"}), "it answers AuthenticationFailed"),
        (DuplicateKeyError("E11000 dup key: { _id: 'a-session' }", 11000, {}), "DuplicateKeyError"),
        (TimeoutError(), "no answer in time"),
    ],
)
def test_of_mongodb_the_cause_is_named_without_data(error: Exception, named: str):
    assert cause_of_driver_error(error) == named


async def test_a_database_that_is_down_is_named_in_the_log(caplog: pytest.LogCaptureFixture):
    refused = "127.0.0.1:1: [Errno 111] Connection refused"
    with pytest.raises(StoreUnavailable):
        async with translate_driver_errors():
            raise ServerSelectionTimeoutError(f"{refused} (configured timeouts: connectTimeoutMS: 2000.0ms)")

    assert [getattr(record, "reason", "") for record in caplog.records] == [refused]
