"""Spans through the real application: which are below which, what is linked, which context is sent on."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind

from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Provider
from app.bff.handlers.base import BaseHandler
from app.bff.monitoring.recording import Recording
from app.bff.telemetry.logs import JsonFormatter, trace_id
from app.bff.telemetry.observer import installed
from app.bff.telemetry.resource import resource_of
from app.bff.telemetry.traces import RateLimited, Traces
from tests.bff.event_streams import listening
from tests.bff.harness import (
    Browser,
    Clock,
    RunningApp,
    last_request_headers,
    new_browser,
    running_app,
    wait_until,
)
from tests.bff.websocket_clients import open_websocket

RECORDED, NOT_RECORDED = "03", "02"  # the other bit: the id of the trace is random (Level 2 §3.2.2.5)
PARENT = f"00-{'a1' * 16}-{'b2' * 8}-01"


class Spans:
    """What was exported."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.traces = Traces(resource_of("test", "1"), exporter=self._exporter, **options)

    @property
    def all(self) -> list[ReadableSpan]:
        self.traces.provider.force_flush()
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        [span] = [span for span in self.all if span.name == name]
        return span

    def below(self, parent: ReadableSpan) -> set[str]:
        """The names of its children."""
        assert parent.context
        return {
            span.name for span in self.all if span.parent and span.parent.span_id == parent.context.span_id
        }

    def clear(self) -> None:
        self.traces.provider.force_flush()
        self._exporter.clear()


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    yield spans
    spans.traces.close(within_seconds=5)


@asynccontextmanager
async def traced_app(
    spans: Spans, provider: Provider, api: DemoApi, clock: Clock, **settings: Any
) -> AsyncIterator[RunningApp]:
    with installed(Recording(None, spans.traces)):
        async with running_app(provider, api, clock=clock, **settings) as app:
            yield app


