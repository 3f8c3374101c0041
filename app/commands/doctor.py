"""`python -m app doctor`: does everything outside fit the settings?"""

from __future__ import annotations

import asyncio
import time
from argparse import Namespace
from collections.abc import Callable

from app.commands.checks.apis import api_findings
from app.commands.checks.keys import key_findings
from app.commands.checks.mongo import memory_findings, mongo_findings
from app.commands.checks.provider import announcement_findings, provider_findings, to_register
from app.commands.checks.site import site_findings
from app.commands.facts.apis import api_problems
from app.commands.facts.mongo import MongoFacts, mongo_facts
from app.commands.facts.provider import provider_facts
from app.commands.findings import Finding, exit_code, report
from app.settings import Settings

_PATIENCE_SECONDS = 4.0  # for an answer of the provider: at most three of them are waited for in a row


async def run(settings: Settings, wanted: Namespace, *, clock: Callable[[], float] = time.time) -> int:
    """Print what was found, in at most 15 seconds; return 0 if nothing is wrong, else 1."""
    chapters = await examined(settings, clock=clock)
    print(report(chapters))
    return exit_code(chapters)


async def examined(settings: Settings, *, clock: Callable[[], float]) -> dict[str, list[Finding]]:
    """Gather all facts at the same time, and judge them."""
    seconds = min(settings.provider_timeout_seconds, _PATIENCE_SECONDS)
    hurried = settings.model_copy(update={"provider_timeout_seconds": seconds})
    provider, mongo, problems = await asyncio.gather(
        provider_facts(hurried, clock=clock),
        _mongo_facts(settings, clock),
        api_problems(settings.http_clients),
    )
    chapters = {
        "The provider": provider_findings(provider, settings),
        "What it announces": announcement_findings(provider, settings),
        "What must be registered there": to_register(settings),
        "Sessions": mongo_findings(mongo) if mongo else memory_findings(settings),
        "Keys": key_findings(settings, mongo),
        "Browsers and proxies": site_findings(settings),
        "APIs": api_findings(settings.http_clients, problems),
    }
    return {title: findings for title, findings in chapters.items() if findings}


async def _mongo_facts(settings: Settings, clock: Callable[[], float]) -> MongoFacts | None:
    if settings.session_store == "memory:":
        return None
    return await mongo_facts(settings, clock=clock)
