"""Calls out that are counted and traced: HTTP requests of named clients and to the provider, MongoDB."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from app.bff.telemetry import instruments as metric
from app.bff.telemetry.metrics import Labels, Metrics

if TYPE_CHECKING:  # the extra `tracing` may not be installed
    from app.bff.telemetry.traces import Traces

_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"}
)
_OTHER_METHOD = "_OTHER"  # whatever a browser has made up


def method_of(method: str | None) -> str:
    return method if method in _METHODS else _OTHER_METHOD


class Timed:
    """A call or operation that has begun."""

    __slots__ = ("_began", "_of", "_span", "_started", "status")

    def __init__(self, of: Calls | Operations, began: Labels, span: Any) -> None:
        self._of = of
        self._began = began
        self._span = span
        self._started = time.perf_counter()
        self.status = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        error = kind.__name__ if kind else str(self.status) if self.status >= 400 else ""
        if self._of.metrics:
            seconds = time.perf_counter() - self._started
            self._of.record(self._of.metrics, self._began, self.status, error, seconds)
        if self._of.traces and self._span is not None:
            self._of.traces.end(self._span, status=self.status, error=error)


class _NotTimed(Timed):
    """Stands for all of which neither metrics nor a span are made."""

    def __init__(self) -> None:
        self.status = 0

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        pass


_NOT_TIMED = _NotTimed()


class Calls:
    """HTTP requests of one client."""

    def __init__(
        self, metrics: Metrics | None, traces: Traces | None, client: str, provider_request: str
    ) -> None:
        self.metrics = metrics
        self.traces = traces
        self._client = client
        self._provider_request = provider_request

    def begin(
        self, method: str, host: str | None, port: int | None, headers: MutableMapping[str, str]
    ) -> Timed:
        method = method_of(method)
        span = None
        if self.traces:
            attributes = partial(self._attributes, method, host or "", port or 0)
            span = self.traces.begin_call(f"{method} {self._client}", attributes, headers)
        if span is None and self.metrics is None:
            return _NOT_TIMED
        return Timed(self, (method, host or "", str(port or "")), span)

    def _attributes(self, method: str, host: str, port: int) -> dict[str, str | int]:
        kind = {"bff.provider.request": self._provider_request} if self._provider_request else {}
        return {
            "http.request.method": method,
            "server.address": host,
            "server.port": port,
            "bff.client": self._client,
            **kind,
        }

    def record(self, metrics: Metrics, began: Labels, status: int, error: str, seconds: float) -> None:
        labels = (*began, str(status) if status else "", error, self._client, self._provider_request)
        metrics.record(metric.CALLS, labels, seconds)


def _operation_attributes(operation: str, collection: str) -> dict[str, str | int]:
    return {
        "db.system.name": "mongodb",
        "db.collection.name": collection,
        "db.operation.name": operation,
    }


class Operations:
    """Operations on MongoDB."""

    def __init__(self, metrics: Metrics | None, traces: Traces | None) -> None:
        self.metrics = metrics
        self.traces = traces

    def begin(self, operation: str, collection: str) -> Timed:
        span = None
        if self.traces:
            attributes = partial(_operation_attributes, operation, collection)
            span = self.traces.begin_operation(f"{operation} {collection}", attributes)
        if span is None and self.metrics is None:
            return _NOT_TIMED
        return Timed(self, ("mongodb", collection, operation), span)

    def record(self, metrics: Metrics, began: Labels, status: int, error: str, seconds: float) -> None:
        metrics.record(metric.OPERATIONS, (*began, error), seconds)
