"""Is the provider there, is it the one of the settings, and does it know us? Pure."""

from __future__ import annotations

from typing import Any

from app.bff.doctor.check_metadata import announced_findings
from app.bff.doctor.probe_provider import Fetched, Probe, ProviderFacts
from app.bff.doctor.report import Finding, info, ok, warning, wrong
from app.bff.errors import ProviderUnavailable
from app.bff.oidc.claims import LEEWAY_SECONDS
from app.bff.oidc.keys import parse_jwks
from app.bff.oidc.metadata import metadata_from
from app.bff.paths import BACKCHANNEL_PATH, CALLBACK_PATH, LOGOUT_CALLBACK_PATH
from app.bff.settings.load import BffSettings

_NOTICEABLE_SECONDS = 5


def provider_findings(facts: ProviderFacts, settings: BffSettings) -> list[Finding]:
    discovery = facts.discovery
    if discovery.document is None:
        return [_no_discovery(discovery)]
    answered = ok(f"{discovery.url} answers in {discovery.received_at - discovery.sent_at:.2f} s")
    mistake = _mistake(dict(discovery.document), settings)
    if mistake or not (facts.keys and facts.probe):
        return [answered, *mistake, _clock(discovery)]
    return [
        answered,
        ok(f"it is {settings.issuer}"),
        _clock(discovery),
        _keys(facts.keys),
        _known(facts.probe, settings),
    ]


def announcement_findings(facts: ProviderFacts, settings: BffSettings) -> list[Finding]:
    """Nothing for a document that is not to be believed."""
    document = dict(facts.discovery.document or {})
    if _mistake(document, settings):
        return []
    return announced_findings(metadata_from(document, issuer=settings.issuer), document, settings)


def to_register(settings: BffSettings) -> list[Finding]:
    """The URLs that the provider must have, letter by letter (RFC 9700 §2.1)."""
    return [
        info(f"redirect URI              {settings.base_url}{CALLBACK_PATH}"),
        info(f"post-logout redirect URI  {settings.base_url}{LOGOUT_CALLBACK_PATH}"),
        info(f"back-channel logout URI   {settings.base_url}{BACKCHANNEL_PATH}"),
    ]


def _no_discovery(discovery: Fetched) -> Finding:
    if discovery.problem:
        return wrong(
            f"{discovery.url} cannot be had: {discovery.problem}",
            "Check BFF_ISSUER, and the way from here to there: name, firewall, certificates.",
        )
    return wrong(
        f"{discovery.url} is no discovery document: it answers {discovery.status}",
        "Set BFF_ISSUER to the address under which the provider has its discovery document.",
    )


def _mistake(document: dict[str, Any], settings: BffSettings) -> list[Finding]:
    """Why this document is not to be used, if it is not (Discovery 1.0 §4.3)."""
    named = document.get("issuer")
    if named != settings.issuer:
        return [
            wrong(
                f"it names itself {named!r:.200}, and BFF_ISSUER is {settings.issuer!r}",
                "Set BFF_ISSUER to what it names itself, letter by letter" + _slash(named, settings.issuer),
            )
        ]
    try:
        metadata_from(document, issuer=settings.issuer)
    except ProviderUnavailable as error:
        return [wrong(error.detail, "It is no OpenID provider, or not set up completely.")]
    return []


def _slash(named: object, issuer: str) -> str:
    same = isinstance(named, str) and named.rstrip("/") == issuer.rstrip("/")
    return ": the slash at the end counts." if same else ", if that is the provider you mean."


def skew_seconds(date: float, *, sent_at: float, received_at: float) -> float:
    """Return how far our clock is ahead of the provider's, at least; less than 0 if it is behind.

    `date` has whole seconds, and was written at some time between the other two.
    """
    return max(sent_at - (date + 1), 0) or min(received_at - date, 0)


def _clock(discovery: Fetched) -> Finding:
    if discovery.date is None:
        return info("its answers have no Date to compare our clock with")
    ahead = skew_seconds(discovery.date, sent_at=discovery.sent_at, received_at=discovery.received_at)
    said = f"our clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} its clock"
    advice = "Let both machines keep the time with NTP."
    if abs(ahead) > LEEWAY_SECONDS:
        return wrong(f"{said}: its tokens are not believed here", advice)
    if abs(ahead) > _NOTICEABLE_SECONDS:
        return warning(f"{said}; beyond {LEEWAY_SECONDS} s its tokens are not believed", advice)
    return ok("our clock and its clock agree")


def _keys(fetched: Fetched) -> Finding:
    if fetched.document is None:
        why = fetched.problem or f"it answers {fetched.status}"
        return wrong(f"its keys at {fetched.url} cannot be had: {why}", "No login succeeds without them.")
    usable = len(parse_jwks(dict(fetched.document)))
    if not usable:
        return wrong(
            f"there is no key at {fetched.url} that we can check signatures with",
            "Have it sign with RSA, EC or Ed25519 keys.",
        )
    return ok(f"{usable} of its keys can check signatures")


def _known(probe: Probe, settings: BffSettings) -> Finding:
    """An `invalid_grant` for a code that nobody was given means that we are who we say (RFC 6749 §5.2)."""
    if probe.problem:
        return wrong(f"its token endpoint cannot be asked: {probe.problem}", "No login succeeds without it.")
    if probe.error == "invalid_grant":
        return ok(f"it knows us as {settings.client_id}, by {settings.client_auth}")
    if probe.status == 401 or probe.error == "invalid_client":
        return wrong(f"it does not know us as {settings.client_id}: {_said(probe)}", _WHO_WE_ARE)
    if probe.error == "unauthorized_client":
        return wrong(
            f"{settings.client_id} may not redeem codes: {_said(probe)}",
            "Allow this client the authorization code flow there.",
        )
    return warning(
        f"whether it knows us as {settings.client_id} is not clear: {_said(probe)}",
        "Sign in once, and see.",
    )


_WHO_WE_ARE = (
    "Check BFF_CLIENT_ID, BFF_CLIENT_SECRET (or BFF_CLIENT_KEY_FILE), and that BFF_CLIENT_AUTH is what is"
    " registered for this client."
)


def _said(probe: Probe) -> str:
    return f"it answers {probe.status} {probe.error or ''}".rstrip()[:100]
