"""Metrics as Prometheus reads them, in its text format or in OpenMetrics. Needs the extra `metrics`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from app.bff.telemetry.instruments import INSTRUMENTS, Instrument, prometheus_label
from app.bff.telemetry.metrics import Snapshot


def exposed(snapshot: Snapshot, accept: str = "") -> tuple[bytes, str]:
    """Return the body and its content type, in the format that the `Accept` header prefers."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(snapshot))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Snapshot(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        for instrument in INSTRUMENTS.values():
            yield _family(instrument, self._snapshot)


def _family(instrument: Instrument, snapshot: Snapshot) -> Metric:
    name, description = instrument.prometheus_name, instrument.description
    names = [prometheus_label(label) for label in instrument.labels]
    if instrument.kind == "histogram":
        histogram = HistogramMetricFamily(name, description, labels=names)
        for labels, buckets in snapshot.histograms.get(instrument.name, {}).items():
            histogram.add_metric(labels, _cumulative(instrument, buckets), buckets[-1])
        return histogram
    family = CounterMetricFamily if instrument.kind == "counter" else GaugeMetricFamily
    series = snapshot.counts if instrument.kind == "counter" else snapshot.gauges
    metric = family(name, description, labels=names)
    at_first = {} if names or instrument.kind == "gauge" else {(): 0.0}
    for labels, value in series.get(instrument.name, at_first).items():
        metric.add_metric(labels, value)
    return metric


def _cumulative(instrument: Instrument, buckets: list[float]) -> list[tuple[str, float]]:
    """Return the upper bound of each bucket, and the number of all up to it."""
    number, found = 0.0, []
    for bound, more in zip((*map(str, map(float, instrument.boundaries)), "+Inf"), buckets, strict=False):
        number += more
        found.append((bound, number))
    return found
