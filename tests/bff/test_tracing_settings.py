"""When traces are sent, by the standard variables of OpenTelemetry, and which of them are mistakes."""

from __future__ import annotations

import pytest

from app.bff.settings.tracing import missing_extra, tracing_mistakes, wants_traces

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "shop"}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, False),
    ],
)
def test_traces_are_sent_if(environ: dict[str, str], wanted: bool):
    assert wants_traces(environ) is wanted


@pytest.mark.parametrize(
    ("environ", "mistakes"),
    [
        (ENDPOINT, []),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, []),
        (
            {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            ["OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf"],
        ),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, ["OTEL_TRACES_EXPORTER: must be otlp or none"]),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, []),  # of another program: traces are off here
    ],
)
def test_what_cannot_be_done_is_a_mistake(environ: dict[str, str], mistakes: list[str]):
    assert list(tracing_mistakes(environ)) == mistakes


def test_an_extra_that_is_installed_is_not_missing():
    assert missing_extra("asyncio.events", "metrics") == ""
    assert missing_extra("no_such.module", "metrics") == "needs the extra `metrics`: pip install '.[metrics]'"
