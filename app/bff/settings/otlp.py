"""Whether telemetry is sent by OTLP, and what OpenTelemetry's variables must say then. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_LIBRARY = "opentelemetry.exporter.otlp.proto.http"


def wants_traces(environ: Mapping[str, str]) -> bool:
    """Whether a collector is named, and neither the SDK nor this exporter is switched off."""
    named = any(_value(environ, name) for name in (_ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
    return _wants(environ, "OTEL_TRACES_EXPORTER", otherwise=named)


def wants_pushed_metrics(environ: Mapping[str, str]) -> bool:
    """Whether metrics are sent as well: a collector that is named for both may take no metrics."""
    named = bool(_value(environ, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"))
    return _wants(environ, "OTEL_METRICS_EXPORTER", otherwise=named)


def otlp_mistakes(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each mistake in the variables of what is sent."""
    wanted = [
        *(["TRACES"] if wants_traces(environ) else []),
        *(["METRICS"] if wants_pushed_metrics(environ) else []),
    ]
    for signal in wanted:
        if _value(environ, f"OTEL_{signal}_EXPORTER") not in ("otlp", ""):
            yield f"OTEL_{signal}_EXPORTER: must be otlp or none"
        if _value(environ, f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") not in ("http/protobuf", ""):
            yield f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL: must be http/protobuf"
    if wanted and _value(environ, "OTEL_EXPORTER_OTLP_PROTOCOL") not in ("http/protobuf", ""):
        yield "OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf"
    if wanted and (missing := missing_extra(_LIBRARY, "tracing")):
        yield f"{_what_asks(environ, wanted)}: {missing}"


def _wants(environ: Mapping[str, str], exporter: str, *, otherwise: bool) -> bool:
    is_off = _value(environ, "OTEL_SDK_DISABLED").lower() == "true"
    chosen = _value(environ, exporter)
    return not is_off and chosen != "none" and (bool(chosen) or otherwise)


def _what_asks(environ: Mapping[str, str], signals: list[str]) -> str:
    """Return the variable to blame."""
    names = (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT" for signal in signals)
    candidates = [_ENDPOINT, *names, *(f"OTEL_{signal}_EXPORTER" for signal in signals)]
    return next(name for name in candidates if _value(environ, name))


def _value(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, "").strip()


def missing_extra(module: str, extra: str) -> str:
    """Return what to install if the module of an extra is not there, else nothing."""
    try:
        found = find_spec(module)
    except ModuleNotFoundError:  # of its package
        found = None
    return "" if found else f"needs the extra `{extra}`: pip install '.[{extra}]'"
