"""`python -m app doctor`: does everything outside fit the settings?"""

from __future__ import annotations

import asyncio
import time
from argparse import Namespace
from collections.abc import Callable

from app.bff.doctor.check_apis import api_findings
from app.bff.doctor.check_keys import key_findings
from app.bff.doctor.check_mongo import memory_findings, mongo_findings
from app.bff.doctor.check_provider import announcement_findings, provider_findings, to_register
from app.bff.doctor.check_site import site_findings
from app.bff.doctor.probe_apis import api_problems
from app.bff.doctor.probe_mongo import MongoFacts, mongo_facts
from app.bff.doctor.probe_provider import provider_facts
from app.bff.doctor.report import Finding, exit_code, report
from app.bff.settings.load import BffSettings

_PATIENCE_SECONDS = 4.0  # for an answer of the provider: at most three of them are waited for in a row


async def run(settings: BffSettings, wanted: Namespace, *, clock: Callable[[], float] = time.time) -> int:
    """Print what was found, in at most 15 seconds; return 0 if nothing is wrong, else 1."""
    chapters = await examined(settings, clock=clock)
    print(report(chapters))
    return exit_code(chapters)


async def examined(settings: BffSettings, *, clock: Callable[[], float]) -> dict[str, list[Finding]]:
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


async def _mongo_facts(settings: BffSettings, clock: Callable[[], float]) -> MongoFacts | None:
    if settings.session_store == "memory:":
        return None
    return await mongo_facts(settings, clock=clock)
