"""Doctor: debug mode, cookies, proxies and the key ring, judged from the settings. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from app.bff.doctor.mongo import MongoProbe, Sealed
from app.bff.doctor.report import Finding, info, ok, warning, wrong
from app.bff.settings.models import BffSettings
from app.bff.settings.origins import common_parent
from app.bff.settings.validators import is_loopback
from app.bff.web.cookies import CookiePolicy

_COUNTRY_SUFFIX = re.compile(r"(?:ac|co|com|edu|go|gov|ne|net|or|org)\.[a-z]{2}")
_PLATFORMS = frozenset(
    {"github.io", "gitlab.io", "vercel.app", "netlify.app", "pages.dev", "workers.dev", "web.app", "fly.dev"}
    | {"herokuapp.com", "onrender.com", "azurewebsites.net", "cloudfront.net", "firebaseapp.com"}
)


def check_deployment(settings: BffSettings) -> list[Finding]:
    return [
        _debug(settings),
        _cookies(settings),
        _samesite(settings),
        _proxies(settings),
        *_metrics(settings),
        _forward_auth(settings),
        *_allowed_origins(settings),
    ]


def _debug(settings: BffSettings) -> Finding:
    if not settings.debug:
        return ok("BFF_DEBUG is off")
    if _on_this_machine(settings):
        return info("BFF_DEBUG is on, for browsers on this machine only")
    return wrong(
        f"BFF_DEBUG is on, and other machines reach {settings.base_url}",
        "Set BFF_DEBUG=false: it allows unencrypted http.",
    )


def _cookies(settings: BffSettings) -> Finding:
    policy = CookiePolicy(https=settings.https, samesite=settings.cookie_samesite, name=settings.cookie_name)
    name = policy.session_name
    if settings.https:
        return ok(f"cookies are Secure and named like {name}")
    if _on_this_machine(settings):
        return info(f"cookies are named like {name}, without __Host-: BFF_BASE_URL is http on this machine")
    return wrong(
        f"cookies are sent unencrypted, without Secure and __Host-: BFF_BASE_URL is {settings.base_url}",
        "Put a TLS proxy in front and set BFF_BASE_URL to its https origin.",
    )


def _samesite(settings: BffSettings) -> Finding:
    if settings.cookie_samesite == "strict":
        return ok("BFF_COOKIE_SAMESITE is strict")
    return info("BFF_COOKIE_SAMESITE is lax: cross-site links arrive with the session")


def _proxies(settings: BffSettings) -> Finding:
    any_address = [str(network) for network in settings.trusted_proxies if network.prefixlen == 0]
    if any_address:
        return wrong(
            f"X-Forwarded-... is trusted from any address: BFF_TRUSTED_PROXIES has {any_address[0]}",
            "List the addresses of your proxies only.",
        )
    if settings.trusted_proxies:
        return ok(f"X-Forwarded-... is trusted from {', '.join(map(str, settings.trusted_proxies))}")
    if settings.https:
        return info("X-Forwarded-... is not trusted: the log shows the TLS proxy's address for every client")
    return ok("X-Forwarded-... is not trusted")


def _forward_auth(settings: BffSettings) -> Finding:
    if settings.forward_auth_secret.get_secret_value():
        return info(
            "/bff/forward-auth is on: it gives access tokens to requests with BFF_FORWARD_AUTH_SECRET"
        )
    return ok("/bff/forward-auth is off")


def _allowed_origins(settings: BffSettings) -> list[Finding]:
    findings = []
    if settings.allowed_origins:
        findings.append(
            warning(
                f"pages of {', '.join(settings.allowed_origins)} act as the user: BFF_ALLOWED_ORIGINS",
                "A script that runs there can do what the user can. Pages of BFF_BASE_URL need no CORS.",
            )
        )
    for origin in settings.allowed_origins:
        parent = common_parent(origin, settings.base_url)
        if urlsplit(origin).hostname != urlsplit(settings.base_url).hostname and _may_be_public(parent):
            advice = f"If {parent} is a public suffix (https://publicsuffix.org), browsers send no cookie."
            findings.append(warning(f"{origin} and {settings.base_url} have only {parent} in common", advice))
    return findings


def _may_be_public(parent: str) -> bool:
    """Whether it looks like `co.uk` or `github.io`, below which each name is a site of its own."""
    return _COUNTRY_SUFFIX.fullmatch(parent) is not None or parent in _PLATFORMS


def _metrics(settings: BffSettings) -> Iterator[Finding]:
    """Anyone who reaches the port can read what the application does, and how often."""
    if not settings.metrics_port:
        return
    where = f"/metrics listens at {settings.metrics_address}, port {settings.metrics_port}"
    try:
        address = ip_address(settings.metrics_address)
    except ValueError:
        on_this_machine = is_loopback(settings.metrics_address)
        yield ok(where) if on_this_machine else info(f"{where}: it must not be reached by browsers")
        return
    if address.is_unspecified:
        yield warning(
            f"{where}: at every address of this machine, without authentication",
            "Set BFF_METRICS_ADDRESS to the one that Prometheus uses, or close the port to all others.",
        )
    elif address.is_global:
        yield wrong(
            f"{where}: a public address, without authentication", "Set BFF_METRICS_ADDRESS to a private one."
        )
    else:
        yield ok(where)


def _on_this_machine(settings: BffSettings) -> bool:
    return is_loopback(urlsplit(settings.base_url).hostname or "")


def check_key_ring(settings: BffSettings, probe: MongoProbe | None) -> list[Finding]:
    """`probe` is None where sessions are in memory."""
    if "encryption_keys" not in settings.model_fields_set:
        return [
            warning(
                "each start generates its own key, which ends all sessions",
                "Put the output of `openssl rand -base64 32` into BFF_ENCRYPTION_KEYS.",
            )
        ]
    ring = info(f"{len(settings.encryption_keys)} in BFF_ENCRYPTION_KEYS: the first encrypts, all decrypt")
    return [ring, *_records(probe)] if probe and probe.server else [ring]


def _records(probe: MongoProbe) -> list[Finding]:
    if probe.sealed_problem:
        return [info(f"records cannot be counted by key: {probe.sealed_problem}")]
    found = [finding for sealed in probe.sealed for finding in _counted(sealed)]
    return [*found, *_old_keys(probe.sealed)]


def _counted(sealed: Sealed) -> list[Finding]:
    counts = ", ".join(f"{count} with key {number}" for number, count in enumerate(sealed.by_key, 1))
    counted = ok(f"{sealed.collection}: {counts}")
    if not sealed.by_none:
        return [counted]
    lost = wrong(
        f"{sealed.collection}: {sealed.by_none} encrypted with a key that is not in the ring",
        "Append the missing key to BFF_ENCRYPTION_KEYS: these sessions cannot be opened.",
    )
    return [counted, lost]


def _old_keys(collections: Sequence[Sealed]) -> list[Finding]:
    """One finding for each key but the first."""
    _, *old = zip(*(sealed.by_key for sealed in collections), strict=True)
    return [_old_key(number, sum(counts)) for number, counts in enumerate(old, 2)]


def _old_key(number: int, records: int) -> Finding:
    if records:
        return info(f"key {number} still decrypts {records}: run `python -m app rotate-keys`, then remove it")
    return info(f"key {number} is unused: remove it")
