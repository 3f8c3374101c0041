"""`doctor` with real parts: what it prints of a right configuration, and of wrong ones."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import ssl
import time
from argparse import Namespace
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tornado.httputil import HTTPServerRequest

from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod, find_mongod
from app.bff.dev.provider import Client, Failure, Provider
from app.bff.doctor.command import run
from app.bff.sessions.interfaces import TOMBSTONE_SECONDS
from app.bff.sessions.mongo.connection import connect, date, disconnect
from tests.bff.certified_provider import certified_provider
from tests.bff.harness import (
    CLIENT_ID,
    CLIENT_SECRET,
    KEY,
    Browser,
    Clock,
    make_settings,
    running_app,
    sign_in,
)
from tests.bff.nginx import write_certificate
from tests.bff.subprocesses import free_ports

OTHER_KEY = os.urandom(32)
REGISTERED = [
    "redirect URI              http://localhost:8888/bff/callback",
    "post-logout redirect URI  http://localhost:8888/bff/logout/callback",
    "back-channel logout URI   http://localhost:8888/bff/backchannel",
    "front-channel logout URI  http://localhost:8888/bff/frontchannel",
    "initiate login URI        http://localhost:8888/bff/login",
]


@dataclass(frozen=True)
class DoctorReport:
    """What the doctor has printed, and the exit code."""

    code: int
    text: str

    def of(self, level: str) -> list[str]:
        """What was found of that level, without the advice."""
        lines = (line.strip().partition(" ") for line in self.text.splitlines())
        return [what.strip() for first, _, what in lines if first == level]

    @property
    def verdict(self) -> tuple[int, list[str]]:
        return self.code, self.of("wrong")


Doctor = Callable[..., Awaitable[DoctorReport]]


@pytest.fixture
def database(mongod: Mongod) -> str:
    return f"{mongod.uri}/test-doctor-{secrets.token_hex(4)}"


@pytest.fixture
def doctor(provider: Provider, api: DemoApi, database: str, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Asks the doctor about settings that are right, but for what a test changes."""
    provider.clients[CLIENT_ID] = Client(CLIENT_ID, CLIENT_SECRET, ("http://localhost:8888/bff/callback",))
    right = {
        "issuer": provider.issuer,
        "session_store": database,
        "http_clients": {"apiClient": {"base_url": api.base_url, "token": "user"}},
    }

    async def doctor(
        *, clock: Callable[[], float] = time.time, as_json: bool = False, **changed: Any
    ) -> DoctorReport:
        code = await run(make_settings(**{**right, **changed}), Namespace(json=as_json), clock=clock)
        return DoctorReport(code, capsys.readouterr().out)

    return doctor


async def keep_a_session(provider: Provider, api: DemoApi, database: str, *keys: bytes) -> None:
    settings = {"session_store": database, "encryption_keys": keys}
    async with running_app(provider, api, clock=Clock(), **settings) as app:
        browser = Browser(app)
        await sign_in(app, browser)
        await browser.http.aclose()


# What is right


async def test_a_right_configuration_has_nothing_wrong_and_nothing_to_look_at(doctor: Doctor):
    report = await doctor()

    assert report.verdict == (0, [])
    assert report.of("warning") == []
    assert "it accepts client app by client_secret_basic" in report.of("ok")
    assert "a majority acknowledges writes" in report.of("ok")
    assert report.text.endswith(f"\n0 wrong, 0 to look at, {len(report.of('ok'))} ok\n")


async def test_machines_read_the_same_findings_as_json(doctor: Doctor):
    report, found = await doctor(), json.loads((await doctor(as_json=True)).text)

    for level in ("ok", "info"):
        seconds = re.compile(r"in [\d.]+ s")  # as measured
        whats = [seconds.sub("", each["what"]) for each in found if each["level"] == level]
        assert whats == [seconds.sub("", line) for line in report.of(level)]
    assert {each["chapter"] for each in found} <= set(report.text.splitlines())
    assert all(each.keys() == {"chapter", "level", "what", "advice"} for each in found)


async def test_the_urls_to_register_are_printed_letter_by_letter(doctor: Doctor):
    assert [line for line in (await doctor()).of("info") if " URI " in line] == REGISTERED


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_both_drivers_find_the_same(doctor: Doctor, driver: str):
    report = await doctor(mongodb_driver=driver)

    assert report.verdict == (0, [])
    assert "the indexes exist, and expired records are removed" in report.of("ok")


