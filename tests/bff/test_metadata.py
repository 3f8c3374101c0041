"""Metadata: which members of a discovery document are used, and which documents are refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from app.bff.errors import ProviderUnavailable
from app.bff.oidc.keys import ALGORITHMS
from app.bff.oidc.metadata import (
    Metadata,
    advice_without_refresh_token,
    expected_algorithms,
    metadata_from,
)

ISSUER = "https://provider.example"
LEAST = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/jwks",
}
REQUIRED = ["authorization_endpoint", "token_endpoint", "jwks_uri"]
OPTIONAL = [
    "userinfo_endpoint",
    "revocation_endpoint",
    "end_session_endpoint",
    "pushed_authorization_request_endpoint",
]


def metadata(**changed: Any) -> Metadata:
    return metadata_from({**LEAST, **changed}, issuer=ISSUER)


def test_the_required_metadata_alone_is_enough():
    found = metadata()

    assert (found.token_endpoint, found.jwks_uri) == (f"{ISSUER}/token", f"{ISSUER}/jwks")
    assert [getattr(found, name) for name in OPTIONAL] == [None] * len(OPTIONAL)
    assert not found.requires_pushed_authorization_requests
    assert not found.announces_iss
    assert not found.announces_pkce
    assert found.prompts == frozenset()


@pytest.mark.parametrize(
    "issuer",
    [
        pytest.param("https://other.example", id="another"),
        pytest.param(ISSUER + "/", id="with one slash more"),
        pytest.param(ISSUER.upper(), id="in capitals"),
        pytest.param(None, id="null"),
        pytest.param([ISSUER], id="a list"),
    ],
)
def test_the_document_is_refused_when_its_issuer_is(issuer):
    with pytest.raises(ProviderUnavailable, match="another issuer"):
        metadata(issuer=issuer)


def test_a_document_without_issuer_is_refused():
    with pytest.raises(ProviderUnavailable, match="another issuer"):
        metadata_from({}, issuer=ISSUER)


BAD_URLS = [
    pytest.param("", id="empty"),
    pytest.param("/token", id="relative"),
    pytest.param("http://provider.example/token", id="in the clear"),
    pytest.param("ftp://provider.example/token", id="of another scheme"),
    pytest.param("javascript:alert(1)", id="a script"),
    pytest.param("https://", id="without a host"),
    pytest.param("https://[", id="with half a host"),
    pytest.param("https://provider.example:port/", id="with a word as port"),
    pytest.param("https://user:pass@provider.example/", id="with a password"),
    pytest.param(7, id="a number"),
    pytest.param([f"{ISSUER}/token"], id="a list"),
]


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("url", [None, *BAD_URLS])
def test_a_needed_endpoint_is_unusable_when_it_is(name, url):
    with pytest.raises(ProviderUnavailable, match=f"no usable {name}"):
        metadata(**{name: url})


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize("url", BAD_URLS[1:])
def test_an_optional_endpoint_may_be_missing_but_not_be(name, url):
    with pytest.raises(ProviderUnavailable, match=f"no usable {name}"):
        metadata(**{name: url})


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize("nothing", [None, ""])
def test_an_optional_endpoint_that_is_empty_is_missing(name, nothing):
    assert getattr(metadata(**{name: nothing}), name) is None


@pytest.mark.parametrize(
    "url", ["http://localhost:1/token", "http://127.0.0.1:1/token", "http://[::1]:1/token"]
)
def test_an_endpoint_on_loopback_may_use_http(url):
    assert metadata(token_endpoint=url).token_endpoint == url


def test_an_issuer_with_http_may_have_endpoints_with_http():
    issuer = "http://provider.test"
    document = {name: url.replace(ISSUER, issuer) for name, url in LEAST.items()}

    assert metadata_from(document, issuer=issuer).token_endpoint == "http://provider.test/token"


@pytest.mark.parametrize("in_the_clear", [False, True])
def test_fetched_in_the_clear_the_metadata_may_have_endpoints_with_http(in_the_clear: bool):
    """As in containers: BFF_METADATA_URL is http to another machine (BFF_DEBUG), and the issuer https."""
    document = {**LEAST, "token_endpoint": "http://keycloak:8080/token"}
    if in_the_clear:
        found = metadata_from(document, issuer=ISSUER, in_the_clear=True)
        assert found.token_endpoint == "http://keycloak:8080/token"
        assert found.authorization_endpoint == f"{ISSUER}/authorize"
    else:
        with pytest.raises(ProviderUnavailable, match="no usable token_endpoint"):
            metadata_from(document, issuer=ISSUER)


@pytest.mark.parametrize(
    ("announced", "allowed"),
    [
        pytest.param(["RS256"], {"RS256"}, id="one"),
        pytest.param(["RS256", "none", "HS256"], {"RS256"}, id="bad ones as well"),
        pytest.param(["none", "HS256"], set(), id="bad ones only"),
        pytest.param(["RS256", None, 5, ["ES256"]], {"RS256"}, id="garbage as well"),
        pytest.param([], ALGORITHMS, id="none of them"),
        pytest.param(None, ALGORITHMS, id="nothing"),
        pytest.param("RS256", ALGORITHMS, id="no list"),
    ],
)
def test_signatures_may_use_what_both_sides_allow_when_the_provider_announces(announced, allowed):
    assert metadata(id_token_signing_alg_values_supported=announced).signing_algorithms == allowed


@pytest.mark.parametrize(
    ("announced", "configured", "expected"),
    [
        pytest.param({"RS256", "ES256"}, "", {"RS256"}, id="RS256 where it is announced"),
        pytest.param({"ES256", "PS256"}, "", {"ES256", "PS256"}, id="else what is announced"),
        pytest.param(ALGORITHMS, "", {"RS256"}, id="RS256 where nothing is announced"),
        pytest.param(set(), "", set(), id="none where nothing can be used"),
        pytest.param({"RS256", "ES256"}, "ES256", {"ES256"}, id="what is configured"),
        pytest.param({"RS256"}, "EdDSA", {"EdDSA"}, id="what is configured, announced or not"),
    ],
)
def test_tokens_must_be_signed_with(announced, configured, expected):
    assert expected_algorithms(frozenset(announced), configured) == expected


@pytest.mark.parametrize(("announced", "counts"), [(True, True), (False, False), ("true", False), (1, False)])
def test_the_issuer_in_callbacks_is_announced_by_true_and_nothing_else(announced, counts):
    assert metadata(authorization_response_iss_parameter_supported=announced).announces_iss is counts


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_optional_endpoint_is_used_unchanged(name):
    assert getattr(metadata(**{name: f"{ISSUER}/x?y=1"}), name) == f"{ISSUER}/x?y=1"


@pytest.mark.parametrize(
    ("said", "counts"), [(True, True), (False, False), ("true", False), (1, False), (None, False)]
)
def test_pushed_requests_are_required_by_true_and_nothing_else(said, counts):  # RFC 9126 §5
    assert (
        metadata(require_pushed_authorization_requests=said).requires_pushed_authorization_requests is counts
    )


@pytest.mark.parametrize(
    ("methods", "counts"), [(["plain", "S256"], True), (["plain"], False), ([], False), ("S256", False)]
)
def test_pkce_is_announced_by_s256_in_a_list(methods, counts):
    assert metadata(code_challenge_methods_supported=methods).announces_pkce is counts


def test_the_supported_prompts_are_read():
    assert metadata(prompt_values_supported=["none", "create", 7]).prompts == {"none", "create"}


def test_no_other_member_of_the_document_is_used():
    found = dataclasses.asdict(metadata(verify=False, timeout=None, proxy="http://evil.example"))

    assert not {"verify", "timeout", "proxy"} & set(found)
    assert "evil" not in str(found)


REALM = f"{ISSUER}/realms/shop"


@pytest.mark.parametrize(
    ("document", "is_keycloak"),
    [
        ({"token_endpoint": f"{REALM}/protocol/openid-connect/token"}, True),
        ({"authorization_endpoint": f"{ISSUER}/auth/realms/shop/protocol/openid-connect/auth"}, True),
        ({"issuer": REALM}, True),
        ({"issuer": f"{ISSUER}/auth/realms/shop"}, True),
        ({}, False),
        ({"token_endpoint": f"{ISSUER}/openid-connect/token"}, False),
    ],
)
def test_a_keycloak_is_recognised_by_its_paths(document: dict[str, str], is_keycloak: bool):
    issuer = document.get("issuer", ISSUER)

    assert metadata_from({**LEAST, **document}, issuer=issuer).is_keycloak == is_keycloak


@pytest.mark.parametrize(
    ("document", "scope", "advice"),
    [
        ({}, "openid", "add offline_access to BFF_SCOPE"),
        ({}, "openid offline_access", "the grant type refresh_token"),
        ({"token_endpoint": f"{REALM}/protocol/openid-connect/token"}, "openid", "in Keycloak"),
    ],
)
def test_the_advice_on_a_login_without_a_refresh_token(document: dict[str, str], scope: str, advice: str):
    assert advice in advice_without_refresh_token(metadata(**document), scope)
