"""Doctor: the APIs of the named clients. The probe connects to each; the check is pure."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from app.bff.causes import cause_of
from app.bff.doctor.provider import cause_in
from app.bff.doctor.report import Finding, ok, warning
from app.bff.errors import ProviderUnavailable
from app.bff.oidc.http import tls, translate_http_errors
from app.bff.oidc.metadata import provider_http
from app.bff.settings.apis import HttpClientSettings
from app.bff.settings.proxies import Proxies
from app.bff.settings.validators import is_confidential

_CONNECT_SECONDS = 3


async def probe_apis(clients: Mapping[str, HttpClientSettings]) -> dict[str, str]:
    """Return for each client why its host does not accept connections; "" if it does."""
    problems = await asyncio.gather(*(_problem(client.base_url) for client in clients.values()))
    return dict(zip(clients, problems, strict=True))


async def _problem(base_url: str) -> str:
    if Proxies.of_environment().of(base_url):
        return await _problem_behind_proxy(base_url)
    parts = urlsplit(base_url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(parts.hostname, port, ssl=tls() if secure else None)
    except (OSError, UnicodeError) as error:  # TimeoutError is an OSError, and a host may be no host name
        return cause_of(error) or "its host has no name that can be looked up"
    writer.close()
    return ""


async def _problem_behind_proxy(base_url: str) -> str:
    """A connection to the proxy alone would prove nothing: any response of the API does."""
    try:
        async with (
            provider_http(_CONNECT_SECONDS, tls()) as http,
            translate_http_errors(_CONNECT_SECONDS) as extensions,
        ):
            response = await http.head(base_url, extensions=extensions)
    except ProviderUnavailable as error:
        return f"through the proxy: {cause_in(error)}"
    return f"the proxy answers {response.status_code}" if response.status_code in (407, 502, 503, 504) else ""


def check_apis(clients: Mapping[str, HttpClientSettings], problems: Mapping[str, str]) -> list[Finding]:
    """`problems` are those that `probe_apis` returned."""
    reached = [_reachability(name, client, problems[name]) for name, client in clients.items()]
    in_the_clear = [
        warning(
            f"{name} sends tokens unencrypted to {client.base_url}",
            "Use https unless the network between is private.",
        )
        for name, client in clients.items()
        if client.token != "none" and not is_confidential(client.base_url)
    ]
    return [*reached, *in_the_clear]


def _reachability(name: str, client: HttpClientSettings, problem: str) -> Finding:
    if problem:
        return warning(
            f"{name} cannot be reached at {client.base_url}: {problem}",
            "Start it, or correct its base_url in BFF_HTTP_CLIENTS or app/settings.py.",
        )
    return ok(f"{name} can be reached at {client.base_url}")
