"""Two workers with metrics and traces on: one scrape for both, and spans that a collector receives."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Client, Provider
from tests.bff.cluster import cluster_settings
from tests.bff.harness import CLIENT_ID, CLIENT_SECRET, Browser, last_request_headers
from tests.bff.scrapes import Scrape
from tests.bff.subprocesses import (
    APPLICATION,
    AppProcess,
    app_settings,
    child_pids,
    free_ports,
    running_process,
    wait_until,
)


class Collector:
    """Takes spans by OTLP/HTTP, as a collector does."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.service_names: set[str] = set()
        self.metrics: dict[tuple[str, str], Metric] = {}  # the latest, by instance and name

    def receive_traces(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.service_names.add(_attributes(resource.resource.attributes)["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def receive_metrics(self, body: bytes) -> None:
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            instance = _attributes(resource.resource.attributes)["service.instance.id"]
            for scope in resource.scope_metrics:
                self.metrics |= {(instance, metric.name): metric for metric in scope.metrics}

    def number(self, name: str, **labels: str) -> int:
        """What the histograms of this name have counted, in all instances."""
        return sum(
            point.count
            for (_, found), metric in self.metrics.items()
            for point in metric.histogram.data_points
            if found == name and labels.items() <= _attributes(point.attributes).items()
        )

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        collector = self

        class Take(RequestHandler):
            def post(self, signal: str) -> None:
                take = {"traces": collector.receive_traces, "metrics": collector.receive_metrics}
                take[signal](self.request.body)
                self.set_header("Content-Type", "application/x-protobuf")
                self.finish(b"")

        [socket] = bind_sockets(0, "127.0.0.1")
        server = HTTPServer(Application([("/v1/(traces|metrics)", Take)], log_function=lambda handler: None))
        server.add_sockets([socket])
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
        server.stop()
        await server.close_all_connections()

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def children(self, parent: Span) -> set[str]:
        return {
            span.name
            for span in self.spans
            if span.trace_id == parent.trace_id and span.parent_span_id == parent.span_id
        }


def _attributes(attributes: Iterable[KeyValue]) -> dict[str, str]:
    return {each.key: each.value.string_value or str(each.value.int_value) for each in attributes}


async def scraped(port: int) -> Scrape:
    async with httpx2.AsyncClient() as http:
        response = await http.get(f"http://127.0.0.1:{port}/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    return Scrape(response.text)


async def says(port: int, name: str, value: float, **labels: str) -> None:
    async def does() -> bool:
        return (await scraped(port)).value(name, **labels) == value

    await wait_until(does)


async def fetched(app: AppProcess, browser: Browser, times: int) -> None:
    """Fetch over connections of their own, which the kernel spreads over the workers."""
    for _ in range(times):
        async with httpx2.AsyncClient(headers={"X-CSRF": "1", "Connection": "close"}) as http:
            cookie = f"bff={browser.cookie('bff')}"
            assert (await http.get(f"{app.url}/api/echo", headers={"Cookie": cookie})).status_code == 200


APPLICATION_WITH_A_SPAN = """
from opentelemetry import trace
from app.bff import BaseHandler, run, url
from tests.bff.application.main import ROUTES
from tests.bff.application.settings import Settings

class OwnSpan(BaseHandler):
    def get(self):
        with trace.get_tracer("own").start_as_current_span("own work"):
            self.finish("done")

raise SystemExit(run(Settings, [url("/own-span", OwnSpan), *ROUTES]))
"""


async def test_two_workers_are_one_target_and_their_spans_reach_a_collector(
    mongod: Mongod, provider: Provider, api: DemoApi, tmp_path: Path
):
    collector, metrics_port = Collector(), free_ports()
    async with collector.listening() as endpoint:
        settings = cluster_settings(
            mongod,
            api=api.base_url,
            BFF_PROCESSES=2,
            BFF_ISSUER=provider.issuer,
            BFF_METRICS_PORT=metrics_port,
            BFF_TRACES_PER_SECOND=1000,
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_SERVICE_NAME="two-workers",
            OTEL_BSP_SCHEDULE_DELAY=100,
            OTEL_METRICS_EXPORTER="otlp",
            OTEL_METRIC_EXPORT_INTERVAL=200,
        )
        base_url = settings["BFF_BASE_URL"]
        provider.clients[CLIENT_ID] = Client(CLIENT_ID, CLIENT_SECRET, (f"{base_url}/bff/callback",), ())
        (tmp_path / "own.py").write_text(APPLICATION_WITH_A_SPAN)
        async with running_process("own", tmp_path, **settings) as app:
            await app.answers("/readyz")
            await app.answers("/own-span", text="done")
            browser = app.browser()
            await browser.login()
            await fetched(app, browser, 30)

            proxied = {"http_route": "/api/*", "http_response_status_code": "200"}
            await says(metrics_port, "http_server_request_duration_seconds_count", 30, **proxied)
            await says(metrics_port, "bff_processes", 2)
            assert (await scraped(metrics_port)).value("bff_logins_total", bff_outcome="success") == 1

            await collected(collector, {"GET /bff/callback": 1, "GET /own-span": 1, "GET /api/*": 30})
            await one_worker_is_replaced(app, metrics_port)
            await says(metrics_port, "http_server_request_duration_seconds_count", 30, **proxied)
            assert (await scraped(metrics_port)).value("bff_processes_started_total") == 3

            await browser.http.aclose()
            assert await app.stops() == 0

    assert collector.service_names == {"two-workers"}
    assert len({instance for instance, _ in collector.metrics}) == 2  # the third is in a place of theirs
    proxied = {"http.route": "/api/*", "http.response.status_code": "200"}
    assert collector.number("http.server.request.duration", **proxied) == 30
    [callback] = collector.named("GET /bff/callback")
    assert {"POST provider", "insert sessions", "findAndModify logout_tokens"} <= collector.children(callback)
    traceparent = last_request_headers(api)["traceparent"]
    [call] = [span for span in collector.named("GET apiClient") if span.span_id.hex() in traceparent]
    [request] = [span for span in collector.named("GET /api/*") if span.span_id == call.parent_span_id]
    assert call.trace_id.hex() in traceparent
    assert "find sessions" in collector.children(request)
    [own] = collector.named("own work")
    assert own.parent_span_id in [span.span_id for span in collector.named("GET /own-span")]


async def collected(collector: Collector, spans: dict[str, int]) -> None:
    """Wait until so many have arrived: a process that is killed loses those that it has not sent."""

    async def have() -> bool:
        return all(len(collector.named(name)) == number for name, number in spans.items())

    await wait_until(have)


async def one_worker_is_replaced(app: AppProcess, metrics_port: int) -> None:
    before = child_pids(app.process)
    os.kill(before[0], signal.SIGKILL)

    async def replaced() -> bool:
        pids = child_pids(app.process)
        return len(pids) == 2 and before[0] not in pids

    await wait_until(replaced)
    await says(metrics_port, "bff_processes", 2)


WITHOUT = """
import runpy, sys

class Hides:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("prometheus_client", "opentelemetry"):
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Hides())
runpy.run_module({application!r}, run_name="__main__")
"""


async def test_the_start_says_which_extras_are_missing(tmp_path: Path):
    (tmp_path / "hiding.py").write_text(WITHOUT.format(application=APPLICATION))
    wanted = {"BFF_METRICS_PORT": 9464, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    async with running_process("hiding", tmp_path, **app_settings(**wanted)) as app:
        assert await app.exits() == 2

    assert "BFF_METRICS_PORT: needs the extra `metrics`: pip install '.[metrics]'" in app.stderr
    assert "OTEL_EXPORTER_OTLP_ENDPOINT: needs the extra `tracing`: pip install '.[tracing]'" in app.stderr


NOTHING_LOADED = """
import asyncio, sys
from app.bff import BffSettings, run
from contextlib import asynccontextmanager

@asynccontextmanager
async def lifespan(services):
    loaded = {"prometheus_client", "opentelemetry", "app.bff.monitoring.recording"} & set(sys.modules)
    print("loaded:", sorted(loaded), flush=True)
    yield

raise SystemExit(run(BffSettings, [], lifespan))
"""


async def test_switched_off_nothing_of_it_is_loaded(tmp_path: Path):
    (tmp_path / "application.py").write_text(NOTHING_LOADED)
    async with running_process("application", tmp_path, **app_settings()) as app:
        await app.answers("/healthz")

    assert app.stdout == "loaded: []\n"


async def test_a_port_that_is_taken_stops_the_start(tmp_path: Path):
    [socket] = bind_sockets(0, "127.0.0.1")
    port = socket.getsockname()[1]
    async with running_process(APPLICATION, tmp_path, **app_settings(BFF_METRICS_PORT=port)) as app:
        assert await app.exits() == 1
    socket.close()

    assert f"Cannot listen on 127.0.0.1:{port}: Address already in use" in app.stderr