async def test_nothing_of_the_trial_write_stays_behind(doctor: Doctor, database: str):
    await doctor()

    client = connect(database, driver="pymongo")
    names = await client.get_default_database().list_collection_names()
    assert set(names) == {"sessions", "revocations", "logout_tokens", "return_paths"}
    await disconnect(client)


async def test_sessions_in_memory_are_something_to_look_at(doctor: Doctor):
    report = await doctor(session_store="memory:")

    assert report.verdict == (0, [])
    assert report.of("warning") == [
        "sessions are in memory: they end with the process, of which there can be only one"
    ]


@pytest.mark.parametrize("options", [{}, {"par": True, "dpop": True}], ids=["as we start", "PAR and DPoP"])
async def test_a_certified_provider_is_right(doctor: Doctor, options: dict[str, bool]):
    requires = ("par", "dpop_nonce") if options else ()
    async with certified_provider("http://localhost:8888", requires=requires) as certified:
        report = await doctor(issuer=certified.issuer, **options)

    assert report.verdict == (0, [])
    assert report.of("warning") == []
    assert "it accepts client app by client_secret_basic" in report.of("ok")


async def test_a_certified_provider_with_another_secret_is_wrong(doctor: Doctor):
    async with certified_provider("http://localhost:8888") as certified:
        report = await doctor(issuer=certified.issuer, client_secret="another")

    assert report.verdict == (
        1,
        ["it rejects client app: status 401 invalid_client (client authentication failed)"],
    )


# What is wrong with the provider


async def test_a_slash_at_the_end_of_the_issuer(doctor: Doctor, provider: Provider):
    report = await doctor(issuer=f"{provider.issuer}/")

    named = f"its issuer is '{provider.issuer}', and BFF_ISSUER is '{provider.issuer}/'"
    assert report.verdict == (1, [named])
    assert "the trailing slash counts" in report.text
    assert provider.counts["token"] == 0  # the secret is not sent to another issuer


async def test_a_provider_that_is_down(doctor: Doctor, provider: Provider):
    await provider.stop()
    report = await doctor(http_clients={})

    url = f"{provider.issuer}/.well-known/openid-configuration"
    assert report.verdict == (1, [f"{url} cannot be fetched: connection refused"])


async def test_a_provider_whose_name_does_not_resolve(doctor: Doctor):
    report = await doctor(issuer="https://provider.invalid")

    [wrong] = report.of("wrong")
    assert report.code == 1
    assert wrong.endswith("cannot be fetched: DNS name not found")


async def test_a_provider_with_a_certificate_of_its_own_making(doctor: Doctor, tmp_path: Path):
    certificate = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        report = await doctor(issuer=f"https://localhost:{port}")

    [wrong] = report.of("wrong")
    assert report.code == 1
    assert wrong.endswith("cannot be fetched: its certificate is not trusted: self-signed certificate")


async def test_an_address_without_a_discovery_document(doctor: Doctor, provider: Provider):
    report = await doctor(issuer=f"{provider.issuer}/realms/misspelt")

    url = f"{provider.issuer}/realms/misspelt/.well-known/openid-configuration"
    assert report.verdict == (1, [f"{url} is no discovery document: status 404"])


async def test_another_secret(doctor: Doctor):
    report = await doctor(client_secret="another-secret")

    [finding] = report.verdict[1]
    assert finding.startswith(
        "it rejects client app: status 401 invalid_client (The client cannot authenticate"
    )


async def test_a_client_that_is_not_registered(doctor: Doctor):
    report = await doctor(client_id="unknown")

    [finding] = report.verdict[1]
    assert finding.startswith("it rejects client unknown: status 401 invalid_client (")


@pytest.mark.parametrize("endpoint", ["metadata", "jwks"])
async def test_a_document_that_comes_with_an_error_is_none(doctor: Doctor, provider: Provider, endpoint: str):
    provider.fails[endpoint] = Failure(500, b'{"issuer": "a document all the same", "keys": []}')
    report = await doctor()

    [wrong] = report.of("wrong")
    assert report.code == 1
    assert wrong.endswith("status 500")


