"""How browsers and proxies reach us: what the settings alone tell. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from app.bff.doctor.report import Finding, info, ok, warning, wrong
from app.bff.settings.load import BffSettings
from app.bff.settings.validators import is_loopback
from app.bff.web.cookies import CookiePolicy


def site_findings(settings: BffSettings) -> list[Finding]:
    return [_debug(settings), _cookies(settings), _samesite(settings), _proxies(settings)]


def _debug(settings: BffSettings) -> Finding:
    if not settings.debug:
        return ok("BFF_DEBUG is off")
    if _on_this_machine(settings):
        return info("BFF_DEBUG is on, for browsers on this machine alone")
    return wrong(
        f"BFF_DEBUG is on, and browsers come from elsewhere to {settings.base_url}",
        "Set BFF_DEBUG=false: it is for development, and lets secrets travel in the clear.",
    )


def _cookies(settings: BffSettings) -> Finding:
    name = CookiePolicy(https=settings.https, samesite=settings.cookie_samesite).session_name
    if settings.https:
        return ok(f"cookies are Secure, and named like {name}")
    if _on_this_machine(settings):
        return info(f"cookies are named like {name}, without __Host-: BFF_BASE_URL is http on this machine")
    return wrong(
        f"cookies travel in the clear, without Secure and __Host-: BFF_BASE_URL is {settings.base_url}",
        "Put something that speaks TLS in front, and set BFF_BASE_URL to its https origin.",
    )


def _samesite(settings: BffSettings) -> Finding:
    if settings.cookie_samesite == "strict":
        return ok("BFF_COOKIE_SAMESITE is strict")
    return info("BFF_COOKIE_SAMESITE is lax: who follows a link from another site arrives signed in")


def _proxies(settings: BffSettings) -> Finding:
    everybody = [str(network) for network in settings.trusted_proxies if network.prefixlen == 0]
    if everybody:
        return wrong(
            f"X-Forwarded-... is believed of everybody: BFF_TRUSTED_PROXIES has {everybody[0]}",
            "Name the addresses of your proxies alone.",
        )
    if settings.trusted_proxies:
        return ok(f"X-Forwarded-... is believed of {', '.join(map(str, settings.trusted_proxies))}")
    if settings.https:
        return warning(
            "X-Forwarded-... is believed of nobody, and something in front of us must speak https",
            "Set BFF_TRUSTED_PROXIES to its address: else the log has that for every browser's.",
        )
    return ok("X-Forwarded-... is believed of nobody")


def _on_this_machine(settings: BffSettings) -> bool:
    return is_loopback(urlsplit(settings.base_url).hostname or "")
