"""Doctor: the provider. The probe fetches its documents and tries our credentials; the check is pure."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.bff.doctor.metadata import check_metadata
from app.bff.doctor.report import Finding, info, ok, warning, wrong
from app.bff.errors import ProviderUnavailable
from app.bff.oidc.claims import LEEWAY_SECONDS
from app.bff.oidc.dpop import new_key
from app.bff.oidc.endpoints import EndpointClient, RequestKind
from app.bff.oidc.http import get_following_redirects, parse_json_object, tls, translate_http_errors
from app.bff.oidc.keys import parse_jwks
from app.bff.oidc.metadata import Metadata, metadata_from, metadata_url, provider_http
from app.bff.oidc.refusals import refusal_fields
from app.bff.oidc.responses import EndpointResponse, server_date, skew_seconds
from app.bff.paths import (
    BACKCHANNEL_PATH,
    CALLBACK_PATH,
    FRONTCHANNEL_PATH,
    LOGIN_PATH,
    LOGOUT_CALLBACK_PATH,
)
from app.bff.settings.issuers import TENANT
from app.bff.settings.models import BffSettings
from app.bff.settings.validators import is_confidential

Get = Callable[[dict[str, Any]], Awaitable[Any]]


@dataclass(frozen=True)
class Fetched:
    """A document of the provider, or the `problem` that prevented the fetch.

    An error response has no `document`. `sent_at` and `received_at` are seconds since the epoch by our clock,
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
class TokenReply:
    """How the token endpoint answers our credentials with an unknown code, or why it did not answer."""

    problem: str = ""
    status: int = 0
    error: str | None = None
    description: str = ""


@dataclass(frozen=True)
class ProviderProbe:
    """`keys` and `token_reply` are None if the discovery document is unusable."""

    discovery: Fetched
    keys: Fetched | None = None
    token_reply: TokenReply | None = None


async def probe_provider(settings: BffSettings, *, clock: Callable[[], float]) -> ProviderProbe:
    """Raises SettingsError if our private key cannot be read."""
    async with provider_http(settings.provider_timeout_seconds, tls()) as http:

        async def fetched(url: str) -> Fetched:
            get = partial(get_following_redirects, http, url)
            return await _fetch(url, get, settings.provider_timeout_seconds, clock)

        discovery = await fetched(metadata_url(settings))
        try:
            metadata = _metadata(discovery.document or {}, settings)
        except ProviderUnavailable:  # the client secret is not sent to an unverified endpoint
            return ProviderProbe(discovery)
        probe = _try_credentials(settings, metadata.token_endpoint, clock)
        return ProviderProbe(discovery, *await asyncio.gather(fetched(metadata.jwks_uri), probe))


def _metadata(document: Mapping[str, Any], settings: BffSettings) -> Metadata:
    in_the_clear = not is_confidential(metadata_url(settings))
    return metadata_from(dict(document), issuer=settings.issuers.announced, in_the_clear=in_the_clear)


async def _fetch(url: str, get: Get, timeout_seconds: float, clock: Callable[[], float]) -> Fetched:
    sent_at = clock()
    try:
        async with translate_http_errors(timeout_seconds) as extensions:
            response = await get(extensions)
    except ProviderUnavailable as error:
        return Fetched(url, sent_at, clock(), problem=cause_in(error))
    return Fetched(
        url,
        sent_at,
        clock(),
        status=response.status_code,
        document=parse_json_object(response.content) if response.status_code == 200 else None,
        date=server_date(response.headers),
    )


def cause_in(error: ProviderUnavailable) -> str:
    """Return what has gone wrong; which finding it belongs to says what was tried."""
    said = error.detail.removeprefix("the provider could not be reached: ")
    return said.removeprefix("the provider took too long: ")


async def _try_credentials(
    settings: BffSettings, token_endpoint: str, clock: Callable[[], float]
) -> TokenReply:
    """Redeem an impossible code: the provider authenticates the client first (RFC 6749 §5.2)."""
    calls = EndpointClient(settings, tls=tls(), clock=clock)
    params = {
        "grant_type": "authorization_code",
        "code": f"of-the-doctor-{secrets.token_urlsafe(16)}",
        "redirect_uri": settings.base_url + CALLBACK_PATH,
        "code_verifier": secrets.token_urlsafe(48),
    }
    try:
        dpop_key = new_key() if settings.dpop else None
        return await calls.post(RequestKind.CODE, token_endpoint, params, _token_endpoint_reply, dpop_key)
    except ProviderUnavailable as error:
        return TokenReply(problem=cause_in(error))
    finally:
        await calls.close()


def _token_endpoint_reply(answer: EndpointResponse) -> TokenReply:
    said = refusal_fields(answer.document)
    return TokenReply("", answer.status, said.get("error"), said.get("description", ""))


_NOTICEABLE_SECONDS = 5


def check_provider(probe: ProviderProbe, settings: BffSettings) -> list[Finding]:
    discovery = probe.discovery
    if discovery.document is None:
        return [_no_discovery(discovery)]
    answered = ok(f"{discovery.url} answers in {discovery.received_at - discovery.sent_at:.2f} s")
    mistake = _defect(dict(discovery.document), settings)
    if mistake or not (probe.keys and probe.token_reply):
        return [answered, *mistake, _clock(discovery)]
    return [
        answered,
        ok(f"it is {settings.issuer}"),
        _clock(discovery),
        _keys(probe.keys),
        _credentials(probe.token_reply, settings),
    ]


