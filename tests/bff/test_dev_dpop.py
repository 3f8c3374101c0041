"""Tokens of the development provider that are bound to a key (DPoP, RFC 9449)."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2 as httpx
import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from app.bff.dev.api import DemoApi
from app.bff.dev.dpop import ALGORITHMS, ath, check_proof
from app.bff.dev.provider import Provider
from tests.bff.harness import Clock
from tests.bff.provider_harness import BASIC, Browser, authorize_params, browser_at, callback_params

KEY, OTHER_KEY = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
PUBLIC = KEY.as_dict(private=False)


@pytest.fixture
async def browser(provider: Provider) -> AsyncIterator[Browser]:
    async with browser_at(provider) as browser:
        yield browser


class Holder:
    """A client that holds a key, and proves it."""

    def __init__(self, browser: Browser, clock: Clock, key: Key = KEY, alg: str = "ES256") -> None:
        self.browser = browser
        self.clock = clock
        self.key = key
        self.alg = alg

    @property
    def jkt(self) -> str:
        return self.key.thumbprint()

    def proof(self, method: str, url: str, header: dict[str, Any] | None = None, **changed: Any) -> str:
        claims = {"jti": str(uuid4()), "htm": method, "htu": url, "iat": int(self.clock.now), **changed}
        jwk = self.key.as_dict(private=False)
        full = {"typ": "dpop+jwt", "alg": self.alg, "jwk": jwk, **(header or {})}
        claims = {name: value for name, value in claims.items() if value is not None}
        registry = jws.JWSRegistry(algorithms=[*ALGORITHMS, "HS256"])
        return jwt.encode(full, claims, self.key, registry=registry)

    def token_proof(self, **changed: Any) -> str:
        return self.proof("POST", str(self.browser.http.base_url.join("/token")), **changed)

    async def tokens(self, **params: str) -> dict[str, Any]:
        back = await self.browser.sign_in(**params)
        tokens: dict[str, Any] = (await self.browser.redeem(back["code"], proof=self.token_proof())).json()
        return tokens

    async def own_token(self, proof: str) -> httpx.Response:
        return await self.browser.token("client_credentials", proof=proof)

    async def call(
        self, url: str, access_token: str, *, method: str = "GET", scheme: str = "DPoP", **changed: Any
    ) -> httpx.Response:
        claims = {"ath": ath(access_token), **changed}
        headers = {"Authorization": f"{scheme} {access_token}", "DPoP": self.proof(method, url, **claims)}
        return await self.browser.http.request(method, url, headers=headers)


@pytest.fixture
def holder(browser: Browser, clock: Clock) -> Holder:
    return Holder(browser, clock)


def error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


# The proof of RFC 9449 §7.1, from the RFC's text
RFC_PROOF = (
    "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpD"
    "a0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6"
    "IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGx"
    "lLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk"
    "1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJ"
    "pLjA"
)


def test_the_proof_of_the_rfc_is_of_the_key_of_the_rfc():
    proof = check_proof(
        RFC_PROOF,
        method="GET",
        url="https://resource.example.org/protectedresource",
        now=1562262618,
        nonce=None,
        access_token="Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
    )

    assert proof.jkt == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


# The token endpoint


async def test_the_metadata_names_the_algorithms_of_a_proof(browser: Browser):
    metadata = (await browser.http.get("/.well-known/openid-configuration")).json()

    assert metadata["dpop_signing_alg_values_supported"] == ALGORITHMS


async def test_a_proof_binds_the_access_token_to_its_key(provider: Provider, holder: Holder):
    tokens = await holder.tokens()

    record = provider.access_token(tokens["access_token"])
    assert record is not None
    assert (tokens["token_type"], record.jkt) == ("DPoP", KEY.thumbprint())


async def test_without_a_proof_there_is_a_bearer_token(provider: Provider, browser: Browser):
    tokens = await browser.tokens()

    record = provider.access_token(tokens["access_token"])
    assert record is not None
    assert (tokens["token_type"], record.jkt) == ("Bearer", None)


async def test_every_grant_takes_a_proof(provider: Provider, browser: Browser, holder: Holder):
    tokens = await browser.tokens()
    exchange = {
        "subject_token": tokens["access_token"],
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
    }
    answers = [
        await browser.refresh(tokens["refresh_token"], proof=holder.token_proof()),
        await holder.own_token(holder.token_proof()),
        await browser.token(
            "urn:ietf:params:oauth:grant-type:token-exchange", proof=holder.token_proof(), **exchange
        ),
    ]

    assert [answer.json()["token_type"] for answer in answers] == ["DPoP"] * 3


async def test_introspection_tells_the_key(browser: Browser, holder: Holder):
    introspection = await browser.introspect((await holder.tokens())["access_token"])

    assert (introspection["token_type"], introspection["cnf"]) == ("DPoP", {"jkt": holder.jkt})


@pytest.mark.parametrize(
    ("key", "alg"),
    [
        (ECKey.generate_key("P-384"), "ES384"),
        (RSAKey.generate_key(2048), "PS256"),
        (OKPKey.generate_key("Ed25519"), "Ed25519"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_proof_may_be_signed_with(key: Key, alg: str, browser: Browser, clock: Clock):
    holder = Holder(browser, clock, key, alg)

    assert (await holder.own_token(holder.token_proof())).status_code == 200


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"htm": "GET"}, id="another method"),
        pytest.param({"htu": "https://evil.example/token"}, id="another URL"),
        pytest.param({"htu": None}, id="no URL"),
        pytest.param({"iat": None}, id="no time"),
        pytest.param({"iat": "now"}, id="a time that is no number"),
        pytest.param({"jti": None}, id="no id"),
        pytest.param({"jti": ""}, id="an empty id"),
        pytest.param({"header": {"typ": "JWT"}}, id="another type"),
        pytest.param({"header": {"jwk": OTHER_KEY.as_dict(private=False)}}, id="a key that has not signed"),
        pytest.param({"header": {"jwk": KEY.as_dict(private=True)}}, id="the private key"),
        pytest.param(
            {"header": {"jwk": {"kty": "EC", "crv": "P-0", "x": "AA", "y": "AA"}}}, id="no real key"
        ),
    ],
)
async def test_a_proof_is_refused_with(changed: dict[str, Any], holder: Holder):
    answer = await holder.own_token(holder.token_proof(**changed))

    assert error(answer) == (400, "invalid_dpop_proof")


async def test_a_proof_says_what_is_wrong_with_it(holder: Holder):
    answer = await holder.own_token(holder.token_proof(htm="GET", iat=0))

    assert answer.json()["error_description"] == "Wrong in the proof: htm, iat."


@pytest.mark.parametrize("addition", ["?x=1", "#top"])
async def test_the_url_of_a_proof_has_no_query_and_no_fragment(
    addition: str, provider: Provider, holder: Holder
):
    proof = holder.token_proof(htu=f"{provider.issuer}/token{addition}")

    assert error(await holder.own_token(proof)) == (400, "invalid_dpop_proof")


@pytest.mark.parametrize(("seconds", "status"), [(-61, 400), (-60, 200), (60, 200), (61, 400)])
async def test_a_proof_is_good_for_a_minute(seconds: int, status: int, holder: Holder):
    holder.clock.now = int(holder.clock.now)
    proof = holder.token_proof(iat=holder.clock.now + seconds)

    assert (await holder.own_token(proof)).status_code == status


async def test_a_proof_is_good_once(holder: Holder):
    proof = holder.token_proof()
    answers = [await holder.own_token(proof) for _ in range(2)]

    assert answers[0].status_code == 200
    assert error(answers[1]) == (400, "invalid_dpop_proof")


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("jwk", ["a text", 5, [], None])
async def test_a_proof_has_a_key_and_not(jwk: object, holder: Holder):
    proof = f"{segment({'typ': 'dpop+jwt', 'alg': 'ES256', 'jwk': jwk})}.{segment({})}.AA"

    assert error(await holder.own_token(proof)) == (400, "invalid_dpop_proof")


@pytest.mark.parametrize("payload", ["[]", "not JSON"])
async def test_a_proof_makes_claims_and_not(payload: str, holder: Holder):
    proof = jws.serialize_compact({"typ": "dpop+jwt", "alg": "ES256", "jwk": PUBLIC}, payload, KEY)

    assert error(await holder.own_token(proof)) == (400, "invalid_dpop_proof")


@pytest.mark.parametrize("proof", ["x", "a.b.c", "e30.e30.e30"])
async def test_anything_else_is_no_proof(proof: str, holder: Holder):
    assert error(await holder.own_token(proof)) == (400, "invalid_dpop_proof")


async def test_a_shared_secret_proves_nothing(browser: Browser, clock: Clock):
    secret = OctKey.generate_key(256)
    holder = Holder(browser, clock, secret, "HS256")
    proof = holder.token_proof(header={"jwk": secret.as_dict(private=True)})

    assert error(await holder.own_token(proof)) == (400, "invalid_dpop_proof")


async def test_two_proofs_are_one_too_many(holder: Holder):
    headers = [("Authorization", BASIC)] + [("DPoP", holder.token_proof()) for _ in range(2)]
    data = {"grant_type": "client_credentials"}

    assert error(await holder.browser.http.post("/token", data=data, headers=headers)) == (
        400,
        "invalid_dpop_proof",
    )


async def test_a_bad_proof_uses_nothing_up(provider: Provider, holder: Holder):
    back, tokens = await holder.browser.sign_in(), await holder.browser.tokens()
    await holder.browser.redeem(back["code"], proof=holder.token_proof(htm="GET"))
    await holder.browser.refresh(tokens["refresh_token"], proof=holder.token_proof(htm="GET"))

    assert (await holder.browser.redeem(back["code"])).status_code == 200
    assert provider.is_active(tokens["refresh_token"])


# A code that is bound


async def test_a_bound_code_is_redeemed_with_the_key(holder: Holder):
    assert (await holder.tokens(dpop_jkt=holder.jkt))["token_type"] == "DPoP"


async def test_a_bound_code_is_redeemed_with_nothing_else(holder: Holder, clock: Clock):
    back = await holder.browser.sign_in(dpop_jkt=holder.jkt)
    thief = Holder(holder.browser, clock, OTHER_KEY)

    without = await holder.browser.redeem(back["code"])
    another = await holder.browser.redeem(back["code"], proof=thief.token_proof())
    assert (error(without), error(another)) == ((400, "invalid_grant"),) * 2
    assert (await holder.browser.redeem(back["code"], proof=holder.token_proof())).status_code == 200


async def pushed_code(browser: Browser, proof: str = "", **changed: str) -> httpx.Response:
    headers = {"Authorization": BASIC} | ({"DPoP": proof} if proof else {})
    answer = await browser.http.post("/par", data=authorize_params(changed), headers=headers)
    if answer.status_code != 201:
        return answer
    query = {"client_id": "app", "request_uri": answer.json()["request_uri"]}
    return await browser.http.post("/authorize", params=query, data={"sub": "alice"})


async def test_a_pushed_request_binds_the_code(holder: Holder):
    back = callback_params(await pushed_code(holder.browser, dpop_jkt=holder.jkt))

    assert error(await holder.browser.redeem(back["code"])) == (400, "invalid_grant")


async def test_a_proof_with_the_pushed_request_binds_the_code(provider: Provider, holder: Holder):
    proof = holder.proof("POST", f"{provider.issuer}/par")
    back = callback_params(await pushed_code(holder.browser, proof))

    assert error(await holder.browser.redeem(back["code"])) == (400, "invalid_grant")
    assert (await holder.browser.redeem(back["code"], proof=holder.token_proof())).status_code == 200


async def test_a_proof_with_the_pushed_request_is_of_the_key_that_it_names(
    provider: Provider, holder: Holder
):
    proof = holder.proof("POST", f"{provider.issuer}/par")
    answer = await pushed_code(holder.browser, proof, dpop_jkt=OTHER_KEY.thumbprint())

    assert error(answer) == (400, "invalid_dpop_proof")


# The provider's nonce


@pytest.mark.parametrize("nonce", [None, "an old one"])
async def test_a_proof_without_the_nonce_is_refused_with_it(
    nonce: str | None, provider: Provider, holder: Holder
):
    provider.dpop_nonce = "nonce-1"
    answer = await holder.own_token(holder.token_proof(nonce=nonce))

    assert error(answer) == (400, "use_dpop_nonce")
    assert answer.headers["DPoP-Nonce"] == "nonce-1"


async def test_a_proof_with_the_nonce_is_accepted_and_answered_with_it(provider: Provider, holder: Holder):
    provider.dpop_nonce = "nonce-1"
    answer = await holder.own_token(holder.token_proof(nonce="nonce-1"))

    assert (answer.status_code, answer.headers["DPoP-Nonce"]) == (200, "nonce-1")


async def test_a_code_can_be_redeemed_after_the_nonce_is_known(provider: Provider, holder: Holder):
    provider.dpop_nonce = "nonce-1"
    back = await holder.browser.sign_in()
    await holder.browser.redeem(back["code"], proof=holder.token_proof())

    proof = holder.token_proof(nonce="nonce-1")
    assert (await holder.browser.redeem(back["code"], proof=proof)).status_code == 200


async def test_without_the_lever_there_is_no_nonce(holder: Holder):
    assert "DPoP-Nonce" not in (await holder.own_token(holder.token_proof())).headers


async def test_a_pushed_request_needs_the_nonce_too(provider: Provider, holder: Holder):
    provider.dpop_nonce = "nonce-1"
    headers = {"Authorization": BASIC, "DPoP": holder.proof("POST", f"{provider.issuer}/par")}
    answer = await holder.browser.http.post("/par", data=authorize_params({}), headers=headers)

    assert error(answer) == (400, "use_dpop_nonce")
    assert answer.headers["DPoP-Nonce"] == "nonce-1"


# The API


async def echo(holder: Holder, api: DemoApi, access_token: str, **options: Any) -> httpx.Response:
    return await holder.call(f"{api.base_url}echo", access_token, **options)


async def test_a_bound_token_opens_the_api_with_a_proof(api: DemoApi, holder: Holder):
    answer = await echo(holder, api, (await holder.tokens())["access_token"])

    assert (answer.status_code, answer.json()["user"]) == (200, "alice")


async def test_the_url_of_a_proof_leaves_the_query_out(api: DemoApi, holder: Holder):
    token = (await holder.tokens())["access_token"]
    url = f"{api.base_url}echo"

    assert (await holder.call(f"{url}?x=1", token, htu=url)).status_code == 200
    assert (await holder.call(f"{url}?x=1", token)).status_code == 401


async def test_the_echo_shows_neither_token_nor_proof(api: DemoApi, holder: Holder):
    token = (await holder.tokens())["access_token"]
    answer = await echo(holder, api, token)

    shown = {name.lower(): value for name, value in answer.json()["headers"]}
    assert (shown["authorization"], shown["dpop"]) == ("DPoP …", "…")
    assert "at-" not in answer.text
    assert "eyJ" not in answer.text
    assert api.last_request is not None
    assert ("Authorization", f"DPoP {token}") in api.last_request.headers


async def test_a_bound_token_is_no_bearer_token(api: DemoApi, holder: Holder):
    answer = await echo(holder, api, (await holder.tokens())["access_token"], scheme="Bearer")

    assert error(answer) == (401, "invalid_token")
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


async def test_a_bearer_token_is_no_bound_token(api: DemoApi, holder: Holder):
    answer = await echo(holder, api, (await holder.browser.tokens())["access_token"])

    assert error(answer) == (401, "invalid_token")
    assert answer.headers["WWW-Authenticate"] == 'DPoP error="invalid_token"'


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"ath": ath("at-another")}, id="another token"),
        pytest.param({"ath": None}, id="no token"),
        pytest.param({"htm": "POST"}, id="another method"),
        pytest.param({"iat": 0}, id="another time"),
    ],
)
async def test_the_api_refuses_a_proof_of(changed: dict[str, Any], api: DemoApi, holder: Holder):
    answer = await echo(holder, api, (await holder.tokens())["access_token"], **changed)

    assert error(answer) == (401, "invalid_dpop_proof")
    assert answer.headers["WWW-Authenticate"] == 'DPoP error="invalid_dpop_proof"'


async def test_the_api_refuses_another_key(api: DemoApi, holder: Holder, clock: Clock):
    token = (await holder.tokens())["access_token"]
    thief = Holder(holder.browser, clock, OTHER_KEY)

    assert error(await echo(thief, api, token)) == (401, "invalid_dpop_proof")


async def test_the_api_refuses_a_bound_token_without_a_proof(api: DemoApi, holder: Holder):
    headers = {"Authorization": f"DPoP {(await holder.tokens())['access_token']}"}
    answer = await holder.browser.http.get(f"{api.base_url}echo", headers=headers)

    assert error(answer) == (401, "invalid_dpop_proof")


async def test_the_api_takes_a_proof_once(api: DemoApi, holder: Holder):
    token = (await holder.tokens())["access_token"]
    answers = [await echo(holder, api, token, jti="the same") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 401]


async def test_the_api_has_a_nonce_of_its_own(api: DemoApi, holder: Holder):
    api.dpop_nonce = "nonce-2"
    token = (await holder.tokens())["access_token"]
    without = await echo(holder, api, token, nonce="nonce-1")
    with_it = await echo(holder, api, token, nonce="nonce-2")

    assert error(without) == (401, "use_dpop_nonce")
    assert without.headers["WWW-Authenticate"] == 'DPoP error="use_dpop_nonce"'
    assert without.headers["DPoP-Nonce"] == with_it.headers["DPoP-Nonce"] == "nonce-2"
    assert with_it.status_code == 200


async def test_userinfo_wants_the_proof_too(provider: Provider, holder: Holder):
    token, url = (await holder.tokens())["access_token"], f"{provider.issuer}/userinfo"

    assert (await holder.call(url, token)).json()["sub"] == "alice"
    assert error(await holder.call(url, token, scheme="Bearer")) == (401, "invalid_token")
    assert error(await holder.call(url, token, ath=None)) == (401, "invalid_dpop_proof")
