"""Whether traces are sent, and what their OpenTelemetry variables must say. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_EXPORTER = "OTEL_TRACES_EXPORTER"
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def wants_traces(environ: Mapping[str, str]) -> bool:
    """Whether a collector is named, and neither the SDK nor its exporter is switched off."""
    is_off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporter = environ.get(_EXPORTER, "").strip()
    named = any(environ.get(name, "").strip() for name in _ENDPOINTS)
    return not is_off and exporter != "none" and (named or bool(exporter))


def tracing_mistakes(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each mistake in the variables, if traces are wanted."""
    if not wants_traces(environ):
        return
    if environ.get(_EXPORTER, "otlp").strip() not in ("otlp", ""):
        yield f"{_EXPORTER}: must be otlp or none"
    for name in _PROTOCOLS:
        if environ.get(name, "http/protobuf").strip() not in ("http/protobuf", ""):
            yield f"{name}: must be http/protobuf"
    if missing := missing_extra("opentelemetry.exporter.otlp.proto.http", "tracing"):
        name = next((name for name in (*_ENDPOINTS, _EXPORTER) if environ.get(name)), _EXPORTER)
        yield f"{name}: {missing}"


def missing_extra(module: str, extra: str) -> str:
    """Return what to install if the module of an extra is not there, else nothing."""
    try:
        found = find_spec(module)
    except ModuleNotFoundError:  # of its package
        found = None
    return "" if found else f"needs the extra `{extra}`: pip install '.[{extra}]'"
