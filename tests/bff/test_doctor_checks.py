"""What the doctor makes of the probe: tables of what was found out, and how bad that is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk

from app.bff.doctor.apis import check_apis
from app.bff.doctor.deployment import check_deployment, check_key_ring
from app.bff.doctor.files import check_files, probe_files
from app.bff.doctor.mongo import MongoProbe, Sealed, Server, check_memory_store, check_mongo, hosts_of
from app.bff.doctor.provider import (
    Fetched,
    ProviderProbe,
    TokenReply,
    check_announcements,
    check_provider,
)
from app.bff.doctor.report import Finding, exit_code, info, ok, report, warning, wrong
from app.bff.oidc.responses import server_date, skew_seconds
from app.bff.settings.apis import HttpClientSettings
from tests.bff.application.settings import Settings
from tests.bff.harness import KEY, make_settings

ISSUER = "https://provider.example"
NOW = 1_800_000_000.0
DOCUMENT = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/jwks",
    "revocation_endpoint": f"{ISSUER}/revoke",
    "end_session_endpoint": f"{ISSUER}/logout",
    "pushed_authorization_request_endpoint": f"{ISSUER}/par",
    "scopes_supported": ["openid", "profile", "email", "offline_access"],
    "id_token_signing_alg_values_supported": ["RS256", "HS256"],
    "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    "code_challenge_methods_supported": ["S256"],
    "dpop_signing_alg_values_supported": ["ES256"],
    "prompt_values_supported": ["none", "login"],
    "authorization_response_iss_parameter_supported": True,
    "backchannel_logout_supported": True,
    "backchannel_logout_session_supported": True,
}
KEYCLOAK = {
    "authorization_endpoint": f"{ISSUER}/realms/x/protocol/openid-connect/auth",
    "token_endpoint": f"{ISSUER}/realms/x/protocol/openid-connect/token",
}
KEYS = {"keys": [jwk.generate_key("EC", "P-256").as_dict(private=False)]}
SERVER = Server((6, 0, 5), "bff", 3, sharded=False)
MONGO = MongoProbe(
    "db.example:27017",
    server=SERVER,
    expire_after_seconds=(("sessions", 0), ("revocations", 0)),
    ahead_seconds=0.2,
    sealed=(Sealed("sessions", (1,), 0), Sealed("revocations", (0,), 0)),
)


def fetched(document: dict[str, Any] | None = None, **changed: Any) -> Fetched:
    right = Fetched(f"{ISSUER}/…", NOW, NOW + 0.5, status=200, document=document, date=NOW)
    return replace(right, **changed)


FACTS = ProviderProbe(fetched(DOCUMENT), fetched(KEYS), TokenReply(status=400, error="invalid_grant"))


def levels(findings: list[Finding]) -> set[str]:
    return {finding.level for finding in findings}


def the(level: str, findings: list[Finding]) -> str:
    """What the only finding of that level says; no other is as bad."""
    [found] = [finding for finding in findings if finding.level in ("wrong", "warning")]
    assert found.level == level
    return found.what


# The provider


def test_a_provider_that_is_right_is_all_right():
    settings = make_settings(issuer=ISSUER)

    assert levels(check_provider(FACTS, settings)) == {"ok"}
    assert levels(check_announcements(FACTS, settings)) == {"ok", "info"}


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"discovery": fetched(problem="timed out", status=0)}, "cannot be fetched: timed out"),
        ({"discovery": fetched(status=404)}, "is no discovery document: status 404"),
        ({"discovery": fetched({**DOCUMENT, "issuer": None})}, "its issuer is None"),
        ({"discovery": fetched({**DOCUMENT, "token_endpoint": None})}, "no usable token_endpoint"),
        ({"discovery": fetched(DOCUMENT, date=NOW + 62)}, "62 s behind its clock: its tokens are rejected"),
        ({"keys": fetched(status=500)}, "cannot be fetched: status 500"),
        ({"keys": fetched(problem="connection refused")}, "cannot be fetched: connection refused"),
        ({"keys": fetched({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]})}, "no key at"),
        (
            {"token_reply": TokenReply(problem="timed out")},
            "its token endpoint does not answer: timed out",
        ),
        ({"token_reply": TokenReply(status=400, error="invalid_client")}, "it rejects client app"),
        (
            {"token_reply": TokenReply(status=401, error="unauthorized_client")},
            "it rejects client app",
        ),
        (
            {"token_reply": TokenReply(status=400, error="unauthorized_client")},
            "client app may not redeem codes",
        ),
    ],
)
def test_it_is_wrong_that_the_provider(changed: dict[str, Any], found: str):
    probe = replace(FACTS, **changed)
    if probe.discovery.document != DOCUMENT:
        probe = replace(probe, keys=None, token_reply=None)

    assert found in the("wrong", check_provider(probe, make_settings(issuer=ISSUER)))


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"discovery": fetched(DOCUMENT, date=NOW - 21)}, "20 s ahead of its clock"),
        (
            {"token_reply": TokenReply(status=400, error="invalid_request")},
            "not clear: status 400 invalid_request",
        ),
        ({"token_reply": TokenReply(status=400, error="invalid_dpop_proof")}, "not clear"),
        ({"token_reply": TokenReply(status=200)}, "not clear: status 200"),
    ],
)
def test_it_is_to_be_looked_at_that_the_provider(changed: dict[str, Any], found: str):
    assert found in the("warning", check_provider(replace(FACTS, **changed), make_settings(issuer=ISSUER)))


@pytest.mark.parametrize(
    ("settings", "changed", "level", "found"),
    [
        ({}, {"code_challenge_methods_supported": ["plain"]}, "warning", "PKCE with S256"),
        ({}, {"token_endpoint_auth_methods_supported": ["tls_client_auth"]}, "wrong", "client_secret_basic"),
        (
            {"client_auth": "client_secret_post"},
            {"token_endpoint_auth_methods_supported": None},
            "wrong",
            "client_secret_post is not announced",
        ),
        (
            {},
            {"id_token_signing_alg_values_supported": ["HS256", "none"]},
            "wrong",
            "no supported algorithm",
        ),
        ({}, {"scopes_supported": ["openid", "profile", "email"]}, "warning", "offline_access"),
        ({"id_token_alg": "ES512"}, {}, "warning", "signed with ES512, which is not announced"),
        ({"scope": "openid orders"}, {}, "warning", "orders"),
        ({}, KEYCLOAK, "warning", "with offline_access it keeps no session of the browser"),
        ({}, {"token_endpoint": KEYCLOAK["token_endpoint"]}, "warning", "it is a Keycloak"),
        (
            {"par": True},
            {"pushed_authorization_request_endpoint": None},
            "wrong",
            "PAR is required but not offered",
        ),
        (
            {},
            {"pushed_authorization_request_endpoint": None, "require_pushed_authorization_requests": True},
            "wrong",
            "PAR is required but not offered",
        ),
        ({"dpop": True}, {"dpop_signing_alg_values_supported": ["RS256"]}, "wrong", "without ES256"),
        ({"dpop": True}, {"dpop_signing_alg_values_supported": None}, "warning", "DPoP is not announced"),
        ({}, {"revocation_endpoint": None}, "warning", "refresh tokens cannot be revoked"),
        ({}, {"end_session_endpoint": None}, "warning", "RP-initiated logout is not offered"),
    ],
)
def test_what_it_announces_does_not_fit(
    settings: dict[str, Any], changed: dict[str, Any], level: str, found: str
):
    probe = replace(FACTS, discovery=fetched({**DOCUMENT, **changed}))

    assert found in the(level, check_announcements(probe, make_settings(issuer=ISSUER, **settings)))


@pytest.mark.parametrize(
    ("scope", "advised"),
    [("openid offline_access profile", "openid profile"), ("offline_access openid email", "openid email")],
)
def test_the_scope_for_a_keycloak_is_named(scope: str, advised: str):
    probe = replace(FACTS, discovery=fetched({**DOCUMENT, **KEYCLOAK}))
    findings = check_announcements(probe, make_settings(issuer=ISSUER, scope=scope))

    [advice] = [finding.advice for finding in findings if finding.level == "warning"]
    assert f"Set BFF_SCOPE={advised}, " in advice


def test_a_keycloak_that_is_not_asked_for_offline_access_is_all_right():
    probe = replace(FACTS, discovery=fetched({**DOCUMENT, **KEYCLOAK}))

    found = check_announcements(probe, make_settings(issuer=ISSUER, scope="openid email"))
    assert levels(found) == {"ok", "info"}


@pytest.mark.parametrize(
    ("settings", "changed", "found"),
    [
        ({}, {"authorization_response_iss_parameter_supported": False}, "carry no iss"),
        ({}, {"token_endpoint_auth_methods_supported": None}, "client authentication by client_secret_basic"),
        ({}, {"scopes_supported": None}, "scopes_supported is not announced"),
        ({"scope": "openid email"}, {}, "with most providers a login then brings no refresh token"),
        ({}, {"pushed_authorization_request_endpoint": None}, "PAR is not offered; BFF_PAR is off"),
        ({}, {"dpop_signing_alg_values_supported": None}, "DPoP is not offered; BFF_DPOP is off"),
        ({"revoke_refresh_token_on_logout": False}, {"revocation_endpoint": None}, "cannot be revoked"),
        ({}, {"backchannel_logout_supported": None}, "back-channel logout is not offered"),
        ({}, {"backchannel_logout_session_supported": None}, "back-channel logout without sid"),
        ({}, {"prompt_values_supported": None}, "prompt_values_supported is not"),
    ],
)
def test_an_optional_feature_is_reported_without_a_warning(
    settings: dict[str, Any], changed: dict[str, Any], found: str
):
    probe = replace(FACTS, discovery=fetched({**DOCUMENT, **changed}))
    findings = check_announcements(probe, make_settings(issuer=ISSUER, **settings))

    assert levels(findings) == {"ok", "info"}
    assert [finding for finding in findings if found in finding.what]


def test_the_metadata_of_another_issuer_is_not_checked():
    assert check_announcements(FACTS, make_settings(issuer=f"{ISSUER}/")) == []


# Clocks


@pytest.mark.parametrize(
    ("date", "ahead"),
    [
        pytest.param(NOW, 0, id="written while we waited"),
        pytest.param(NOW - 1, 0, id="in the second before, of which we do not see the fraction"),
        pytest.param(NOW - 31, 30, id="our clock is ahead"),
        pytest.param(NOW + 34, -30, id="our clock is behind, after four seconds of waiting"),
    ],
)
def test_the_skew_is_what_it_must_be_at_least(date: float, ahead: float):
    assert skew_seconds(date, sent_at=NOW, received_at=NOW + 4) == ahead


@pytest.mark.parametrize(
    ("headers", "date"),
    [
        pytest.param({"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}, 784111777, id="RFC 9110 §5.6.7"),
        pytest.param({"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "Age": "60"}, 784111837, id="from a cache"),
        pytest.param({"Date": "soon"}, None, id="no date"),
        pytest.param({}, None, id="none"),
    ],
)
def test_the_date_of_an_answer(headers: dict[str, str], date: float | None):
    assert server_date(headers) == date


# MongoDB and keys


def test_a_mongodb_that_is_right_is_all_right():
    assert levels(check_mongo(MONGO)) == {"ok", "info"}


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"server": None, "problem": "there is no primary"}, "db.example:27017 does not answer: there is no"),
        ({"server": replace(SERVER, version=(4, 2, 24))}, "it is MongoDB 4.2.24"),
        (
            {"expire_after_seconds": (("sessions", None), ("revocations", 0))},
            "sessions: expired records are removed never",
        ),
        (
            {"expire_after_seconds": (("sessions", 0), ("revocations", 60))},
            "revocations: expired records are removed 60 s late",
        ),
        (
            {"index_problem": "it answers Unauthorized"},
            "the indexes cannot be created: it answers Unauthorized",
        ),
        ({"write_problem": "no answer within 4 s"}, "a write is not acknowledged by a majority: no answer"),
    ],
)
def test_it_is_wrong_that_mongodb(changed: dict[str, Any], found: str):
    assert found in the("wrong", check_mongo(replace(MONGO, **changed)))


@pytest.mark.parametrize(
    ("ahead", "level", "found"),
    [
        pytest.param(0, "ok", "our clock and its clock agree", id="equal"),
        pytest.param(-5, "ok", "our clock and its clock agree", id="nearly equal"),
        pytest.param(40, "warning", "our clock is 40 s ahead of its clock", id="ahead"),
        pytest.param(-90, "warning", "our clock is 90 s behind its clock", id="behind"),
    ],
)
def test_our_clock_is_compared_with_that_of_mongodb(ahead: float, level: str, found: str):
    findings = check_mongo(replace(MONGO, ahead_seconds=ahead))
    assert [each.level for each in findings if found in each.what] == [level]


@pytest.mark.parametrize(
    ("server", "found"),
    [
        (SERVER, "the replica set bff, with 3 data-bearing members"),
        (Server((8, 0, 0), "", 0, sharded=False), "a standalone server"),
        (Server((8, 0, 0), "", 0, sharded=True), "a sharded cluster"),
    ],
)
def test_the_report_names_the_kind_of_mongodb(server: Server, found: str):
    [finding] = [each for each in check_mongo(replace(MONGO, server=server)) if each.level == "info"]

    assert found in finding.what


@pytest.mark.parametrize(
    ("uri", "hosts"),
    [
        ("mongodb://127.0.0.1:27017/bff", "127.0.0.1:27017"),
        ("mongodb://bff:hunter2@one:1,two:2/bff?w=1", "one:1,two:2"),
        ("mongodb+srv://bff:p%40ss@cluster.example?authSource=admin", "cluster.example"),
        ("mongodb://one/bff?appName=me@home", "one"),
        ("mongodb://bff:123/secret@one/bff", ""),
        ("mongodb://bff:123?secret@one/bff", ""),
        ("mongodb://bff:123@secret@one/bff", ""),
    ],
)
def test_of_a_uri_only_the_hosts_are_printed(uri: str, hosts: str):
    assert hosts_of(uri) == hosts


def test_sessions_in_memory_are_for_development():
    assert levels(check_memory_store(make_settings(debug=True))) == {"info"}
    assert levels(check_memory_store(make_settings())) == {"warning"}


def test_a_key_that_is_made_anew_at_every_start_is_to_be_looked_at():
    settings = Settings(_env_file=None, debug=True, issuer=ISSUER, client_id="app", client_secret="secret")

    assert "each start generates its own key" in the("warning", check_key_ring(settings, MONGO))


def test_records_of_a_key_that_is_not_there_are_wrong_wherever_they_are():
    lost = replace(MONGO, sealed=(Sealed("sessions", (5,), 0), Sealed("revocations", (0,), 2)))
    found = the("wrong", check_key_ring(make_settings(), lost))

    assert found == "revocations: 2 encrypted with a key that is not in the ring"


def test_an_old_key_can_go_once_neither_sessions_nor_revocations_need_it():
    settings = make_settings(encryption_keys=[KEY, b"2" * 32, b"3" * 32])
    sealed = (Sealed("sessions", (5, 0, 0), 0), Sealed("revocations", (0, 1, 0), 0))
    findings = [finding.what for finding in check_key_ring(settings, replace(MONGO, sealed=sealed))]

    assert findings[-2:] == [
        "key 2 still decrypts 1: run `python -m app rotate-keys`, then remove it",
        "key 3 is unused: remove it",
    ]


def test_what_could_not_be_counted_is_reported_and_not_guessed():
    slow = replace(MONGO, sealed=(), sealed_problem="no answer within 4 s")

    assert levels(check_key_ring(make_settings(), slow)) == {"info"}


# Browsers, proxies, APIs


@pytest.mark.parametrize(
    ("settings", "debug", "cookies", "samesite", "proxies"),
    [
        ({}, "ok", "info", "ok", "ok"),
        ({"debug": True}, "info", "info", "ok", "ok"),
        ({"cookie_samesite": "lax"}, "ok", "info", "info", "ok"),
        ({"base_url": "https://a.example"}, "ok", "ok", "ok", "info"),
        ({"base_url": "https://a.example", "trusted_proxies": "10.0.0.1"}, "ok", "ok", "ok", "ok"),
        ({"base_url": "https://a.example", "trusted_proxies": "10.0.0.1, ::/0"}, "ok", "ok", "ok", "wrong"),
        ({"base_url": "https://a.example", "debug": True}, "wrong", "ok", "ok", "info"),
        ({"base_url": "http://a.example", "debug": True}, "wrong", "wrong", "ok", "ok"),
    ],
)
def test_how_browsers_and_proxies_reach_us(
    settings: dict[str, Any], debug: str, cookies: str, samesite: str, proxies: str
):
    findings = check_deployment(make_settings(**settings))

    assert [finding.level for finding in findings] == [debug, cookies, samesite, proxies, "ok"]


def test_a_proxy_that_may_fetch_tokens_is_reported_without_its_secret():
    secret = "0123456789abcdef" * 2
    finding = check_deployment(make_settings(forward_auth_secret=secret))[-1]

    assert finding.level == "info"
    assert secret not in str(finding)


@pytest.mark.parametrize(
    ("base_url", "origins", "warnings"),
    [
        ("https://bff.example.com", "https://app.example.com", ["pages of https://app.example.com act"]),
        ("https://bff.example.com", "https://a.example.com,https://b.example.com", ["pages of https://a"]),
        ("http://localhost:8888", "http://localhost:5173", ["pages of http://localhost:5173 act"]),
        ("https://a.co.uk", "https://b.co.uk", ["pages of https://b.co.uk", "https://b.co.uk and https://a"]),
        ("https://a.github.io", "https://b.github.io", ["pages of", "https://b.github.io and"]),
        ("https://a.example.dev", "https://b.example.dev", ["pages of"]),
        ("https://a.abc.de", "https://b.abc.de", ["pages of"]),
        ("https://a.co.uk", "", []),
    ],
)
def test_what_allowed_origins_cost_is_said(base_url: str, origins: str, warnings: list[str]):
    found = check_deployment(make_settings(base_url=base_url, allowed_origins=origins))[5:]

    assert [finding.level for finding in found] == ["warning"] * len(warnings)
    assert all(finding.what.startswith(text) for finding, text in zip(found, warnings, strict=True))


def test_no_advice_makes_a_proxy_trusted():
    findings = check_deployment(make_settings(base_url="https://a.example"))

    assert not [finding for finding in findings if "Set BFF_TRUSTED_PROXIES" in str(finding)]


@pytest.mark.parametrize(
    ("client", "warnings"),
    [
        ({"base_url": "https://api.example/", "token": "user"}, 0),
        ({"base_url": "http://127.0.0.1:1/", "token": "user"}, 0),
        ({"base_url": "http://api.example/", "token": "none"}, 0),
        ({"base_url": "http://api.example/", "token": "user"}, 1),
        ({"base_url": "http://api.example/", "token": "client"}, 1),
    ],
)
def test_a_token_in_the_clear_is_to_be_looked_at(client: dict[str, str], warnings: int):
    findings = check_apis({"api": HttpClientSettings(**client)}, {"api": ""})

    assert len([finding for finding in findings if finding.level == "warning"]) == warnings


# Words


def test_a_report_is_aligned_and_ends_with_the_counts():
    chapters = {"One": [ok("fine"), info("so it is")], "Two": [warning("odd", "Look."), wrong("bad", "Act.")]}

    assert report(chapters).splitlines() == [
        "One",
        "  ok       fine",
        "  info     so it is",
        "",
        "Two",
        "  warning  odd",
        "           Look.",
        "  wrong    bad",
        "           Act.",
        "",
        "1 wrong, 1 to look at, 1 ok",
    ]


def test_what_comes_from_outside_does_not_steer_the_terminal():
    assert "\x1b" not in report({"One": [ok("named \x1b[2J\r\nwrong")]})


@pytest.mark.parametrize(
    ("findings", "code"), [([], 0), ([ok("a"), warning("b", "c")], 0), ([wrong("a", "b")], 1)]
)
def test_the_exit_code_is_1_only_for_what_is_wrong(findings: list[Finding], code: int):
    assert exit_code({"One": [ok("a")], "Two": findings}) == code


@pytest.mark.parametrize(
    ("mode", "level"),
    [
        (0o600, "ok"),
        (0o400, "ok"),
        (0o700, "ok"),
        (0o640, "warning"),
        (0o604, "warning"),
        (0o644, "warning"),
        (0o444, "warning"),
        (0o620, "wrong"),
        (0o602, "wrong"),
        (0o666, "wrong"),
    ],
    ids=lambda value: oct(value) if isinstance(value, int) else value,
)
def test_files_with_secrets_are_for_their_owner(mode: int, level: str):
    [finding] = check_files({Path("keys/the client.pem"): mode})

    assert (finding.level, f"{mode:03o}" in finding.what) == (level, True)
    assert finding.advice == ("" if level == "ok" else "chmod 600 'keys/the client.pem'")


def test_the_env_file_and_the_clients_key_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    key = tmp_path / "client.pem"
    for file, mode in ((key, 0o640), (tmp_path / ".env", 0o644)):
        file.touch()
        file.chmod(mode)

    assert probe_files(make_settings(client_key_file=key)) == {Path(".env"): 0o644, key: 0o640}
    assert probe_files(make_settings()) == {Path(".env"): 0o644}
    (tmp_path / ".env").unlink()
    assert probe_files(make_settings()) == {}


@pytest.mark.parametrize(
    ("address", "level"),
    [
        ("127.0.0.1", "ok"),
        ("::1", "ok"),
        ("localhost", "ok"),
        ("10.1.2.3", "ok"),
        ("0.0.0.0", "warning"),  # noqa: S104 (a setting)
        ("::", "warning"),
        ("8.8.8.8", "wrong"),
        ("2606:4700::1111", "wrong"),
        ("metrics.internal", "info"),
    ],
)
def test_a_port_for_metrics_that_is_open_to_others_is_found(address: str, level: str):
    settings = make_settings(metrics_port=9464, metrics_address=address)

    [finding] = [each for each in check_deployment(settings) if "/metrics" in each.what]

    assert finding.level == level
    assert address in finding.what


def test_metrics_that_are_off_are_no_finding():
    assert not [each for each in check_deployment(make_settings()) if "metrics" in each.what]
