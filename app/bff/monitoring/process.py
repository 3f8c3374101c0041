"""Telemetry of the processes at one address: prepared before they are forked, switched on in each."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from tornado.netutil import bind_sockets

from app.bff.errors import StoreUnavailable
from app.bff.monitoring.recording import Recording
from app.bff.settings.models import BffSettings
from app.bff.settings.tracing import wants_traces
from app.bff.telemetry import observer
from app.bff.telemetry.metrics import Metrics, Snapshot, merged
from app.bff.telemetry.shared import SharedSnapshots

_SHARE_EVERY_SECONDS = 1
_COUNT_EVERY_SECONDS = 15  # the revocations in the store, which is asked for this alone
_CLOSE_SECONDS = 5  # for spans that are not sent yet


class Telemetry:
    """Metrics if BFF_METRICS_PORT is set, traces if OTEL_… variables name a collector.

    Each process shares what it has counted once a second. Any of them answers a scrape, for all: its own
    counts are those of this moment. Counts go on where the process before has left them; its gauges end
    with it. Raises OSError if the port is taken, UnicodeError for an address that is none.
    """

    def __init__(self, settings: BffSettings, *, processes: int) -> None:
        self._settings = settings
        self._traces = wants_traces(os.environ)
        self._shared: SharedSnapshots | None = None
        if settings.metrics_port:
            self._shared = SharedSnapshots(processes)
            self._listeners = bind_sockets(settings.metrics_port, settings.metrics_address)

    @asynccontextmanager
    async def of(self, number: int) -> AsyncIterator[Recording]:
        """Switch telemetry on in the process of this number, until the block is left."""
        metrics = Metrics(self._shared.earlier(number)) if self._shared else None
        async with AsyncExitStack() as running:
            traces = None
            if self._traces:
                from app.bff.telemetry.traces import traces_of

                traces = traces_of(self._settings)
                traces.be_global()
                running.push_async_callback(asyncio.to_thread, traces.close, within_seconds=_CLOSE_SECONDS)
            recording = Recording(metrics, traces)
            running.enter_context(observer.installed(recording))
            if metrics and self._shared:
                await running.enter_async_context(self._sharing(recording, metrics, self._shared, number))
            yield recording

    @asynccontextmanager
    async def _sharing(
        self, recording: Recording, metrics: Metrics, shared: SharedSnapshots, number: int
    ) -> AsyncIterator[None]:
        from app.bff.monitoring.endpoint import serving

        def share() -> None:
            shared.write(number, metrics.snapshot())

        def all_counted() -> Snapshot:
            share()
            return merged(shared.all())

        share()
        task = asyncio.create_task(_share_again_and_again(recording, share))
        try:
            async with serving(self._listeners, all_counted):
                yield
        finally:
            task.cancel()
            share()


async def _share_again_and_again(recording: Recording, share: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    count_at = loop.time()
    while True:
        share()
        if recording.outbox is not None and loop.time() >= count_at:
            count_at = loop.time() + _COUNT_EVERY_SECONDS
            with suppress(StoreUnavailable):  # it has been logged
                recording.revocations_pending = await recording.outbox.count()
        await asyncio.sleep(_SHARE_EVERY_SECONDS)
