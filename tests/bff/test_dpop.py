"""DPoP (RFC 9449): the content of a proof, the key that it shows, and demands for a nonce."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from joserfc import jwk, jws
from joserfc.errors import BadSignatureError
from multidict import CIMultiDict

from app.bff.oidc.dpop import (
    Nonces,
    authorization,
    is_api_nonce_challenge,
    is_token_endpoint_nonce_challenge,
    new_key,
    proof,
    thumbprint,
    without_query,
)

NOW = 1_800_000_000.9
URL = "https://provider.example/token"
ACCESS_TOKEN = "at-recognisable"
PUBLIC_MEMBERS = {"kty", "crv", "x", "y"}


def header_of(proven: str) -> dict[str, Any]:
    encoded = proven.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))


def claims_of(proven: str) -> dict[str, Any]:
    """What a proof says, its signature checked as a server does it: with the key in the header (§4.3)."""
    key = jwk.import_key(header_of(proven)["jwk"])
    return json.loads(jws.deserialize_compact(proven, key, algorithms=["ES256"]).payload)


@pytest.fixture
def key() -> dict[str, str]:
    return new_key()


def a_proof(key: dict[str, str], method: str = "POST", url: str = URL, **changed: Any) -> str:
    return proof(key, method, url, **{"now": NOW, "nonce": None, **changed})


# The key.


def test_a_key_is_a_private_one_of_p_256_and_all_text(key):
    assert set(key) == PUBLIC_MEMBERS | {"d"}
    assert (key["kty"], key["crv"]) == ("EC", "P-256")
    assert jwk.import_key(key).is_private


def test_no_two_keys_are_the_same():
    assert len({new_key()["d"] for _ in range(10)}) == 10


def test_a_key_survives_being_sealed_as_json(key):
    opened = json.loads(json.dumps(key))

    assert opened == key
    assert header_of(a_proof(opened))["jwk"]["x"] == key["x"]


def test_the_thumbprint_is_the_one_in_rfc_9449_section_6_1():
    key = {
        "kty": "EC",
        "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
        "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
        "crv": "P-256",
    }

    assert thumbprint(key) == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


def test_the_thumbprint_is_that_of_the_public_half(key):
    assert thumbprint(key) == thumbprint({name: key[name] for name in PUBLIC_MEMBERS})


# RFC 9449 §4.2: what a proof says.


def test_the_header_says_that_it_is_a_proof_and_shows_the_public_key_alone(key):
    public = {name: key[name] for name in PUBLIC_MEMBERS}

    assert header_of(a_proof(key)) == {"typ": "dpop+jwt", "alg": "ES256", "jwk": public}


def test_a_key_id_is_not_shown(key):
    assert set(header_of(a_proof({**key, "kid": "k-1"}))["jwk"]) == PUBLIC_MEMBERS


def test_a_proof_without_token_and_nonce_has_the_required_claims_only(key):
    claims = claims_of(a_proof(key))

    assert claims.pop("jti")
    assert claims == {"htm": "POST", "htu": URL, "iat": 1_800_000_000}


def test_it_is_signed_with_the_key_and_with_no_other(key):
    with pytest.raises(BadSignatureError):
        jws.deserialize_compact(a_proof(key), jwk.import_key(new_key()), algorithms=["ES256"])


def test_every_proof_has_an_id_of_its_own_of_at_least_96_bits(key):
    ids = {claims_of(a_proof(key))["jti"] for _ in range(50)}

    assert len(ids) == 50
    assert min(map(len, ids)) >= 16  # 96 bits in base64


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PROPFIND"])
def test_htm_is_the_method_as_it_is_sent(key, method):
    assert claims_of(a_proof(key, method))["htm"] == method


@pytest.mark.parametrize(
    ("url", "htu"),
    [
        pytest.param("https://a.example/x", "https://a.example/x", id="as it is"),
        pytest.param("https://a.example/x?page=2&q=%23", "https://a.example/x", id="without query"),
        pytest.param("https://a.example/x?", "https://a.example/x", id="without an empty query"),
        pytest.param("https://a.example/x#top", "https://a.example/x", id="without fragment"),
        pytest.param("https://a.example/x?page=2#top?", "https://a.example/x", id="without either"),
        pytest.param("https://a.example/", "https://a.example/", id="with the slash of the root"),
        pytest.param("https://a.example/x/?a", "https://a.example/x/", id="with a slash at the end"),
        pytest.param("https://a.example//x?a", "https://a.example//x", id="with an empty segment"),
        pytest.param("https://a.example/%2Fx%3F;v=1", "https://a.example/%2Fx%3F;v=1", id="escaped as sent"),
        pytest.param("http://[::1]:8080/x?a", "http://[::1]:8080/x", id="with an address and a port"),
    ],
)
def test_htu_is_the_url(key, url, htu):
    assert without_query(url) == htu
    assert claims_of(a_proof(key, url=url))["htu"] == htu


@pytest.mark.parametrize(("now", "iat"), [(NOW, 1_800_000_000), (1_800_000_000, 1_800_000_000), (0.0, 0)])
def test_iat_is_the_time_in_whole_seconds_and_not_in_the_future(key, now, iat):
    said = claims_of(a_proof(key, now=now))["iat"]

    assert (said, type(said)) == (iat, int)


def test_ath_is_the_one_in_rfc_9449_section_7_1(key):
    token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"

    assert claims_of(a_proof(key, access_token=token))["ath"] == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"


def test_ath_is_base64url_without_padding(key):
    hashes = [claims_of(a_proof(key, access_token=f"at-{number}"))["ath"] for number in range(30)]

    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", ath) for ath in hashes)


def test_the_access_token_itself_is_not_in_the_proof(key):
    proven = a_proof(key, access_token=ACCESS_TOKEN)

    assert ACCESS_TOKEN not in json.dumps([header_of(proven), claims_of(proven)])


def test_the_private_half_is_nowhere_in_the_proof(key):
    proven = a_proof(key, access_token=ACCESS_TOKEN, nonce="n-1")

    assert key["d"] not in json.dumps([header_of(proven), claims_of(proven)])


@pytest.mark.parametrize("nonce", ["n-1", 'with "quotes"', "z" * 10_000])
def test_a_nonce_is_repeated_unchanged(key, nonce):
    assert claims_of(a_proof(key, nonce=nonce))["nonce"] == nonce


# RFC 9449 §7.1: how an access token is presented.


def test_without_a_key_an_access_token_is_a_bearer_token():
    headers = authorization(ACCESS_TOKEN, None, "GET", URL, now=NOW, nonce="n-1")

    assert headers == {"Authorization": f"Bearer {ACCESS_TOKEN}"}


def test_with_a_key_it_comes_with_a_proof_for_this_token_and_this_request(key):
    headers = authorization(ACCESS_TOKEN, key, "PUT", URL + "?x=1", now=NOW, nonce="n-1")
    claims = claims_of(headers.pop("DPoP"))

    assert headers == {"Authorization": f"DPoP {ACCESS_TOKEN}"}
    assert (claims["htm"], claims["htu"], claims["nonce"]) == ("PUT", URL, "n-1")
    assert claims["ath"] == claims_of(a_proof(key, access_token=ACCESS_TOKEN))["ath"]


# RFC 9449 §8 and §9: who wants a nonce.


@pytest.mark.parametrize(
    ("status", "error", "wants"),
    [
        pytest.param(400, "use_dpop_nonce", True, id="§8: 400"),
        pytest.param(401, "use_dpop_nonce", True, id="401, as some do"),
        pytest.param(200, "use_dpop_nonce", False, id="200"),
        pytest.param(500, "use_dpop_nonce", False, id="500"),
        pytest.param(400, "invalid_dpop_proof", False, id="a proof that is wrong"),
        pytest.param(400, "USE_DPOP_NONCE", False, id="in capitals"),
        pytest.param(400, None, False, id="no error"),
        pytest.param(400, ["use_dpop_nonce"], False, id="a list"),
        pytest.param(400, {"use_dpop_nonce": 1}, False, id="an object"),
    ],
)
def test_a_token_endpoint_demands_a_nonce(status, error, wants):
    assert is_token_endpoint_nonce_challenge(status, error) is wants


@pytest.mark.parametrize(
    ("status", "challenge", "wants"),
    [
        pytest.param(401, 'DPoP error="use_dpop_nonce"', True, id="§9: 401"),
        pytest.param(
            401, 'DPoP realm="x", error="use_dpop_nonce", error_description="y"', True, id="in between"
        ),
        pytest.param(401, 'Bearer, DPoP error="use_dpop_nonce"', True, id="after another challenge"),
        pytest.param(401, 'DPoP error="invalid_token"', False, id="a token that is over"),
        pytest.param(401, 'DPoP error_description="use_dpop_nonce"', False, id="a description"),
        pytest.param(401, 'Bearer error="invalid_token"', False, id="a bearer token that is over"),
        pytest.param(401, "DPoP", False, id="no error"),
        pytest.param(401, "", False, id="nothing"),
        pytest.param(400, 'DPoP error="use_dpop_nonce"', False, id="400"),
        pytest.param(200, 'DPoP error="use_dpop_nonce"', False, id="200"),
    ],
)
def test_an_api_demands_a_nonce(status, challenge, wants):
    assert is_api_nonce_challenge(status, {"WWW-Authenticate": challenge} if challenge else {}) is wants


@pytest.mark.parametrize(
    "challenge",
    ["DPoP error=use_dpop_nonce", 'DPoP error = "use_dpop_nonce"', 'DPoP realm="", error="use_dpop_nonce"'],
)
def test_a_challenge_may_be_written_in_any_way_of_rfc_9110_section_11_2(challenge):
    assert is_api_nonce_challenge(401, {"WWW-Authenticate": challenge})


def test_each_challenge_may_stand_in_a_line_of_its_own():  # RFC 9110 §11.6.1
    lines = [("WWW-Authenticate", "Bearer"), ("WWW-Authenticate", 'DPoP error="use_dpop_nonce"')]

    assert is_api_nonce_challenge(401, CIMultiDict(lines))


# RFC 9449 §8.2: the newest nonce, of each server its own.


@pytest.fixture
def nonces() -> Nonces:
    nonces = Nonces()
    nonces.note(URL, {"DPoP-Nonce": "n-1"})
    return nonces


def test_there_is_no_nonce_before_the_first_response():
    assert Nonces().of(URL) is None


def test_the_newest_nonce_is_used(nonces: Nonces):
    nonces.note(URL, {"DPoP-Nonce": "n-2"})

    assert nonces.of(URL) == "n-2"


@pytest.mark.parametrize("headers", [{}, {"DPoP-Nonce": ""}], ids=["none", "an empty one"])
def test_a_response_without_a_nonce_changes_nothing(nonces: Nonces, headers):
    nonces.note(URL, headers)

    assert nonces.of(URL) == "n-1"


@pytest.mark.parametrize("path", ["/par", "/token?x=1", "/", "", "/token#x"])
def test_a_nonce_is_used_for_all_urls_of_an_origin(nonces: Nonces, path):
    assert nonces.of("https://provider.example" + path) == "n-1"


@pytest.mark.parametrize(
    "url",
    ["http://provider.example/token", "https://provider.example:8443/token", "https://api.example/token"],
    ids=["scheme", "port", "host"],
)
def test_a_nonce_is_not_used_for_an_origin_with_another(nonces: Nonces, url):
    assert nonces.of(url) is None
    nonces.note(url, {"DPoP-Nonce": "n-2"})
    assert (nonces.of(url), nonces.of(URL)) == ("n-2", "n-1")


def test_two_caches_of_nonces_are_independent(nonces: Nonces):
    assert Nonces().of(URL) is None
