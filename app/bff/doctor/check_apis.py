"""The APIs of the named clients: can they be reached, and is what they get seen by nobody else? Pure."""

from __future__ import annotations

from collections.abc import Mapping

from app.bff.doctor.report import Finding, ok, warning
from app.bff.settings.load import HttpClientSettings
from app.bff.settings.validators import is_confidential


def api_findings(clients: Mapping[str, HttpClientSettings], problems: Mapping[str, str]) -> list[Finding]:
    """`problems` says of each name why its API cannot be reached, or nothing."""
    reached = [_reached(name, client, problems[name]) for name, client in clients.items()]
    in_the_clear = [
        warning(
            f"{name} sends tokens in the clear, to {client.base_url}",
            "Use https, if anybody else can see what passes between here and there.",
        )
        for name, client in clients.items()
        if client.token != "none" and not is_confidential(client.base_url)
    ]
    return [*reached, *in_the_clear]


def _reached(name: str, client: HttpClientSettings, problem: str) -> Finding:
    if problem:
        return warning(
            f"{name} cannot be reached at {client.base_url}: {problem}",
            "Start it, or correct its base_url in BFF_HTTP_CLIENTS or app/settings.py.",
        )
    return ok(f"{name} can be reached at {client.base_url}")
