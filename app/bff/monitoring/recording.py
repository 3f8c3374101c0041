"""Telemetry that is switched on: what the engine tells it is counted, traced, or both."""

from __future__ import annotations

import asyncio
import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from tornado.web import Application

from app.bff.errors import (
    ClientRejected,
    CsrfRejected,
    GrantRefused,
    InteractionRequired,
    ProviderUnavailable,
)
from app.bff.handlers.login_outcome import LOGIN_OUTCOMES
from app.bff.monitoring.calls import Attributes, Calls, Operations, method_of
from app.bff.monitoring.routes import note_routes, route_of
from app.bff.proxy.remote_api import RemoteApi
from app.bff.services import Services
from app.bff.sessions.interfaces import Outbox
from app.bff.sessions.session import Reason
from app.bff.telemetry import instruments as metric
from app.bff.telemetry.instruments import HTTP_SECONDS, Instrument
from app.bff.telemetry.metrics import MAX_LABELS, Labels, Metrics
from app.bff.telemetry.observer import Observer
from app.bff.web.forwarded import is_trusted

if TYPE_CHECKING:  # the extra `tracing` may not be installed
    from app.bff.telemetry.traces import Traces

# The outcome of a request with a refresh token, by the first class that its error has.
_REFUSED_REFRESHES = {
    GrantRefused: "invalid_grant",
    ClientRejected: "client_rejected",
    InteractionRequired: "interaction_required",
    ProviderUnavailable: "provider_unavailable",
}
_KNOWN_VALUES = {
    metric.LOGINS: LOGIN_OUTCOMES,
    metric.SESSIONS_ENDED: [reason.value for reason in Reason if reason is not Reason.EXPIRED],
    metric.REFRESHES: ["refreshed", *_REFUSED_REFRESHES.values(), "error"],
    metric.AUDIT_EVENTS: ["sign_in", "step_up", "sign_out", "refusal"],
    metric.REFUSALS: [CsrfRejected.code],
}
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_BREAKER_STATES = ("closed", "open", "half_open")

# Since when the refresh of this task waits for the lease.
_held_since: ContextVar[float | None] = ContextVar("held_since", default=None)


