"""Telemetry of the processes at one address: prepared before they are forked, switched on in each."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from socket import socket
from typing import TYPE_CHECKING
from uuid import uuid4

from tornado.netutil import bind_sockets

from app.bff.errors import StoreUnavailable
from app.bff.monitoring.recording import Recording
from app.bff.settings.models import BffSettings
from app.bff.settings.otlp import wants_pushed_metrics, wants_traces
from app.bff.telemetry import observer
from app.bff.telemetry.metrics import Metrics, Snapshot, merged
from app.bff.telemetry.shared import SharedSnapshots

if TYPE_CHECKING:  # the extra `tracing` may not be installed
    from app.bff.telemetry.traces import Traces

_SHARE_EVERY_SECONDS = 1
_COUNT_EVERY_SECONDS = 15  # the revocations in the store, which is asked for this alone
_CLOSE_SECONDS = 5  # for what is not sent yet


class Telemetry:
    """Metrics if BFF_METRICS_PORT is set; metrics and traces by OTLP if OTEL_… variables ask for them.

    Each process shares what it has counted once a second. Any of them answers a scrape, for all: its own
    counts are those of this moment. Counts go on where the process before has left them; its gauges end
    with it. By OTLP each sends its own. Raises OSError if the port is taken, UnicodeError for an address that
    is none.
    """

    def __init__(self, settings: BffSettings, *, processes: int) -> None:
        self._settings = settings
        self._started_at = time.time_ns()
        self._instances = [str(uuid4()) for _ in range(processes)]  # in whose place a process counts on
        self._traces, self._pushes = wants_traces(os.environ), wants_pushed_metrics(os.environ)
        self._listeners: list[socket] = []
        if settings.metrics_port:
            self._listeners = bind_sockets(settings.metrics_port, settings.metrics_address)
        self._shared = SharedSnapshots(processes) if settings.metrics_port or self._pushes else None
        self._load()

    def _load(self) -> None:
        """Import what is needed, before the fork: processes share it, and the garbage collector skips it."""
        if self._listeners:
            import app.bff.monitoring.endpoint
        if self._pushes:
            import app.bff.telemetry.pushing
        if self._traces:
            import app.bff.telemetry.traces  # noqa: F401

    @asynccontextmanager
    async def of(self, number: int) -> AsyncIterator[Recording]:
        """Switch telemetry on in the process of this number, until the block is left."""
        metrics = Metrics(self._shared.earlier(number)) if self._shared else None
        async with AsyncExitStack() as running:
            recording = Recording(metrics, self._traced(number, running) if self._traces else None)
            running.enter_context(observer.installed(recording))
            if metrics and self._shared:
                share = _Sharing(recording, metrics, self._shared, number)
                await running.enter_async_context(share.running())
                if self._pushes:
                    await running.enter_async_context(self._pushing(metrics, number))
                if self._listeners:
                    from app.bff.monitoring.endpoint import serving

                    await running.enter_async_context(serving(self._listeners, share.all_counted))
            yield recording

    def _traced(self, number: int, running: AsyncExitStack) -> Traces:
        from app.bff.telemetry.resource import resource_of
        from app.bff.telemetry.traces import traces_of

        traces = traces_of(self._settings, resource_of(self._settings.app_name, self._instances[number]))
        traces.be_global()
        running.push_async_callback(asyncio.to_thread, traces.close, within_seconds=_CLOSE_SECONDS)
        return traces

    @asynccontextmanager
    async def _pushing(self, metrics: Metrics, number: int) -> AsyncIterator[None]:
        """Send metrics again and again, and what is counted by the end."""
        from app.bff.telemetry.pushing import Pusher, interval_seconds
        from app.bff.telemetry.resource import resource_of

        resource = resource_of(self._settings.app_name, self._instances[number])
        pusher = Pusher(resource, started_at=self._started_at)
        seconds = interval_seconds(os.environ)

        async def push_again_and_again() -> None:
            while True:
                await asyncio.sleep(seconds)
                pusher.push(metrics.snapshot())

        task = asyncio.create_task(push_again_and_again())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.to_thread(pusher.close, metrics.snapshot(), within_seconds=_CLOSE_SECONDS)


class _Sharing:
    """Shares what this process has counted with the others."""

    def __init__(self, recording: Recording, metrics: Metrics, shared: SharedSnapshots, number: int) -> None:
        self._recording = recording
        self._metrics = metrics
        self._shared = shared
        self._number = number

    def all_counted(self) -> Snapshot:
        """Return what all processes have counted, this one by now."""
        self._share()
        return merged(self._shared.all())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._share()
        task = asyncio.create_task(self._share_again_and_again())
        try:
            yield
        finally:
            task.cancel()
            self._share()

    def _share(self) -> None:
        self._shared.write(self._number, self._metrics.snapshot())

    async def _share_again_and_again(self) -> None:
        count_at = 0.0
        while True:
            self._share()
            outbox, now = self._recording.outbox, time.monotonic()
            if outbox is not None and now >= count_at:
                count_at = now + _COUNT_EVERY_SECONDS
                with suppress(StoreUnavailable):  # it has been logged
                    self._recording.revocations_pending = await outbox.count()
            await asyncio.sleep(_SHARE_EVERY_SECONDS)
