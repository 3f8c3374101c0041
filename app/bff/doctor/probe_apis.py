"""Which of the named clients' APIs can be reached."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from app.bff.doctor.network import in_words
from app.bff.oidc.http import tls
from app.bff.settings.load import HttpClientSettings

_CONNECT_SECONDS = 3


async def api_problems(clients: Mapping[str, HttpClientSettings]) -> dict[str, str]:
    """Return for each client, in words, why nobody can be reached there; "" if somebody can."""
    problems = await asyncio.gather(*(_problem(client.base_url) for client in clients.values()))
    return dict(zip(clients, problems, strict=True))


async def _problem(base_url: str) -> str:
    parts = urlsplit(base_url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(parts.hostname, port, ssl=tls() if secure else None)
    except (OSError, UnicodeError) as error:  # TimeoutError is an OSError, and a host may be no host name
        return in_words(error)
    writer.close()
    return ""