class Recording(Observer):
    """Counts into `metrics`, and traces with `traces`; either may be missing."""

    is_on = True

    def __init__(self, metrics: Metrics | None, traces: Traces | None) -> None:
        self.metrics = metrics
        self.traces = traces
        self.operations = Operations(metrics, traces)
        self.outbox: Outbox | None = None  # once there are services
        self.revocations_pending: int | None = None  # of the store, when it was last counted
        self._scheme = "http"
        self._answered: dict[tuple[str, str, int], list[float]] = {}
        for counter, values in _KNOWN_VALUES.items():  # a counter that appears with 1 has no rate
            for value in values:
                self._count(counter, value, number=0)
        # The span context of each refresh that runs.
        self._refreshes: WeakKeyDictionary[asyncio.Task[Any], Any] = WeakKeyDictionary()

    # Requests.

    def serves(self, application: Application, services: Services) -> None:
        self._scheme = "https" if services.settings.https else "http"
        note_routes(application)
        find_handler = application.find_handler

        traces, proxies = self.traces, services.settings.trusted_proxies

        def find(request: Any, **kwargs: Any) -> Any:
            """Find the delegate; begin the span in the context of the connection: tasks of it inherit it."""
            delegate: Any = find_handler(request, **kwargs)
            is_remote = type(delegate) is RemoteApi
            request.route = f"{delegate.api.path}/*" if is_remote else route_of(request, delegate)
            request.span = None
            if traces is not None:
                sent = request.headers if proxies and is_trusted(request.remote_ip or "", proxies) else None
                request.span = traces.begin_request(sent, self._described, request)
            return delegate

        application.find_handler = find  # type: ignore[method-assign]
        self.outbox = services.outbox
        if self.metrics:
            self.metrics.watch(lambda: self._gauges(services))

    def _described(self, request: Any) -> tuple[str, Attributes]:
        """Return the name of its span, and the attributes."""
        method, route = method_of(request.method), request.route
        names = {"http.request.method": method, "http.route": route, "url.scheme": self._scheme}
        return f"{method} {route}".strip(), names

    def answered(self, request: Any, status: int, seconds: float) -> None:
        if self.metrics is not None:
            key = request.method, request.route, status
            try:
                buckets = self._answered[key]
            except KeyError:
                buckets = self._buckets(self.metrics, *key)
            buckets[bisect_left(HTTP_SECONDS, seconds)] += 1
            buckets[-1] += seconds
        if request.span is not None:
            assert self.traces
            self.traces.end(request.span, status=status, error=_error(status))

    def _buckets(self, metrics: Metrics, method: str, route: str, status: int) -> list[float]:
        labels = (method_of(method), route, str(status), self._scheme, _error(status))
        buckets = metrics.buckets(metric.REQUESTS, labels)
        if len(self._answered) < MAX_LABELS:  # of methods there may be any number
            self._answered[method, route, status] = buckets
        return buckets

    def refused(self, code: str) -> None:
        self._count(metric.REFUSALS, code)

    def login_ended(self, outcome: str) -> None:
        self._count(metric.LOGINS, outcome)

    # Calls out.

    def calls_of(self, client: str, *, provider_request: str = "") -> Calls:
        return Calls(self.metrics, self.traces, client, provider_request)

    # Sessions and their tokens.

    def audited(self, event: str) -> None:
        self._count(metric.AUDIT_EVENTS, event)

    def session_started(self) -> None:
        self._count(metric.SESSIONS_STARTED)

    def session_ended(self, reason: str) -> None:
        self._count(metric.SESSIONS_ENDED, reason)

    @contextmanager
    def refreshing(self) -> Iterator[None]:
        _held_since.set(None)
        with self._working("refresh", apart=True):
            try:
                yield
            finally:
                self.lease_is_acquired()

    @contextmanager
    def granting(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            outcomes = (name for kind, name in _REFUSED_REFRESHES.items() if isinstance(error, kind))
            self._count(metric.REFRESHES, next(outcomes, "error"))
            raise
        self._count(metric.REFRESHES, "refreshed")

    def lease_is_held(self) -> None:
        if _held_since.get() is None:
            _held_since.set(time.perf_counter())

    def lease_is_acquired(self) -> None:
        since = _held_since.get()
        if since is not None and self.metrics:
            self.metrics.record(metric.LEASE_WAITS, (), time.perf_counter() - since)
        _held_since.set(None)

    @contextmanager
    def waiting_for(self, refresh: asyncio.Task[Any]) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            if self.metrics:
                self.metrics.record(metric.REFRESH_WAITS, (), time.perf_counter() - started)
            if self.traces and refresh in self._refreshes:
                self.traces.link(self._refreshes[refresh])

    # Work in the background.

    def working(self, name: str) -> AbstractContextManager[None]:
        return self._working(name)

    @contextmanager
    def _working(self, name: str, *, apart: bool = False) -> Iterator[None]:
        if self.traces is None:
            yield
            return
        span, token = self.traces.enter_work(name, apart=apart)
        task = asyncio.current_task()
        if apart and task is not None:
            self._refreshes[task] = span.get_span_context()
        failed = None
        try:
            yield
        except BaseException as error:
            failed = type(error).__name__
            raise
        finally:
            self.traces.leave(span, token, failed=failed)

    # Gauges.

    def _gauges(self, services: Services) -> Iterator[tuple[Instrument, Labels, float]]:
        requests = [each.request for each in services.in_flight_requests if hasattr(each, "request")]
        for method, number in Counter(method_of(each.method) for each in requests).items():
            yield metric.ACTIVE_REQUESTS, (method, self._scheme), number
        for kind, state in services.oidc.breaker_states.items():
            for each in _BREAKER_STATES:
                yield metric.BREAKERS, (kind, each), int(each == state)
        if self.revocations_pending is not None:
            yield metric.REVOCATIONS_PENDING, (), self.revocations_pending
        yield metric.EVENT_STREAMS, (), services.event_streams.taken
        yield metric.SOCKETS, (), services.sockets.taken
        yield metric.PROCESSES, (), 1
        with suppress(OSError):  # not Linux
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            yield metric.MEMORY, (), pages * _PAGE_BYTES

    def _count(self, counter: Instrument, *labels: str, number: int = 1) -> None:
        if self.metrics:
            self.metrics.add(counter, labels, number)


def _error(status: int) -> str:
    return str(status) if status >= 500 else ""
