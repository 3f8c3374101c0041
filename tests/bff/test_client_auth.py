"""Client authentication at the provider: client_secret_basic, client_secret_post and private_key_jwt."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pytest
from joserfc import jwk, jwt
from pydantic import ValidationError

from app.bff.errors import SettingsError
from app.bff.oidc.client_auth import (
    ASSERTION_SECONDS,
    PrivateKeyJwt,
    client_secret_basic,
    client_secret_post,
    key_from,
)
from app.bff.oidc.keys import private_key
from tests.bff.harness import Clock, make_settings

US = SimpleNamespace(client_id="a client:", client_secret="100% s+cret")
ISSUER, TOKEN_ENDPOINT = "https://provider.example", "https://provider.example/token"
KINDS = {"RSA": 2048, "EC": "P-256", "OKP": "Ed25519"}


AuthMethod = Callable[..., tuple[str, Any, Any]]


def jwk_file(kind: str, size: Any, **members: str) -> bytes:
    return json.dumps({**jwk.generate_key(kind, size).as_dict(private=True), **members}).encode()


def an_assertion(method: PrivateKeyJwt) -> str:
    """What is sent with a request, besides what the request says."""
    _, headers, body = method(US, "POST", TOKEN_ENDPOINT, {}, b"grant_type=refresh_token")
    form = parse_qs(body if isinstance(body, str) else body.decode())
    assert form["grant_type"] == ["refresh_token"]
    assert form["client_assertion_type"] == ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"]
    assert "Authorization" not in headers
    return form["client_assertion"][0]


def test_id_and_secret_are_encoded_before_they_are_joined():
    _, headers, body = client_secret_basic(US, "POST", TOKEN_ENDPOINT, {}, b"")

    pair = base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode()
    assert (pair, body) == ("a+client%3A:100%25+s%2Bcret", b"")


def test_an_assertion_is_for_the_issuer_alone_and_lives_for_a_minute(clock: Clock):
    key = jwk.generate_key("EC", "P-256")
    assertion = an_assertion(PrivateKeyJwt(key, audience=ISSUER, clock=clock))

    claims = jwt.decode(assertion, key, algorithms=["ES256"]).claims
    assert claims.pop("jti")
    now = int(clock())
    expected = {"iss": US.client_id, "sub": US.client_id, "aud": ISSUER}
    assert claims == {**expected, "iat": now, "exp": now + ASSERTION_SECONDS}


def test_no_two_assertions_are_the_same(clock: Clock):
    method = PrivateKeyJwt(jwk.generate_key("EC", "P-256"), audience=ISSUER, clock=clock)

    assert an_assertion(method) != an_assertion(method)


def test_a_parameter_that_is_there_twice_stays_there_twice():  # RFC 8707 §2, RFC 9126 §2.1
    method = PrivateKeyJwt(jwk.generate_key("EC", "P-256"), audience=ISSUER)
    pushed = b"resource=https%3A%2F%2Fa.example%2F&resource=urn%3Ax&scope=openid+a%2Bb&state=~._-"

    _, _, body = method(US, "POST", TOKEN_ENDPOINT, {}, pushed)

    form = parse_qs(body if isinstance(body, str) else body.decode())
    assert form["resource"] == ["https://a.example/", "urn:x"]
    assert (form["scope"], form["state"]) == (["openid a+b"], ["~._-"])


@pytest.mark.parametrize(("kind", "algorithm"), [("RSA", "PS256"), ("EC", "ES256"), ("OKP", "Ed25519")])
def test_the_type_of_key_decides_the_algorithm(kind: str, algorithm: str):
    key = jwk.generate_key(kind, KINDS[kind])
    assertion = an_assertion(PrivateKeyJwt(key, audience=ISSUER))

    header = jwt.decode(assertion, key, algorithms=[algorithm]).header
    assert (header["alg"], header["kid"]) == (algorithm, key.thumbprint())


def test_the_jwk_that_a_provider_knows_by_its_kid_keeps_kid_and_alg():
    key = jwk.generate_key("RSA", 2048, parameters={"kid": "ours, 2026", "alg": "RS256"})
    assertion = an_assertion(
        PrivateKeyJwt(private_key(json.dumps(key.as_dict(private=True)).encode()), audience=ISSUER)
    )

    assert jwt.decode(assertion, key, algorithms=["RS256"]).header == {"alg": "RS256", "kid": "ours, 2026"}


@pytest.mark.parametrize(
    "method", [client_secret_post, PrivateKeyJwt(jwk.generate_key("EC", "P-256"), audience=ISSUER)]
)
@pytest.mark.parametrize("name", ["client_id", "client_secret", "client_assertion", "client_assertion_type"])
def test_no_method_sends_a_parameter_that_the_request_has_already(method: AuthMethod, name: str):
    _, _, body = method(US, "POST", TOKEN_ENDPOINT, {}, f"scope=openid&{name}=theirs".encode())

    assert [values for values in parse_qs(body).values() if len(values) > 1] == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["PEM", "JWK"])
def test_a_private_key_is_read_from_pem_and_from_jwk(tmp_path: Path, kind: str, form: str):
    key = jwk.generate_key(kind, KINDS[kind])
    file = tmp_path / "client.key"
    file.write_bytes(
        key.as_pem(private=True) if form == "PEM" else json.dumps(key.as_dict(private=True)).encode()
    )

    assert key_from(file).thumbprint() == key.thumbprint()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"-----BEGIN PRIVATE KEY-----\nrecognisable-secret\n", id="cut short"),
        pytest.param(b'{"kty": "oct", "k": "cmVjb2duaXNhYmxlLXNlY3JldA"}', id="a shared secret"),
        pytest.param(jwk.generate_key("EC", "P-256").as_pem(private=False), id="the public half"),
        pytest.param(jwk_file("EC", "P-256", alg="RS256"), id="for another algorithm"),
        pytest.param(jwk_file("RSA", 2048, alg="none"), id="for no algorithm"),
        pytest.param(jwk_file("RSA", 2048, use="enc"), id="for encryption"),
        pytest.param(jwk_file("OKP", "X25519"), id="for key agreement"),
    ],
)
def test_a_file_stops_the_start_and_is_not_shown_when_it_is(tmp_path: Path, content: bytes):
    file = tmp_path / "client.pem"
    file.write_bytes(content)

    with pytest.raises(SettingsError, match="BFF_CLIENT_KEY_FILE: no private key") as refusal:
        key_from(file)
    assert "recognisable" not in str(refusal.value)


def test_with_a_private_key_no_secret_is_missing_but_the_file_is():
    with pytest.raises(ValidationError) as refusal:
        make_settings(client_auth="private_key_jwt", client_secret="")

    assert [problem["loc"] for problem in refusal.value.errors()] == [("client_key_file",)]
