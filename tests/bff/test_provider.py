"""Provider: how often metadata and keys are fetched, which tokens verify, and what is served stale."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable

import pytest

from app.bff.backoff import KEYS_BURST
from app.bff.dev.grants import Grant
from app.bff.dev.provider import Client, Failure, Provider
from app.bff.errors import ProviderUnavailable, UntrustedToken, UnusableToken
from app.bff.oidc.http import MAX_BODY_BYTES, may_follow, tls
from app.bff.oidc.metadata import Provider as OpenIdProvider
from app.bff.oidc.metadata import Source, provider_http
from tests.bff.harness import CLIENT_ID, CLIENT_SECRET, Clock

HOUR = 3600
COOLDOWN = 30
TIMEOUT = 0.2
TLS = tls()


@pytest.fixture
async def known(provider: Provider, clock: Clock) -> AsyncIterator[OpenIdProvider]:
    """The provider as the application knows it."""
    provider.clients[CLIENT_ID] = Client(CLIENT_ID, CLIENT_SECRET, ())
    async with provider_http(5, TLS) as http:
        yield OpenIdProvider(
            provider.issuer, http, timeout_seconds=5, keys_cooldown_seconds=COOLDOWN, clock=clock
        )


@pytest.fixture
async def impatient(provider: Provider, clock: Clock) -> AsyncIterator[OpenIdProvider]:
    """The same for an application that waits for an answer no longer than TIMEOUT."""
    async with provider_http(TIMEOUT, TLS) as http:
        yield OpenIdProvider(
            provider.issuer, http, timeout_seconds=TIMEOUT, keys_cooldown_seconds=COOLDOWN, clock=clock
        )


def a_signed_token(provider: Provider) -> str:
    grant = Grant(CLIENT_ID, sub="alice", scope="openid", sid="sid-1")
    return provider.issue_id_token(grant, "at-1", nonce=None)


# Metadata


async def test_the_metadata_has_the_endpoints(known: OpenIdProvider, provider: Provider):
    metadata = await known.metadata()

    assert metadata.issuer == provider.issuer
    assert metadata.authorization_endpoint == f"{provider.issuer}/authorize"
    assert metadata.token_endpoint == f"{provider.issuer}/token"
    assert metadata.jwks_uri == f"{provider.issuer}/jwks"
    assert metadata.userinfo_endpoint == f"{provider.issuer}/userinfo"
    assert metadata.revocation_endpoint == f"{provider.issuer}/revoke"
    assert metadata.end_session_endpoint == f"{provider.issuer}/logout"


async def test_nothing_is_fetched_before_it_is_needed(known: OpenIdProvider, provider: Provider):
    assert provider.counts == {}


async def test_a_hundred_callers_at_once_cause_one_fetch(known: OpenIdProvider, provider: Provider):
    answers = await asyncio.gather(*(known.metadata() for _ in range(100)))

    assert len(set(map(id, answers))) == 1
    assert provider.counts["metadata"] == 1


async def test_metadata_is_cached_for_an_hour_and_then_fetched_again(
    known: OpenIdProvider, provider: Provider, clock: Clock
):
    await known.metadata()
    clock.advance(HOUR - 1)
    await known.metadata()
    assert provider.counts["metadata"] == 1

    clock.advance(1)
    provider.overrides["metadata"] = {"token_endpoint": f"{provider.issuer}/moved"}
    assert (await known.metadata()).token_endpoint == f"{provider.issuer}/moved"


async def test_stale_metadata_is_served_while_the_provider_is_down(
    known: OpenIdProvider, provider: Provider, clock: Clock
):
    before = await known.metadata()
    provider.fails["metadata"] = Failure(503)
    clock.advance(HOUR)

    assert await known.metadata() == before


async def test_after_a_failure_metadata_is_not_fetched_for_half_a_minute(
    known: OpenIdProvider, provider: Provider, clock: Clock
):
    await known.metadata()
    provider.fails["metadata"] = Failure(503)
    clock.advance(HOUR)
    await known.metadata()
    clock.advance(29)
    await known.metadata()
    assert provider.counts["metadata"] == 2

    clock.advance(1)
    await known.metadata()
    assert provider.counts["metadata"] == 3


async def test_a_provider_that_is_down_at_first_is_found_when_it_is_back(
    known: OpenIdProvider, provider: Provider
):
    provider.fails["metadata"] = Failure(503)
    with pytest.raises(ProviderUnavailable):
        await known.metadata()

    provider.fails.clear()
    assert (await known.metadata()).issuer == provider.issuer


async def test_a_provider_that_refuses_connections_is_unavailable(known: OpenIdProvider, provider: Provider):
    await provider.stop()

    with pytest.raises(ProviderUnavailable):
        await known.metadata()


async def test_a_cancelled_caller_does_not_cancel_the_fetch_of_the_others(
    known: OpenIdProvider, provider: Provider
):
    callers = [asyncio.create_task(known.metadata()) for _ in range(10)]
    await asyncio.sleep(0)  # all have called
    callers[0].cancel()

    answers = await asyncio.gather(*callers, return_exceptions=True)

    assert isinstance(answers[0], asyncio.CancelledError)
    assert {answer.issuer for answer in answers[1:]} == {provider.issuer}
    assert provider.counts["metadata"] == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Failure(503), id="an error"),
        pytest.param(Failure(200, b"<html>Down for maintenance</html>"), id="a page"),
        pytest.param(Failure(200, b"[]"), id="JSON that is no object"),
        pytest.param(Failure(200, b"\xff\xfe{}"), id="bytes that are no text"),
        pytest.param(Failure(302, headers={"Location": "http://127.0.0.1:1/"}), id="a redirect"),
        pytest.param(Failure(404, b"{}"), id="not found"),
    ],
)
async def test_instead_of_metadata_the_provider_may_answer(
    known: OpenIdProvider, provider: Provider, answer: Failure
):
    provider.fails["metadata"] = answer

    with pytest.raises(ProviderUnavailable):
        await known.metadata()


async def test_a_body_of_more_than_a_megabyte_is_refused(known: OpenIdProvider, provider: Provider):
    provider.overrides["metadata"] = {"padding": "x" * MAX_BODY_BYTES}

    with pytest.raises(ProviderUnavailable, match=f"more than {MAX_BODY_BYTES} bytes"):
        await known.metadata()


async def test_a_body_that_is_small_on_the_wire_only_is_refused_too(
    known: OpenIdProvider, provider: Provider
):
    names = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
    document = {**dict.fromkeys(names, provider.issuer), "padding": "x" * MAX_BODY_BYTES}
    packed = gzip.compress(json.dumps(document).encode())
    provider.fails["metadata"] = Failure(200, packed, {"Content-Encoding": "gzip"})

    with pytest.raises(ProviderUnavailable):
        await known.metadata()


def unasked_compression(encoding: str, body: bytes) -> Failure:
    return Failure(200, body, {"Content-Type": "application/json", "Content-Encoding": encoding})


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_a_compressed_body_that_was_not_requested_is_understood(
    known: OpenIdProvider, provider: Provider, encoding: str, compress: Callable[[bytes], bytes]
):
    names = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
    document = json.dumps(dict.fromkeys(names, provider.issuer)).encode()
    provider.fails["metadata"] = unasked_compression(encoding, compress(document))

    assert (await known.metadata()).token_endpoint == provider.issuer


@pytest.mark.parametrize(
    ("encoding", "body", "reason"),
    [
        ("br", b"\x0b\x02\x80{}\x03", "an encoding that is not understood"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}")), "an encoding that is not understood"),
        ("gzip", b"{}", "a damaged compressed body"),
        ("gzip", gzip.compress(b"{}" * MAX_BODY_BYTES), f"more than {MAX_BODY_BYTES} bytes"),
        ("gzip", gzip.compress(b"{}")[:5], "without a JSON object"),
    ],
    ids=["another encoding", "twice", "damaged", "too large", "cut short"],
)
async def test_a_compressed_body_that_cannot_be_read_is_refused(
    known: OpenIdProvider, provider: Provider, encoding: str, body: bytes, reason: str
):
    provider.fails["metadata"] = unasked_compression(encoding, body)

    with pytest.raises(ProviderUnavailable, match=reason):
        await known.metadata()


async def test_a_body_that_inflates_to_many_megabytes_is_never_in_memory(
    known: OpenIdProvider, provider: Provider
):
    provider.fails["metadata"] = unasked_compression("gzip", gzip.compress(bytes(50 * MAX_BODY_BYTES)))
    tracemalloc.start()
    try:
        with pytest.raises(ProviderUnavailable, match="more than"):
            await known.metadata()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 10 * MAX_BODY_BYTES


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_metadata_behind_a_redirect_within_the_origin_is_found(
    clock: Clock, provider: Provider, status: int
):
    moved = f"{provider.issuer}/.well-known/openid-configuration"
    provider.fails["jwks"] = Failure(status, headers={"Location": moved})
    async with provider_http(5, TLS) as http:
        options = {"timeout_seconds": 5, "keys_cooldown_seconds": COOLDOWN, "url": f"{provider.issuer}/jwks"}
        known = OpenIdProvider(provider.issuer, http, clock=clock, **options)

        assert (await known.metadata()).issuer == provider.issuer


@pytest.mark.parametrize(
    ("url", "target", "follows"),
    [
        ("http://login.test/a", "http://login.test/b", True),
        ("https://login.test/a", "https://login.test/b", True),
        ("https://login.test/a", "https://other.test/b", True),
        ("http://login.test/a", "https://login.test/b", True),
        ("https://login.test/a", "http://login.test/b", False),
        ("https://login.test/a", "http://127.0.0.1/b", False),
        ("http://login.test/a", "http://other.test/b", False),
        ("http://login.test/a", "http://login.test:8080/b", False),
        ("https://login.test/a", "https://user:password@other.test/b", False),
        ("https://login.test/a", "file:///etc/passwd", False),
    ],
)
def test_a_redirect_is_followed_to_https_or_within_the_origin(url: str, target: str, follows: bool):
    assert may_follow(url, target) is follows


async def test_redirects_in_a_circle_are_followed_three_times(known: OpenIdProvider, provider: Provider):
    location = {"Location": f"{provider.issuer}/.well-known/openid-configuration"}
    provider.fails["metadata"] = Failure(302, headers=location)

    with pytest.raises(ProviderUnavailable, match="answered 302"):
        await known.metadata()
    assert provider.counts["metadata"] == 1 + 3


async def test_a_body_of_just_under_a_megabyte_is_read(known: OpenIdProvider, provider: Provider):
    provider.overrides["metadata"] = {"padding": "x" * (MAX_BODY_BYTES - 5000)}

    assert (await known.metadata()).issuer == provider.issuer


@pytest.mark.parametrize("lever", ["holds", "holds_answer"])
async def test_a_provider_that_is_too_slow_is_unavailable(
    impatient: OpenIdProvider, provider: Provider, lever: str
):
    getattr(provider, lever)["metadata"] = asyncio.Event()

    async with asyncio.timeout(10 * TIMEOUT):
        with pytest.raises(ProviderUnavailable):
            await impatient.metadata()


# Verification


async def test_the_metadata_of_another_issuer_is_refused(known: OpenIdProvider, provider: Provider):
    provider.overrides["metadata"] = {"issuer": "https://other.example"}

    with pytest.raises(ProviderUnavailable, match="another issuer"):
        await known.metadata()


async def test_an_issuer_that_differs_by_a_slash_is_another_issuer(known: OpenIdProvider, provider: Provider):
    provider.overrides["metadata"] = {"issuer": provider.issuer + "/"}

    with pytest.raises(ProviderUnavailable, match="another issuer"):
        await known.metadata()


async def test_a_metadata_document_cannot_switch_anything_off(
    known: OpenIdProvider, provider: Provider, clock: Clock
):
    before = await known.metadata()
    provider.overrides["metadata"] = {
        "verify": False,
        "proxy": "http://127.0.0.1:1",
        "proxies": {"all://": "http://127.0.0.1:1"},
        "trust_env": True,
        "timeout": None,
        "transport": None,
    }

    clock.advance(HOUR)

    assert await known.metadata() == before
    assert provider.counts["metadata"] == 2
    assert (await known.verify(a_signed_token(provider))).claims["sub"] == "alice"


async def test_metadata_without_a_required_endpoint_is_refused(known: OpenIdProvider, provider: Provider):
    provider.overrides["metadata"] = {"token_endpoint": None}

    with pytest.raises(ProviderUnavailable, match="token_endpoint"):
        await known.metadata()


async def test_an_optional_endpoint_may_be_missing(known: OpenIdProvider, provider: Provider):
    names = ("userinfo_endpoint", "revocation_endpoint", "end_session_endpoint")
    provider.overrides["metadata"] = dict.fromkeys(names)

    metadata = await known.metadata()

    assert [getattr(metadata, name) for name in names] == [None, None, None]


async def test_a_provider_that_does_not_announce_pkce_is_used_with_a_warning(
    known: OpenIdProvider, provider: Provider, caplog: pytest.LogCaptureFixture
):
    provider.overrides["metadata"] = {"code_challenge_methods_supported": ["plain"]}

    assert (await known.metadata()).announces_pkce is False
    assert any("PKCE" in message for message in caplog.messages)


# Keys


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_a_token_signed_by_the_provider_is_accepted(
    known: OpenIdProvider, provider: Provider, algorithm: str
):
    provider.signing_alg = algorithm
    provider.overrides["metadata"] = {"id_token_signing_alg_values_supported": [algorithm]}

    token = await known.verify(a_signed_token(provider))

    assert (token.algorithm, token.claims["sub"]) == (algorithm, "alice")


async def test_a_hundred_tokens_at_once_cause_one_fetch_of_the_keys(
    known: OpenIdProvider, provider: Provider
):
    tokens = [a_signed_token(provider) for _ in range(100)]

    await asyncio.gather(*(known.verify(token) for token in tokens))

    assert provider.counts == {"metadata": 1, "jwks": 1}


async def test_a_rotated_key_is_found_at_once_by_its_unknown_kid(known: OpenIdProvider, provider: Provider):
    await known.verify(a_signed_token(provider))
    provider.rotate_keys()

    assert (await known.verify(a_signed_token(provider))).claims["sub"] == "alice"
    assert provider.counts["jwks"] == 2


@pytest.mark.parametrize("source", ["provider", "backchannel", "callback"])
async def test_a_key_replaced_under_the_same_kid_is_found_at_once(
    known: OpenIdProvider, provider: Provider, source: Source
):
    same_kid: dict[str, object] = {"kid": "always"}
    provider.overrides["id_token_header"] = provider.overrides["jwk"] = same_kid
    await known.verify(a_signed_token(provider))
    provider.rotate_keys()

    assert (await known.verify(a_signed_token(provider), source=source)).claims["sub"] == "alice"
    assert provider.counts["jwks"] == 2


async def test_keys_rotated_time_and_again_delay_no_login(known: OpenIdProvider, provider: Provider):
    for _ in range(KEYS_BURST):
        provider.rotate_keys()
        await known.verify(a_signed_token(provider))

    assert provider.counts["jwks"] == KEYS_BURST


@pytest.mark.parametrize("source", ["backchannel", "callback"])
async def test_tokens_that_anyone_can_send_cause_one_fetch_of_the_keys_per_cooldown(
    known: OpenIdProvider, provider: Provider, clock: Clock, source: Source
):
    await known.verify(a_signed_token(provider))
    provider.signs_with_unpublished_key = True
    for _ in range(COOLDOWN):
        with pytest.raises(UntrustedToken):
            await known.verify(a_signed_token(provider), source=source)
        clock.advance(2)

    assert provider.counts["jwks"] == 1 + 2  # in the minute that passed


@pytest.mark.parametrize("source", ["backchannel", "callback"])
async def test_a_flood_of_forged_tokens_delays_no_login(
    known: OpenIdProvider, provider: Provider, source: Source
):
    await known.verify(a_signed_token(provider))
    provider.signs_with_unpublished_key = True
    for _ in range(100):
        with pytest.raises(UntrustedToken):
            await known.verify(a_signed_token(provider), source=source)
    provider.signs_with_unpublished_key = False
    provider.rotate_keys()

    assert (await known.verify(a_signed_token(provider))).claims["sub"] == "alice"
    assert provider.counts["jwks"] == 1 + 1 + 1


async def test_a_provider_that_signs_wrongly_is_asked_for_its_keys_within_bounds(
    known: OpenIdProvider, provider: Provider, clock: Clock
):
    await known.verify(a_signed_token(provider))
    provider.signs_with_unpublished_key = True
    for _ in range(100):
        with pytest.raises(UntrustedToken):
            await known.verify(a_signed_token(provider))
    at_once = provider.counts["jwks"] - 1
    clock.advance(COOLDOWN / KEYS_BURST)
    with pytest.raises(UntrustedToken):
        await known.verify(a_signed_token(provider))

    assert (at_once, provider.counts["jwks"] - 1) == (KEYS_BURST, KEYS_BURST + 1)


async def test_a_bad_signature_causes_one_fetch_of_the_keys_and_is_refused(
    known: OpenIdProvider, provider: Provider, clock: Clock
):
    await known.verify(a_signed_token(provider))
    clock.advance(COOLDOWN)
    provider.signs_with_unpublished_key = True

    with pytest.raises(UntrustedToken, match="no key"):
        await known.verify(a_signed_token(provider))
    assert provider.counts["jwks"] == 2


async def test_a_key_that_is_withdrawn_right_after_it_has_signed_makes_a_token_unusable_not_forged(
    known: OpenIdProvider, provider: Provider, clock: Clock
):
    await known.verify(a_signed_token(provider))
    provider.rotate_keys()
    signed = a_signed_token(provider)
    provider.rotate_keys()
    clock.advance(COOLDOWN)

    with pytest.raises(UnusableToken, match="not published"):
        await known.verify(signed)


async def test_a_hundred_bad_signatures_at_once_cause_one_fetch_of_the_keys(
    known: OpenIdProvider, provider: Provider, clock: Clock
):
    await known.verify(a_signed_token(provider))
    clock.advance(COOLDOWN)
    provider.signs_with_unpublished_key = True
    forged = a_signed_token(provider)

    answers = await asyncio.gather(*(known.verify(forged) for _ in range(100)), return_exceptions=True)

    assert all(isinstance(answer, UntrustedToken) for answer in answers)
    assert provider.counts["jwks"] == 2


async def test_malformed_keys_do_not_hide_the_good_one(known: OpenIdProvider, provider: Provider):
    provider.publishes_malformed_keys = True

    assert (await known.verify(a_signed_token(provider))).claims["sub"] == "alice"


async def test_a_key_set_without_a_usable_key_does_not_replace_the_cached_one(
    known: OpenIdProvider, provider: Provider, clock: Clock
):
    await known.verify(a_signed_token(provider))
    provider.fails["jwks"] = Failure(200, b'{"keys": [{"kty": "oct", "k": "AAAA"}]}')
    clock.advance(HOUR)

    assert (await known.verify(a_signed_token(provider))).claims["sub"] == "alice"
    assert provider.counts["jwks"] == 2


async def test_stale_keys_are_served_while_the_provider_is_down(
    known: OpenIdProvider, provider: Provider, clock: Clock
):
    token = a_signed_token(provider)
    await known.verify(token)
    clock.advance(HOUR)
    await provider.stop()

    assert (await known.verify(token)).claims["sub"] == "alice"


async def test_without_any_key_a_token_is_neither_accepted_nor_refused(
    known: OpenIdProvider, provider: Provider
):
    provider.fails["jwks"] = Failure(503)

    with pytest.raises(ProviderUnavailable):
        await known.verify(a_signed_token(provider))


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
async def test_a_token_without_a_key_pair_is_refused_before_keys_are_fetched(
    known: OpenIdProvider, provider: Provider, algorithm: str
):
    provider.signing_alg = algorithm  # the metadata announces it as well

    with pytest.raises(UntrustedToken, match="not allowed"):
        await known.verify(a_signed_token(provider))
    assert provider.counts["jwks"] == 0