async def test_with_dpop_the_probe_carries_a_proof(doctor: Doctor, clock: Clock):
    class Attentive(Provider):
        proofs: ClassVar[list[str | None]] = []

        def record(self, endpoint: str, request: HTTPServerRequest) -> None:
            super().record(endpoint, request)
            if endpoint == "token":
                self.proofs.append(request.headers.get("DPoP"))

    provider = Attentive([Client(CLIENT_ID, CLIENT_SECRET, ())], clock=clock)
    await provider.start()
    assert (await doctor(issuer=provider.issuer, dpop=True)).verdict == (0, [])
    assert (await doctor(issuer=provider.issuer)).verdict == (0, [])
    await provider.stop()

    assert [bool(proof) for proof in provider.proofs] == [True, False]


async def test_a_token_endpoint_in_trouble_is_something_to_look_at(doctor: Doctor, provider: Provider):
    provider.fails["token"] = Failure(503)
    report = await doctor()

    assert report.verdict == (0, [])
    assert report.of("warning") == ["whether it accepts client app is not clear: status 503"]


@pytest.mark.parametrize(
    ("seconds", "level", "found"),
    [
        (120, "wrong", " s ahead of its clock: its tokens are rejected"),
        (-120, "wrong", " s behind its clock: its tokens are rejected"),
        (30, "warning", " s ahead of its clock; beyond 60 s its tokens are rejected"),
    ],
)
async def test_a_clock_that_is_not_right(doctor: Doctor, seconds: int, level: str, found: str):
    report = await doctor(clock=lambda: time.time() + seconds)

    of_provider, of_mongodb = report.of("wrong") + report.of("warning")
    assert of_provider in report.of(level)
    assert of_provider.endswith(found)
    assert of_mongodb.endswith("its clock: sessions expire at the wrong time here")
    assert report.code == (level == "wrong")


async def test_a_client_authentication_method_that_is_not_announced(doctor: Doctor, provider: Provider):
    provider.overrides["metadata"] = {"token_endpoint_auth_methods_supported": ["private_key_jwt"]}
    report = await doctor()

    assert report.verdict == (1, ["client authentication by client_secret_basic is not announced"])
    assert "Set BFF_CLIENT_AUTH to the registered method, one of: private_key_jwt." in report.text


async def test_par_where_there_is_none(doctor: Doctor, provider: Provider):
    provider.overrides["metadata"] = {"pushed_authorization_request_endpoint": None}
    report = await doctor(par=True)

    assert report.verdict == (1, ["PAR is required but not offered: no login can start"])


async def test_a_provider_without_keys(doctor: Doctor, provider: Provider):
    provider.overrides["metadata"] = {"jwks_uri": f"{provider.issuer}/.well-known/openid-configuration"}
    report = await doctor()

    [wrong] = report.of("wrong")
    assert report.code == 1
    assert wrong.startswith("no key at")


async def test_a_provider_that_does_the_least_is_something_to_look_at(doctor: Doctor, provider: Provider):
    hidden = ("revocation_endpoint", "end_session_endpoint", "code_challenge_methods_supported")
    provider.overrides["metadata"] = {"scopes_supported": ["openid"], **dict.fromkeys(hidden)}
    report = await doctor()

    assert report.verdict == (0, [])
    assert report.of("warning") == [
        "PKCE with S256 is not announced",
        "scopes that are not announced: profile email offline_access",
        "refresh tokens cannot be revoked: they outlive a logout",
        "RP-initiated logout is not offered: the next login may ask for no password",
    ]
    assert "Find out how that provider issues refresh tokens" in report.text


# What is wrong with sessions and keys


async def test_a_database_that_is_down_and_its_password_stays_secret(doctor: Doctor):
    port = free_ports()
    report = await doctor(session_store=f"mongodb://bff:hunter2@127.0.0.1:{port}/bff")

    [wrong] = report.of("wrong")
    assert report.code == 1
    assert wrong.startswith(f"MongoDB at 127.0.0.1:{port} does not answer: ")
    assert "hunter2" not in report.text


async def test_a_password_that_breaks_the_uri_stays_secret(doctor: Doctor):
    report = await doctor(session_store="mongodb://bff:hun/ter2@127.0.0.1/bff")

    assert report.verdict == (1, ["MongoDB does not answer: the driver does not understand the URI"])
    assert "ter2" not in report.text


