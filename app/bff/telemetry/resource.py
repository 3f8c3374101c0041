"""Which process telemetry comes from, as OTLP describes it. Needs the extra `tracing`."""

from __future__ import annotations

from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, OTELResourceDetector, Resource


def resource_of(service: str, instance: str) -> Resource:
    """Return the resource; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come first.

    It has no more than that: a command line, say, may hold a secret.
    """
    ours = Resource({SERVICE_NAME: service, SERVICE_INSTANCE_ID: instance})
    return ours.merge(OTELResourceDetector().detect())
