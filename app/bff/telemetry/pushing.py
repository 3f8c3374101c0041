"""Metrics by OTLP/HTTP to a collector. Needs the extra `tracing`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from app.bff.telemetry.instruments import INSTRUMENTS, Instrument
from app.bff.telemetry.metrics import Labels, Snapshot

INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"  # in milliseconds
_INTERVAL_MILLISECONDS = 60_000
_NUMBERS = ("http.response.status_code", "server.port")  # in the semantic conventions; others are text
_SCOPE = InstrumentationScope("app.bff")


def interval_seconds(environ: Mapping[str, str]) -> float:
    """Return how often metrics are sent."""
    try:
        return max(int(environ.get(INTERVAL, "")), 1) / 1000
    except ValueError:
        return _INTERVAL_MILLISECONDS / 1000


class Pusher:
    """Sends what one process has counted since `started_at`, in nanoseconds since the epoch."""

    def __init__(
        self, resource: Resource, *, started_at: int, exporter: MetricExporter | None = None
    ) -> None:
        self._resource = resource
        self._started_at = started_at
        self._exporter = exporter or OTLPMetricExporter()
        self._sending: threading.Thread | None = None

    def push(self, snapshot: Snapshot) -> None:
        """Send it in a thread, unless the one before is still being sent."""
        if self._sending is None or not self._sending.is_alive():
            data = metrics_data(snapshot, self._resource, started_at=self._started_at, now=time.time_ns())
            self._sending = threading.Thread(target=self._exporter.export, args=(data,), daemon=True)
            self._sending.start()

    def close(self, last: Snapshot, *, within_seconds: float) -> None:
        """Send a last one, if the collector answers in time. Blocks."""
        deadline = time.monotonic() + within_seconds
        self._wait_until(deadline)
        self.push(last)
        self._wait_until(deadline)
        self._exporter.shutdown()

    def _wait_until(self, deadline: float) -> None:
        if self._sending is not None:
            self._sending.join(max(deadline - time.monotonic(), 0))


def metrics_data(snapshot: Snapshot, resource: Resource, *, started_at: int, now: int) -> MetricsData:
    """Return a snapshot as OpenTelemetry's SDK represents it. Pure."""
    times = started_at, now
    metrics = [_metric(instrument, snapshot, times) for instrument in INSTRUMENTS.values()]
    scope = ScopeMetrics(_SCOPE, [metric for metric in metrics if metric.data.data_points], "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metric(instrument: Instrument, snapshot: Snapshot, times: tuple[int, int]) -> Metric:
    return Metric(
        instrument.name,
        instrument.description,
        instrument.unit or "1",
        _KINDS[instrument.kind](instrument, snapshot, times),
    )


def _counter(instrument: Instrument, snapshot: Snapshot, times: tuple[int, int]) -> Sum:
    points = _points(instrument, snapshot.counts.get(instrument.name, {}), times)
    return Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)


def _gauge(instrument: Instrument, snapshot: Snapshot, times: tuple[int, int]) -> Gauge:
    return Gauge(_points(instrument, snapshot.gauges.get(instrument.name, {}), times))


def _points(
    instrument: Instrument, series: Mapping[Labels, float], times: tuple[int, int]
) -> list[NumberDataPoint]:
    return [
        NumberDataPoint(_attributes(instrument, labels), *times, value) for labels, value in series.items()
    ]


def _histogram(instrument: Instrument, snapshot: Snapshot, times: tuple[int, int]) -> Histogram:
    series = snapshot.histograms.get(instrument.name, {})
    points = [
        HistogramDataPoint(
            _attributes(instrument, labels),
            *times,
            count=int(sum(buckets[:-1])),
            sum=buckets[-1],
            bucket_counts=[int(number) for number in buckets[:-1]],
            explicit_bounds=instrument.boundaries,
            min=None,  # type: ignore[arg-type]  # optional in the protocol, and not known
            max=None,  # type: ignore[arg-type]
        )
        for labels, buckets in series.items()
    ]
    return Histogram(points, AggregationTemporality.CUMULATIVE)


def _attributes(instrument: Instrument, labels: Labels) -> dict[str, str | int]:
    """Return the labels that have a value: an empty one stands for none."""
    return {
        name: int(value) if name in _NUMBERS and value.isdecimal() else value
        for name, value in zip(instrument.labels, labels, strict=True)
        if value
    }


_KINDS: Mapping[str, Callable[[Instrument, Snapshot, tuple[int, int]], Sum | Gauge | Histogram]] = {
    "counter": _counter,
    "gauge": _gauge,
    "histogram": _histogram,
}
