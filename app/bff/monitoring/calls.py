"""Calls out that are counted and traced: HTTP requests of named clients and to the provider, MongoDB."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Self

from app.bff.telemetry import instruments as metric
from app.bff.telemetry.metrics import MAX_LABELS, Metrics

if TYPE_CHECKING:  # the extra `tracing` may not be installed
    from app.bff.telemetry.traces import Traces

Attributes = Mapping[str, str | int]
_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"}
)
_OTHER_METHOD = "_OTHER"  # whatever a browser has made up


def method_of(method: str | None) -> str:
    return method if method in _METHODS else _OTHER_METHOD


class Timed:
    """A call or operation that has begun."""

    __slots__ = ("_began", "_of", "_span", "_started", "status")

    def __init__(self, of: Calls | Operations, began: tuple[Any, ...], span: Any) -> None:
        self._of = of
        self._began = began
        self._span = span
        self._started = time.perf_counter()
        self.status = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        of = self._of
        if of.metrics is not None:
            seconds, key = time.perf_counter() - self._started, (*self._began, self.status, kind)
            try:
                buckets = of.known[key]
            except KeyError:
                buckets = of.buckets(of.metrics, *key)
                if len(of.known) < MAX_LABELS:
                    of.known[key] = buckets
            buckets[bisect_left(of.boundaries, seconds)] += 1
            buckets[-1] += seconds
        if self._span is not None:
            assert of.traces
            of.traces.end(self._span, status=self.status, error=_error(self.status, kind))


def _error(status: int, kind: type[BaseException] | None) -> str:
    """Return `error.type`; empty if there is none."""
    return kind.__name__ if kind else str(status) if status >= 400 else ""


class _NotTimed(Timed):
    """Stands for all of which neither metrics nor a span are made."""

    def __init__(self) -> None:
        self.status = 0

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        pass


_NOT_TIMED = _NotTimed()


class Calls:
    """HTTP requests of one client."""

    boundaries = metric.CALLS.boundaries

    def __init__(
        self, metrics: Metrics | None, traces: Traces | None, client: str, provider_request: str
    ) -> None:
        self.metrics = metrics
        self.traces = traces
        self.known: dict[tuple[Any, ...], list[float]] = {}  # buckets, by what a call is known by
        self._client = client
        self._provider_request = provider_request

    def begin(
        self, method: str, host: str | None, port: int | None, headers: MutableMapping[str, str]
    ) -> Timed:
        span = None
        if self.traces is not None:
            span = self.traces.begin_call(headers, self._described, method, host, port)
            if span is None and self.metrics is None:
                return _NOT_TIMED
        return Timed(self, (method, host, port), span)

    def _described(self, method: str, host: str | None, port: int | None) -> tuple[str, Attributes]:
        """Return the name of its span, and the attributes."""
        method = method_of(method)
        attributes: dict[str, str | int] = {"http.request.method": method, "bff.client": self._client}
        attributes |= {"server.address": host or "", "server.port": port or 0}
        if self._provider_request:
            attributes["bff.provider.request"] = self._provider_request
        return f"{method} {self._client}", attributes

    def buckets(
        self,
        metrics: Metrics,
        method: str,
        host: str | None,
        port: int | None,
        status: int,
        kind: type[BaseException] | None,
    ) -> list[float]:
        call = (method_of(method), host or "", str(port or ""), str(status or ""), _error(status, kind))
        return metrics.buckets(metric.CALLS, (*call, self._client, self._provider_request))


class Operations:
    """Operations on MongoDB."""

    boundaries = metric.OPERATIONS.boundaries

    def __init__(self, metrics: Metrics | None, traces: Traces | None) -> None:
        self.metrics = metrics
        self.traces = traces
        self.known: dict[tuple[Any, ...], list[float]] = {}

    def begin(self, operation: str, collection: str) -> Timed:
        span = None
        if self.traces is not None:
            span = self.traces.begin_operation(_operation_described, operation, collection)
            if span is None and self.metrics is None:
                return _NOT_TIMED
        return Timed(self, (operation, collection), span)

    def buckets(
        self,
        metrics: Metrics,
        operation: str,
        collection: str,
        status: int,
        kind: type[BaseException] | None,
    ) -> list[float]:
        labels = ("mongodb", collection, operation, _error(status, kind))
        return metrics.buckets(metric.OPERATIONS, labels)


def _operation_described(operation: str, collection: str) -> tuple[str, Attributes]:
    names = {"db.collection.name": collection, "db.operation.name": operation}
    return f"{operation} {collection}", {"db.system.name": "mongodb", **names}
