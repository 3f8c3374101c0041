"""Spans, by OTLP/HTTP to a collector, and the trace context of W3C. Needs the extra `tracing`.

A recorded span takes some 0.2 ms of processor time in all. So a process records only so many traces a second,
unless OTEL_TRACES_SAMPLER says otherwise; of the other requests only the context is sent on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextvars import ContextVar, Token
from random import getrandbits
from typing import Any, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
)
from opentelemetry.trace.propagation import set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.bff.budget import Budget
from app.bff.settings.models import BffSettings
from app.bff.telemetry import logs

TRACEPARENT = "traceparent"
SAMPLER = "OTEL_TRACES_SAMPLER"
_OF_OTHERS = ("tracestate", "baggage")  # they belong to a trace that is not sent on
_NO_CONTEXT = Context()
_FAILED = Status(StatusCode.ERROR)  # without a description: that of an exception may be what a browser sent

Description = tuple[str, Mapping[str, str | int]]  # the name of a span, and its attributes


class Traces:
    """The tracer of this process. `exporter` is by default what the standard OTEL_… variables describe.

    `limit` is part of the `sampler`; without a sampler OTEL_TRACES_SAMPLER decides.
    """

    def __init__(
        self,
        resource: Resource,
        *,
        sampler: Sampler | None = None,
        limit: RateLimited | None = None,
        exporter: SpanExporter | None = None,
    ) -> None:
        self.provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
        self._limit = limit
        self._processor = BatchSpanProcessor(exporter or OTLPSpanExporter())
        self.provider.add_span_processor(self._processor)
        self._tracer = self.provider.get_tracer("app.bff")
        self._propagator = TraceContextTextMapPropagator()

    def begin_request(
        self, sent: Mapping[str, str] | None, describe: Callable[..., Description], request: Any
    ) -> Span | None:
        """Begin the span of a request, in whose context everything is from now on; None: it is not recorded.

        `sent` are its headers, if they come from a trusted proxy: then its trace goes on. `describe` returns
        the name of the span and its attributes.
        """
        goes_on = sent is not None and TRACEPARENT in sent
        if self._limit is not None and not goes_on and not self._limit.grant():
            ids = f"{getrandbits(192):048x}"
            if _unrecorded.get() is None:
                attach(_UNRECORDED)
            _unrecorded.set(f"00-{ids[:32]}-{ids[32:]}-00")
            logs.trace_id.set(ids[:32])
            return None
        parent = self._propagator.extract(sent, _NO_CONTEXT) if sent and goes_on else _NO_CONTEXT
        name, attributes = describe(request)
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes)
        _enter(span)
        return span

    def begin_call(
        self, headers: MutableMapping[str, str], describe: Callable[..., Description], *call: Any
    ) -> Span | None:
        """Begin the span of a call out, if the current trace is recorded; `headers` get the context.

        `describe` returns the name of the span and its attributes. A call in no trace, of a job in the
        background, begins one.
        """
        for name in _OF_OTHERS:  # what a browser has sent
            if name in headers:
                del headers[name]
        if header := _unrecorded.get():
            headers[TRACEPARENT] = header
            return None
        current = trace.get_current_span()
        if not current.is_recording() and current.get_span_context().is_valid:  # or not any more
            _inject(current.get_span_context(), headers)
            return None
        name, attributes = describe(*call)
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        _inject(span.get_span_context(), headers)
        return span

    def begin_operation(self, describe: Callable[..., Description], *operation: str) -> Span | None:
        """Begin the span of a database operation, if the current trace is recorded.

        Outside of one there is none: the store is polled every second.
        """
        if _unrecorded.get() or not trace.get_current_span().is_recording():
            return None
        name, attributes = describe(*operation)
        return self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)

    def enter_work(self, name: str, *, apart: bool = False) -> tuple[Span, _Entered]:
        """Begin the span of work that no request waits for alone; return it and what `leave` needs.

        `apart`: it begins a trace of its own, with a link to the current span.
        """
        current = trace.get_current_span().get_span_context()
        links: Sequence[Link] = [Link(current)] if apart and current.is_valid else []
        parent = _NO_CONTEXT if apart else None
        span = self._tracer.start_span(name, parent, SpanKind.INTERNAL, links=links)
        return span, _enter(span)

    def leave(self, span: Span, entered: _Entered, *, failed: str | None = None) -> None:
        """End work; `failed` is the name of its error."""
        detach(entered.context)
        logs.trace_id.reset(entered.trace_id)
        _unrecorded.reset(entered.unrecorded)
        self.end(span, error=failed or "")

    def end(self, span: Span, *, status: int = 0, error: str = "") -> None:
        """End a span with the status of the response, if there is one, and the type of its error."""
        if span.is_recording():
            if status:
                span.set_attribute("http.response.status_code", status)
            if error:
                span.set_attribute("error.type", error)
                span.set_status(_FAILED)
        span.end()

    def be_global(self) -> None:
        """Let spans that the application makes by OpenTelemetry's API be sent, too."""
        trace.set_tracer_provider(self.provider)

    def link(self, context: SpanContext) -> None:
        """Link the current span to another one."""
        trace.get_current_span().add_link(context)

    def close(self, *, within_seconds: float) -> None:
        """Send what is left, if the collector answers in time. Blocks."""
        closing = threading.Thread(target=self.provider.shutdown, daemon=True)
        closing.start()
        closing.join(within_seconds)