def check_announcements(probe: ProviderProbe, settings: BffSettings) -> list[Finding]:
    """Check what the metadata announces; empty if the document is unusable."""
    document = dict(probe.discovery.document or {})
    if _defect(document, settings):
        return []
    return check_metadata(_metadata(document, settings), document, settings)


def urls_to_register(settings: BffSettings) -> list[Finding]:
    """Return the URLs to register at the provider, compared there by exact match (RFC 9700 §2.1)."""
    return [
        info(f"redirect URI              {settings.base_url}{CALLBACK_PATH}"),
        info(f"post-logout redirect URI  {settings.base_url}{LOGOUT_CALLBACK_PATH}"),
        info(f"back-channel logout URI   {settings.base_url}{BACKCHANNEL_PATH}"),
        info(f"front-channel logout URI  {settings.base_url}{FRONTCHANNEL_PATH}"),
        info(f"initiate login URI        {settings.base_url}{LOGIN_PATH}"),
    ]


def _no_discovery(discovery: Fetched) -> Finding:
    if discovery.problem:
        return wrong(
            f"{discovery.url} cannot be fetched: {discovery.problem}",
            "Check BFF_ISSUER (BFF_METADATA_URL), DNS, firewall, proxy and certificates (SSL_CERT_FILE).",
        )
    return wrong(
        f"{discovery.url} is no discovery document: status {discovery.status}",
        "Set BFF_ISSUER to the URL that the provider's discovery document begins with.",
    )


def _defect(document: dict[str, Any], settings: BffSettings) -> list[Finding]:
    """Return why the document must not be used (Discovery 1.0 §4.3), or nothing."""
    named, expected = document.get("issuer"), settings.issuers.announced
    if named != expected and TENANT in str(named):
        said = f"its issuer is {named!r:.200}: it is for several tenants"
        return [wrong(said, "Set BFF_TENANTS to the tenants that may sign in, and BFF_ISSUER as it says.")]
    if named != expected:
        return [
            wrong(
                f"its issuer is {named!r:.200}, and BFF_ISSUER is {settings.issuer!r}",
                "Set BFF_ISSUER to exactly that issuer" + _slash(named, settings.issuer),
            )
        ]
    try:
        _metadata(document, settings)
    except ProviderUnavailable as error:
        return [wrong(error.detail, "It is no OpenID provider, or its configuration is incomplete.")]
    return []


def _slash(named: object, issuer: str) -> str:
    same = isinstance(named, str) and named.rstrip("/") == issuer.rstrip("/")
    return ": the trailing slash counts." if same else ", if it is the provider that you mean."


def _clock(discovery: Fetched) -> Finding:
    if discovery.date is None:
        return info("its responses have no Date header to compare clocks with")
    ahead = skew_seconds(discovery.date, sent_at=discovery.sent_at, received_at=discovery.received_at)
    said = f"our clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} its clock"
    advice = "Synchronise both machines by NTP."
    if abs(ahead) > LEEWAY_SECONDS:
        return wrong(f"{said}: its tokens are rejected", advice)
    if abs(ahead) > _NOTICEABLE_SECONDS:
        return warning(f"{said}; beyond {LEEWAY_SECONDS} s its tokens are rejected", advice)
    return ok("our clock and its clock agree")


def _keys(fetched: Fetched) -> Finding:
    if fetched.document is None:
        why = fetched.problem or f"status {fetched.status}"
        return wrong(f"its keys at {fetched.url} cannot be fetched: {why}", "No login succeeds without them.")
    usable = len(parse_jwks(dict(fetched.document)))
    if not usable:
        return wrong(
            f"no key at {fetched.url} can verify signatures",
            "Configure RSA, EC or Ed25519 signing keys there.",
        )
    return ok(f"{usable} of its keys can verify signatures")


def _credentials(probe: TokenReply, settings: BffSettings) -> Finding:
    """`invalid_grant` for an impossible code means that client authentication succeeded (RFC 6749 §5.2)."""
    if probe.problem:
        return wrong(f"its token endpoint does not answer: {probe.problem}", "No login succeeds without it.")
    if probe.error == "invalid_grant":
        return ok(f"it accepts client {settings.client_id} by {settings.client_auth}")
    if probe.status == 401 or probe.error == "invalid_client":
        return wrong(f"it rejects client {settings.client_id}: {_reply(probe)}", _CHECK_CREDENTIALS)
    if probe.error == "unauthorized_client":
        return wrong(
            f"client {settings.client_id} may not redeem codes: {_reply(probe)}",
            "Allow this client the authorization code flow there.",
        )
    return warning(
        f"whether it accepts client {settings.client_id} is not clear: {_reply(probe)}",
        "Log in once to find out.",
    )


_CHECK_CREDENTIALS = (
    "Check BFF_CLIENT_ID, BFF_CLIENT_SECRET (or BFF_CLIENT_KEY_FILE), and that BFF_CLIENT_AUTH is what is"
    " registered for this client."
)


def _reply(probe: TokenReply) -> str:
    why = f" ({probe.description})" if probe.description else ""
    return f"status {probe.status} {probe.error or ''}{why}".rstrip()