@pytest.mark.parametrize(
    ("name", "meant"), [("sessions", TOMBSTONE_SECONDS), ("revocations", 0), ("logout_tokens", 0)]
)
async def test_an_index_that_clears_away_too_late(doctor: Doctor, database: str, name: str, meant: int):
    client = connect(database, driver="pymongo")
    records = client.get_default_database().get_collection(name)
    direction = -1 if name == "sessions" else 1
    await records.create_index([("expires_at", direction)], expireAfterSeconds=3600 + meant)
    await disconnect(client)
    report = await doctor()

    late = "expired records are removed 3600 s late: the index on expires_at has the wrong TTL"
    assert report.verdict == (1, [f"{name}: {late}"])
    assert f"db.{name}.dropIndex({{expires_at: {direction}}})" in report.text


async def test_a_replica_set_that_is_not_initiated(doctor: Doctor, tmp_path: Path):
    with Mongod(find_mongod(), tmp_path, replica_set="bff") as member:
        report = await doctor(session_store=f"{member.uri}/bff")

    where = member.uri.removeprefix("mongodb://")
    assert report.verdict == (1, [f"MongoDB at {where} does not answer: there is no primary"])


async def test_sessions_sealed_with_a_key_that_is_gone(
    doctor: Doctor, provider: Provider, api: DemoApi, database: str
):
    await keep_a_session(provider, api, database, OTHER_KEY)
    report = await doctor(encryption_keys=[KEY])

    assert report.verdict == (1, ["sessions: 1 encrypted with a key that is not in the ring"])


@pytest.mark.parametrize("byte", [b"\x00", b"\xff"])
async def test_a_record_belongs_to_a_key_only_if_all_bits_are_those_of_its_id(
    doctor: Doctor, database: str, byte: bytes
):
    client = connect(database, driver="pymongo")
    sessions = client.get_default_database().get_collection("sessions")
    await sessions.insert_one({"sealed": byte * 40, "expires_at": date(time.time() + 60)})
    await disconnect(client)
    report = await doctor()

    assert report.verdict == (1, ["sessions: 1 encrypted with a key that is not in the ring"])
    assert "sessions: 0 with key 1" in report.of("ok")


async def test_an_old_key_that_still_opens_sessions_and_one_that_opens_none(
    doctor: Doctor, provider: Provider, api: DemoApi, database: str
):
    await keep_a_session(provider, api, database, KEY)
    await keep_a_session(provider, api, database, OTHER_KEY)
    report = await doctor(encryption_keys=[KEY, OTHER_KEY, os.urandom(32)])

    assert report.verdict == (0, [])
    assert "sessions: 1 with key 1, 1 with key 2, 0 with key 3" in report.of("ok")
    assert [line for line in report.of("info") if line.startswith("key ")] == [
        "key 2 still decrypts 1: run `python -m app rotate-keys`, then remove it",
        "key 3 is unused: remove it",
    ]


# What is wrong with the settings


async def test_debug_for_browsers_from_elsewhere(doctor: Doctor):
    report = await doctor(debug=True, base_url="http://bff.example.com")

    assert report.verdict == (
        1,
        [
            "BFF_DEBUG is on, and other machines reach http://bff.example.com",
            "cookies are sent unencrypted, without Secure and __Host-: BFF_BASE_URL is http://bff.example.com",
        ],
    )


async def test_any_address_a_trusted_proxy(doctor: Doctor):
    report = await doctor(base_url="https://bff.example.com", trusted_proxies="10.0.0.0/8,0.0.0.0/0")

    believed = "X-Forwarded-... is trusted from any address: BFF_TRUSTED_PROXIES has 0.0.0.0/0"
    assert report.verdict == (1, [believed])


async def test_https_without_a_trusted_proxy_is_nothing_to_change(doctor: Doctor):
    report = await doctor(base_url="https://bff.example.com")

    assert report.verdict == (0, [])
    assert report.of("warning") == []


async def test_apis_that_are_down_or_reached_in_the_clear_are_something_to_look_at(doctor: Doctor):
    clients = {
        "apiClient": {"base_url": f"http://127.0.0.1:{free_ports()}/"},
        "billing": {"base_url": "http://billing.invalid/", "token": "user"},
    }
    report = await doctor(http_clients=clients)

    assert report.verdict == (0, [])
    assert [line.partition(" at ")[0] for line in report.of("warning")] == [
        "apiClient cannot be reached",
        "billing cannot be reached",
        "billing sends tokens unencrypted to http://billing.invalid/",
    ]