class RateLimited(Sampler):
    """Records at most `per_second` traces a second, and as many at once after a pause."""

    def __init__(self, per_second: int) -> None:
        self._pause_seconds = 1 / per_second
        self._budget = Budget(per_second, seconds=self._pause_seconds, clock=time.monotonic)
        self._is_granted = False
        self._dry_until = 0.0  # by the monotonic clock: the budget need not be asked

    def grant(self) -> bool:
        """Return whether the trace that begins next is recorded: if not, the SDK need not be asked."""
        now = time.monotonic()
        if now < self._dry_until:
            return False
        self._is_granted = self._budget.take()
        if not self._is_granted:
            self._dry_until = now + self._pause_seconds / 4
        return self._is_granted

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        granted, self._is_granted = self._is_granted or self._budget.take(), False
        return SamplingResult(Decision.RECORD_AND_SAMPLE if granted else Decision.DROP)

    def get_description(self) -> str:
        return "RateLimited"


def traces_of(settings: BffSettings, resource: Resource) -> Traces:
    """Return the tracer of this process.

    Unless OTEL_TRACES_SAMPLER names a sampler, the decision of a trusted proxy is followed, and of the traces
    that begin here some are recorded each second.
    """
    if SAMPLER in os.environ:
        return Traces(resource)
    limit = RateLimited(settings.traces_per_second)
    return Traces(resource, sampler=ParentBased(limit), limit=limit)


# The `traceparent` of the current request if that is not recorded: it costs its ids, and is sent on.
_unrecorded: ContextVar[str | None] = ContextVar("unrecorded", default=None)


class _Unrecorded(NonRecordingSpan):
    """Such a request, as OpenTelemetry's API sees it: one object for all."""

    def get_span_context(self) -> SpanContext:
        header = _unrecorded.get()
        if header is None:
            return INVALID_SPAN_CONTEXT
        _, trace_id, span_id, _ = header.split("-")
        return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False)


_UNRECORDED = set_span_in_context(_Unrecorded(INVALID_SPAN_CONTEXT), _NO_CONTEXT)


class _Entered(NamedTuple):
    context: Any
    trace_id: Token[str | None]
    unrecorded: Token[str | None]


def _enter(span: Span) -> _Entered:
    """Make the span the current one; return what makes it the earlier one again."""
    trace_id = f"{span.get_span_context().trace_id:032x}"
    context = attach(set_span_in_context(span, _NO_CONTEXT))
    return _Entered(context, logs.trace_id.set(trace_id), _unrecorded.set(None))


def _inject(context: SpanContext, headers: MutableMapping[str, str]) -> None:
    headers[TRACEPARENT] = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    if context.trace_state:
        headers["tracestate"] = context.trace_state.to_header()
