"""`python -m app doctor`: does everything outside fit the settings?"""

from __future__ import annotations

from argparse import Namespace

from app.settings import Settings


async def run(settings: Settings, wanted: Namespace) -> int:
    """Print what was found; return 0 if nothing is wrong, else 1."""
    print(f"Nothing is looked at yet for {settings.base_url}")
    return 0
