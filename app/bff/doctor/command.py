"""`python -m app doctor`: checks the settings against provider, MongoDB, APIs and deployment."""

from __future__ import annotations

import asyncio
import time
from argparse import Namespace
from collections.abc import Callable

from app.bff.doctor.apis import check_apis, probe_apis
from app.bff.doctor.deployment import check_deployment, check_key_ring
from app.bff.doctor.files import check_files, probe_files
from app.bff.doctor.machine import check_machine, probe_machine
from app.bff.doctor.mongo import MongoProbe, check_memory_store, check_mongo, probe_mongo
from app.bff.doctor.provider import check_announcements, check_provider, probe_provider, urls_to_register
from app.bff.doctor.report import Finding, as_json, exit_code, report
from app.bff.doctor.spa import check_spa, probe_spa
from app.bff.settings.models import BffSettings

_PATIENCE_SECONDS = 4.0  # per request to the provider; at most three in a row


async def run(settings: BffSettings, args: Namespace, *, clock: Callable[[], float] = time.time) -> int:
    """Print the report within 15 seconds; return 0 if no finding is `wrong`, else 1."""
    chapters = await examine(settings, clock=clock)
    print(as_json(chapters) if args.json else report(chapters))
    return exit_code(chapters)


async def examine(settings: BffSettings, *, clock: Callable[[], float]) -> dict[str, list[Finding]]:
    """Run all probes concurrently, then check their results."""
    seconds = min(settings.provider_timeout_seconds, _PATIENCE_SECONDS)
    hurried = settings.model_copy(update={"provider_timeout_seconds": seconds})
    provider, mongo, problems, spa = await asyncio.gather(
        probe_provider(hurried, clock=clock),
        _probe_mongo(settings, clock),
        probe_apis(settings.http_clients),
        asyncio.to_thread(probe_spa, settings),
    )
    chapters = {
        "The provider": check_provider(provider, settings),
        "Provider metadata": check_announcements(provider, settings),
        "URLs to register there": urls_to_register(settings),
        "Sessions": check_mongo(mongo) if mongo else check_memory_store(settings),
        "Keys": check_key_ring(settings, mongo),
        "Files with secrets": check_files(probe_files(settings)),
        "This machine": check_machine(probe_machine(settings.processes)),
        "Browsers and proxies": check_deployment(settings),
        "Single-page app": check_spa(spa, settings),
        "APIs": check_apis(settings.http_clients, problems),
    }
    return {title: findings for title, findings in chapters.items() if findings}


async def _probe_mongo(settings: BffSettings, clock: Callable[[], float]) -> MongoProbe | None:
    if settings.session_store == "memory:":
        return None
    return await probe_mongo(settings, clock=clock)