@pytest.fixture
async def app(spans: Spans, provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    async with traced_app(spans, provider, api, clock) as app:
        yield app


async def idle(app: RunningApp) -> None:
    await wait_until(lambda: not app.services.in_flight_requests)


async def test_a_proxied_request_is_one_span_and_its_call_another_whose_context_the_api_gets(
    app: RunningApp, browser: Browser, spans: Spans, api: DemoApi
):
    await browser.login()
    spans.clear()

    await browser.fetch("/api/echo/a-path?a=query")
    await idle(app)

    request, call = spans.named("GET /api/*"), spans.named("GET apiClient")
    assert (request.kind, call.kind) == (SpanKind.SERVER, SpanKind.CLIENT)
    assert request.parent is None
    assert request.context
    assert call.context
    assert call.parent
    assert call.parent.span_id == request.context.span_id
    assert last_request_headers(api)["traceparent"] == (
        f"00-{request.context.trace_id:032x}-{call.context.span_id:016x}-{RECORDED}"
    )
    assert dict(request.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/api/*",
        "url.scheme": "http",
        "http.response.status_code": 200,
    }


async def test_a_callback_is_one_span_above_all_its_requests_to_the_provider(
    app: RunningApp, browser: Browser, spans: Spans
):
    link = await browser.choose(await browser.start_login())
    spans.clear()

    await browser.get(link)
    await idle(app)

    callback = spans.named("GET /bff/callback")
    assert spans.below(callback) == {"POST provider", "GET provider"}  # the token; keys and userinfo
    kinds = {(span.attributes or {}).get("bff.provider.request") for span in spans.all}
    assert kinds == {None, "code", "metadata"}


async def test_a_request_that_fails_and_a_call_that_fails_are_errors_without_a_message(
    app: RunningApp, browser: Browser, spans: Spans, api: DemoApi
):
    await browser.login()
    await api.stop()
    spans.clear()

    await browser.fetch("/api/echo")
    await idle(app)

    request, call = spans.named("GET /api/*"), spans.named("GET apiClient")
    assert not request.status.is_ok
    assert not call.status.is_ok
    assert (request.attributes or {})["error.type"] == "502"
    assert (call.attributes or {})["error.type"] == "ClientConnectorError"
    assert [span.status.description for span in (request, call)] == [None, None]
    assert [span.events for span in (request, call)] == [(), ()]


async def test_operations_on_the_database_are_below_the_request_that_waits_for_them(
    mongod: Mongod, provider: Provider, api: DemoApi, clock: Clock, spans: Spans
):
    store = {"session_store": f"{mongod.uri}/traces"}
    async with traced_app(spans, provider, api, clock, **store) as app, new_browser(app) as browser:
        await browser.login()
        other = await signed_in_elsewhere(app)
        spans.clear()

        await asyncio.gather(*(user.fetch("/api/echo") for user in (browser, other) for _ in range(3)))
        await idle(app)

        requests = {
            span.context.span_id for span in spans.all if span.kind is SpanKind.SERVER and span.context
        }
        found = [span for span in spans.all if span.name == "find sessions"]
        parents = {span.parent.span_id for span in found if span.parent}
        assert len(requests) == 6
        assert found
        assert parents <= requests
        await other.http.aclose()


async def signed_in_elsewhere(app: RunningApp) -> Browser:
    browser = Browser(app)
    await browser.login("bob")
    return browser


async def test_a_refresh_is_one_span_that_every_request_which_waited_for_it_is_linked_to(
    app: RunningApp, browser: Browser, provider: Provider, spans: Spans, clock: Clock
):
    await browser.login()
    clock.advance(301)
    spans.clear()

    provider.holds["token"] = asyncio.Event()
    fetching = asyncio.gather(*(browser.fetch("/api/echo") for _ in range(3)))
    await wait_until(lambda: len(app.services.in_flight_requests) == 3)
    for _ in range(50):  # until each of them waits
        await asyncio.sleep(0)
    provider.holds["token"].set()
    await fetching
    await idle(app)

    refresh = spans.named("refresh")
    assert refresh.parent is None
    assert spans.below(refresh) == {"POST provider"}
    requests = [span for span in spans.all if span.name == "GET /api/*"]
    assert len(requests) == 3
    for request in requests:
        assert [link.context.span_id for link in request.links] == [
            refresh.context and refresh.context.span_id
        ]
    assert provider.last_request["token"]["grant_type"] == "refresh_token"


async def test_the_revocation_of_a_token_is_traced_within_its_request_and_in_the_background(
    app: RunningApp, browser: Browser, provider: Provider, spans: Spans, clock: Clock
):
    await browser.login()
    await browser.logout()
    spans.clear()
    clock.advance(61)

    await app.services.revocation.drain_due()

    revocation = spans.named("revocation")
    assert revocation.parent is None
    assert spans.below(revocation) == {"POST provider"}
    assert provider.counts["revoke"] == 1


async def test_event_streams_and_sockets_are_traced_and_the_handshake_with_the_api(
    app: RunningApp, browser: Browser, spans: Spans
):
    await browser.login()
    spans.clear()

    async with listening(browser), open_websocket(browser, "/api/socket"):
        pass
    await idle(app)

    names = [span.name for span in spans.all]
    assert "GET /bff/events" in names
    assert spans.below(spans.named("GET /api/*")) == {"GET apiClient"}
    assert (spans.named("GET /api/*").attributes or {})["http.response.status_code"] == 101


# Where a trace comes from.


@pytest.mark.parametrize("proxies", [["127.0.0.0/8"], []])
async def test_a_trace_goes_on_that_a_trusted_proxy_has_begun_and_no_other(
    proxies: list[str], spans: Spans, provider: Provider, api: DemoApi, clock: Clock
):
    sent = {"traceparent": PARENT, "tracestate": "vendor=opaque", "baggage": "user=alice"}
    async with (
        traced_app(spans, provider, api, clock, trusted_proxies=proxies) as app,
        new_browser(app) as browser,
    ):
        await browser.login()
        spans.clear()
        await browser.fetch("/api/echo", headers=sent)
        await idle(app)

    received, request = last_request_headers(api), spans.named("GET /api/*")
    assert request.context
    assert "baggage" not in received
    if proxies:
        assert request.parent
        assert request.parent.span_id == int("b2" * 8, 16)
        assert received["traceparent"].startswith(f"00-{'a1' * 16}-")
        assert received["tracestate"] == "vendor=opaque"
    else:
        assert request.parent is None
        assert "a1a1" not in received["traceparent"]
        assert "tracestate" not in received


async def test_a_request_that_is_not_recorded_sends_its_trace_on_all_the_same(
    provider: Provider, api: DemoApi, clock: Clock
):
    spans = Spans(sampler=ALWAYS_OFF)
    async with traced_app(spans, provider, api, clock) as app, new_browser(app) as browser:
        await browser.login()
        await browser.fetch("/api/echo")

    assert spans.all == []
    assert last_request_headers(api)["traceparent"].endswith(f"-{NOT_RECORDED}")
    spans.traces.close(within_seconds=5)


async def test_beyond_the_limit_of_a_second_a_request_is_not_recorded_and_its_trace_is_sent_on_and_logged(
    provider: Provider, api: DemoApi, clock: Clock
):
    limit = RateLimited(1)
    assert limit.grant()
    spans = Spans(sampler=ParentBased(limit), limit=limit)
    async with traced_app(spans, provider, api, clock) as app, new_browser(app) as browser:
        with logged() as lines:
            while not (api.last_request and last_request_headers(api)["traceparent"].endswith("-00")):
                await browser.login()
                await browser.fetch("/api/echo")
                await idle(app)

    version, of_request, _, _ = last_request_headers(api)["traceparent"].split("-")
    assert (version, len(of_request)) == ("00", 32)
    assert of_request not in {f"{span.context.trace_id:032x}" for span in spans.all if span.context}
    assert of_request in {line["trace_id"] for line in lines() if line["message"] == "request answered"}
    spans.traces.close(within_seconds=5)


class ShowTrace(BaseHandler):
    def get(self) -> None:
        context = trace.get_current_span().get_span_context()
        self.finish(f"{context.trace_id:032x} {trace_id.get()} {context.trace_flags.sampled}")


async def test_opentelemetrys_api_knows_the_trace_of_a_request_that_is_not_recorded(
    provider: Provider, api: DemoApi, clock: Clock
):
    limit = RateLimited(1)
    spans = Spans(sampler=ParentBased(limit), limit=limit)
    shown: list[list[str]] = []
    async with traced_app(spans, provider, api, clock) as app, new_browser(app) as browser:
        app.tornado.add_handlers(r".*", [("/trace", ShowTrace)])
        async with asyncio.timeout(30):
            while not any(sampled == "False" for *_, sampled in shown):
                shown.append((await browser.get("/trace")).text.split())

    assert all(known == logged for known, logged, _ in shown)
    assert len({known for known, *_ in shown}) == len(shown)
    spans.traces.close(within_seconds=5)


async def test_a_span_of_the_application_is_below_that_of_the_request(
    app: RunningApp, browser: Browser, spans: Spans
):
    class OwnSpan(BaseHandler):
        def get(self) -> None:
            with spans.traces.provider.get_tracer("own").start_as_current_span("own work"):
                self.finish("done")

    app.tornado.add_handlers(r".*", [("/own-span", OwnSpan)])
    await browser.get("/own-span")
    await idle(app)

    own = spans.named("own work")
    assert own.parent
    assert own.parent in [span.context for span in spans.all if span.kind is SpanKind.SERVER]


async def test_while_tracing_is_off_a_header_of_the_browser_is_passed_on_as_any_other(
    provider: Provider, api: DemoApi, clock: Clock
):
    async with running_app(provider, api, clock=clock) as app, new_browser(app) as browser:
        await browser.login()
        await browser.fetch("/api/echo", headers={"traceparent": PARENT})

    assert last_request_headers(api)["traceparent"] == PARENT


def test_no_more_traces_are_begun_in_a_second_than_are_allowed():
    limited = RateLimited(3)

    assert [limited.should_sample().decision.is_sampled() for _ in range(5)] == [True] * 3 + [False] * 2


@contextmanager
def logged() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The lines that the engine logs meanwhile."""
    text = io.StringIO()
    handler, log = logging.StreamHandler(text), logging.getLogger("app.bff")
    handler.setFormatter(JsonFormatter())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield lambda: [json.loads(line) for line in text.getvalue().splitlines()]
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)


async def test_log_lines_carry_the_id_of_the_trace(app: RunningApp, browser: Browser, spans: Spans):
    with logged() as lines:
        await browser.get("/nowhere")
        await browser.fetch("/api/echo")
        await idle(app)

    answered = {line["path"]: line["trace_id"] for line in lines() if line["message"] == "request answered"}
    traced = {span.name: f"{span.context.trace_id:032x}" for span in spans.all if span.context}
    assert answered == {"/nowhere": traced["GET"], "/api/echo": traced["GET /api/*"]}
    assert all(line.get("trace_id") for line in lines() if line["message"] == "request refused")


async def test_work_in_the_background_leaves_no_id_of_a_trace_behind(
    app: RunningApp, browser: Browser, clock: Clock
):
    await browser.login()
    await browser.logout()
    clock.advance(61)

    await app.services.revocation.drain_due()

    assert trace_id.get() is None
