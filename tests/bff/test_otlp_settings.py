"""When traces and metrics are sent, by the standard variables of OpenTelemetry, and which are mistakes."""

from __future__ import annotations

import pytest

from app.bff.settings.otlp import missing_extra, otlp_mistakes, wants_pushed_metrics, wants_traces
from app.bff.telemetry.pushing import interval_seconds

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
OF_METRICS = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:4318/v1/metrics"}


@pytest.mark.parametrize(
    ("environ", "traces", "metrics"),
    [
        ({}, False, False),
        ({"OTEL_SERVICE_NAME": "shop"}, False, False),
        (ENDPOINT, True, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True, False),
        (OF_METRICS, False, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True, False),
        ({**ENDPOINT, "OTEL_METRICS_EXPORTER": "otlp"}, True, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False, False),
        ({**OF_METRICS, "OTEL_METRICS_EXPORTER": "none"}, False, False),
        ({**ENDPOINT, **OF_METRICS, "OTEL_SDK_DISABLED": "True"}, False, False),
    ],
)
def test_what_is_sent(environ: dict[str, str], traces: bool, metrics: bool):
    assert (wants_traces(environ), wants_pushed_metrics(environ)) == (traces, metrics)


@pytest.mark.parametrize(
    ("environ", "mistakes"),
    [
        (ENDPOINT, []),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, []),
        (
            {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            ["OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf"],
        ),
        (
            {**OF_METRICS, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"},
            ["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: must be http/protobuf"],
        ),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, ["OTEL_TRACES_EXPORTER: must be otlp or none"]),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, ["OTEL_METRICS_EXPORTER: must be otlp or none"]),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, []),  # of another program: all is off here
    ],
)
def test_what_cannot_be_done_is_a_mistake(environ: dict[str, str], mistakes: list[str]):
    assert list(otlp_mistakes(environ)) == mistakes


def test_an_extra_that_is_installed_is_not_missing():
    assert missing_extra("asyncio.events", "metrics") == ""
    assert missing_extra("no_such.module", "metrics") == "needs the extra `metrics`: pip install '.[metrics]'"


@pytest.mark.parametrize(("value", "seconds"), [("", 60), ("200", 0.2), ("often", 60), ("0", 0.001)])
def test_metrics_are_sent_as_often_as_the_variable_says(value: str, seconds: float):
    assert interval_seconds({"OTEL_METRIC_EXPORT_INTERVAL": value} if value else {}) == seconds
