"""What the provider answers to us right now: its documents, its clock, and whether it knows us."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from app.bff.doctor.network import in_words
from app.bff.errors import ProviderUnavailable
from app.bff.oidc.documents import parse_json_object
from app.bff.oidc.dpop import new_key
from app.bff.oidc.endpoints import EndpointClient
from app.bff.oidc.http import asking_the_provider, tls
from app.bff.oidc.metadata import discovery_url, metadata_from, provider_http
from app.bff.oidc.responses import EndpointResponse
from app.bff.paths import CALLBACK_PATH
from app.bff.settings.load import BffSettings

Get = Callable[[str], Any]


@dataclass(frozen=True)
class Fetched:
    """What lies at an address of the provider, or in words the `problem` that kept it from us.

    An error has no `document`. `sent_at` and `received_at` are seconds since the epoch by our clock,
    `date` by the provider's.
    """

    url: str
    sent_at: float
    received_at: float
    problem: str = ""
    status: int = 0
    document: Mapping[str, Any] | None = None
    date: float | None = None


@dataclass(frozen=True)
class Probe:
    """What the token endpoint says to us and a code that nobody was given, or why it says nothing."""

    problem: str = ""
    status: int = 0
    error: str | None = None


@dataclass(frozen=True)
class ProviderFacts:
    """`keys` and `probe` are missing if the document does not say where, or is not to be believed."""

    discovery: Fetched
    keys: Fetched | None = None
    probe: Probe | None = None


async def provider_facts(settings: BffSettings, *, clock: Callable[[], float]) -> ProviderFacts:
    """Raises SettingsError if our private key cannot be read."""
    async with provider_http(settings.provider_timeout_seconds, tls()) as http:

        async def fetched(url: str) -> Fetched:
            return await _fetched(url, http.get, settings.provider_timeout_seconds, clock)

        discovery = await fetched(discovery_url(settings.issuer))
        try:
            metadata = metadata_from(dict(discovery.document or {}), issuer=settings.issuer)
        except ProviderUnavailable:  # so our secret goes nowhere
            return ProviderFacts(discovery)
        probe = _probed(settings, metadata.token_endpoint, clock)
        return ProviderFacts(discovery, *await asyncio.gather(fetched(metadata.jwks_uri), probe))


async def _fetched(url: str, get: Get, timeout_seconds: float, clock: Callable[[], float]) -> Fetched:
    sent_at = clock()
    try:
        async with asking_the_provider(timeout_seconds):
            response = await get(url)
    except ProviderUnavailable as error:
        return Fetched(url, sent_at, clock(), problem=in_words(error))
    return Fetched(
        url,
        sent_at,
        clock(),
        status=response.status_code,
        document=parse_json_object(response.content) if response.status_code == 200 else None,
        date=date_in(response.headers),
    )


def date_in(headers: Mapping[str, str]) -> float | None:
    """Return when an answer was made; one out of a cache is older by its `Age` (RFC 9111 §5.1)."""
    age = headers.get("Age", "")
    try:
        date = parsedate_to_datetime(headers.get("Date", ""))
    except ValueError:
        return None
    return date.replace(tzinfo=date.tzinfo or UTC).timestamp() + (int(age[:9]) if age.isdecimal() else 0)


async def _probed(settings: BffSettings, token_endpoint: str, clock: Callable[[], float]) -> Probe:
    """Redeem a code that cannot be: before the code, the provider looks at who asks (RFC 6749 §5.2)."""
    calls = EndpointClient(settings, tls=tls(), clock=clock)
    params = {
        "grant_type": "authorization_code",
        "code": f"of-the-doctor-{secrets.token_urlsafe(16)}",
        "redirect_uri": settings.base_url + CALLBACK_PATH,
        "code_verifier": secrets.token_urlsafe(48),
    }
    try:
        return await calls.post(
            token_endpoint, params, _as_probe, dpop_key=new_key() if settings.dpop else None
        )
    except ProviderUnavailable as error:
        return Probe(problem=in_words(error))
    finally:
        await calls.close()


def _as_probe(answer: EndpointResponse) -> Probe:
    return Probe(status=answer.status, error=answer.error if isinstance(answer.error, str) else None)
