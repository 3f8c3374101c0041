"""`python -m app audit-id`: prints what log lines call a user."""

from __future__ import annotations

from argparse import Namespace

from app.bff.crypto import Vault
from app.bff.settings.models import BffSettings
from app.bff.telemetry.logs import user_log_ids


async def run(settings: BffSettings, args: Namespace) -> int:
    """Print the `user` of log lines: under the first key of the ring, then under older ones; return 0."""
    for each in user_log_ids(Vault(settings.key_ring), args.issuer or settings.issuer, args.user):
        print(each)
    return 0
