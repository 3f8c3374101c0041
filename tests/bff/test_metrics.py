"""What is counted, and under which labels, through the real application; how processes are added up."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from tornado.netutil import bind_sockets
from tornado.web import HTTPError

from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Failure, Provider
from app.bff.errors import (
    AppError,
    GrantRefused,
    InteractionRequired,
    LoginFailed,
    ProviderUnavailable,
    StoreUnavailable,
    UntrustedToken,
)
from app.bff.handlers.base import NoRoute
from app.bff.handlers.login_outcome import login_outcome
from app.bff.monitoring.endpoint import serving
from app.bff.monitoring.recording import Recording
from app.bff.monitoring.routes import route_of, route_pattern
from app.bff.sessions.session import Reason
from app.bff.spa.handler import SpaFolder
from app.bff.telemetry.instruments import (
    INSTRUMENTS,
    LOGINS,
    REFRESH_WAITS,
    REVOCATIONS_PENDING,
    SOCKETS,
    STARTS,
)
from app.bff.telemetry.metrics import MAX_LABELS, OVERFLOW, Metrics, Snapshot, merged
from app.bff.telemetry.observer import installed
from app.bff.telemetry.shared import SharedSnapshots
from tests.bff.event_streams import listening
from tests.bff.harness import (
    Browser,
    Clock,
    RunningApp,
    new_browser,
    running_app,
    user_tokens_of_another_process,
)
from tests.bff.scrapes import Scrape, until
from tests.bff.websocket_clients import open_websocket


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def app(metrics: Metrics, provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    with installed(Recording(metrics, None)):
        async with running_app(provider, api, clock=clock) as app:
            yield app


async def test_a_proxied_request_is_counted_with_its_route_and_so_is_its_call(
    browser: Browser, metrics: Metrics, api: DemoApi
):
    await browser.login()
    await browser.fetch("/api/echo/private?secret=1")

    scrape = Scrape.of(metrics)
    request = {"http_request_method": "GET", "http_route": "/api/*", "http_response_status_code": "200"}
    assert scrape.value("http_server_request_duration_seconds_count", **request, url_scheme="http") == 1
    call = {"bff_client": "apiClient", "server_port": str(urlsplit(api.base_url).port)}
    assert scrape.value("http_client_request_duration_seconds_count", **call) == 1
    assert "private" not in scrape.text
    assert "secret" not in scrape.text


async def test_requests_to_the_provider_are_counted_by_what_they_are_for(browser: Browser, metrics: Metrics):
    await browser.login()

    scrape, name = Scrape.of(metrics), "http_client_request_duration_seconds_count"
    assert scrape.value(name, bff_client="provider", bff_provider_request="metadata") == 2  # and keys
    assert scrape.value(name, bff_provider_request="code", http_request_method="POST") == 1
    assert scrape.value(name, bff_provider_request="code", http_request_method="GET") == 1  # userinfo


async def test_paths_and_methods_that_a_browser_makes_up_add_no_labels(browser: Browser, metrics: Metrics):
    for number in range(3):
        await browser.get(f"/nowhere/{number}")
        await browser.http.request(f"MADE-UP-{number}", "/")

    scrape, name = Scrape.of(metrics), "http_server_request_duration_seconds_count"
    assert scrape.value(name, http_route="", http_response_status_code="404") == 3
    assert scrape.value(name, http_request_method="_OTHER") == 3
    assert "MADE" not in scrape.text


# Each event, and what it adds to.


async def login_succeeds(browser: Browser, provider: Provider, clock: Clock) -> None:
    await browser.login()


async def login_is_denied(browser: Browser, provider: Provider, clock: Clock) -> None:
    back = await browser.http.post(await browser.start_login(), data={"deny": "yes"})
    await browser.get(back.headers["Location"])


async def login_code_is_used_twice(browser: Browser, provider: Provider, clock: Clock) -> None:
    link = await browser.choose(await browser.start_login())
    clock.advance(61)
    await browser.get(link)


async def login_brings_an_untrusted_token(browser: Browser, provider: Provider, clock: Clock) -> None:
    provider.overrides["id_token"] = {"aud": "another"}
    await browser.get(await browser.choose(await browser.start_login()))


async def login_is_rejected(browser: Browser, provider: Provider, clock: Clock) -> None:
    provider.overrides["callback"] = {"code": None, "error": "invalid_scope"}
    await browser.get(await browser.choose(await browser.start_login()))


async def callback_is_made_up(browser: Browser, provider: Provider, clock: Clock) -> None:
    await browser.get("/bff/callback?code=x&state=y")


async def provider_is_down(browser: Browser, provider: Provider, clock: Clock) -> None:
    link = await browser.choose(await browser.start_login())
    provider.fails["token"] = Failure(500, b"")
    await browser.get(link)


async def user_signs_out(browser: Browser, provider: Provider, clock: Clock) -> None:
    await browser.login()
    await browser.logout()


async def token_is_refreshed(browser: Browser, provider: Provider, clock: Clock) -> None:
    await browser.login()
    clock.advance(301)
    await browser.fetch("/api/echo")


async def provider_refuses_the_refresh(browser: Browser, provider: Provider, clock: Clock) -> None:
    await browser.login()
    provider.end_all_grants()
    clock.advance(301)
    await browser.fetch("/api/echo")


async def provider_is_down_at_a_refresh(browser: Browser, provider: Provider, clock: Clock) -> None:
    await browser.login()
    provider.fails["token"] = Failure(503, b"")
    clock.advance(301)
    await browser.fetch("/api/echo")


async def request_of_another_site(browser: Browser, provider: Provider, clock: Clock) -> None:
    await browser.http.get("/api/echo")


Event = Callable[[Browser, Provider, Clock], Awaitable[None]]
EVENTS: list[tuple[Event, str, dict[str, str]]] = [
    (login_succeeds, "bff_logins_total", {"bff_outcome": "success"}),
    (login_succeeds, "bff_sessions_started_total", {}),
    (login_is_denied, "bff_logins_total", {"bff_outcome": "denied"}),
    (login_code_is_used_twice, "bff_logins_total", {"bff_outcome": "code_refused"}),
    (login_brings_an_untrusted_token, "bff_logins_total", {"bff_outcome": "untrusted_token"}),
    (login_is_rejected, "bff_logins_total", {"bff_outcome": "rejected"}),
    (callback_is_made_up, "bff_logins_total", {"bff_outcome": "no_attempt"}),
    (provider_is_down, "bff_logins_total", {"bff_outcome": "provider_unavailable"}),
    (user_signs_out, "bff_sessions_ended_total", {"bff_reason": "signed_out"}),
    (token_is_refreshed, "bff_refreshes_total", {"bff_outcome": "refreshed"}),
    (token_is_refreshed, "bff_refresh_wait_duration_seconds_count", {}),
    (provider_refuses_the_refresh, "bff_refreshes_total", {"bff_outcome": "invalid_grant"}),
    (provider_refuses_the_refresh, "bff_sessions_ended_total", {"bff_reason": "provider"}),
    (provider_is_down_at_a_refresh, "bff_refreshes_total", {"bff_outcome": "provider_unavailable"}),
    (request_of_another_site, "bff_requests_refused_total", {"bff_error_code": "csrf_rejected"}),
]


@pytest.mark.parametrize(("event", "name", "labels"), EVENTS, ids=lambda each: getattr(each, "__name__", ""))
async def test_an_event_is_counted_once(
    event: Event,
    name: str,
    labels: dict[str, str],
    browser: Browser,
    provider: Provider,
    clock: Clock,
    metrics: Metrics,
):
    before = Scrape.of(metrics)

    await event(browser, provider, clock)

    assert Scrape.of(metrics).value(name, **labels) == before.value(name, **labels) + 1


async def test_a_counter_with_known_values_begins_at_zero(app: RunningApp, metrics: Metrics):
    scrape = Scrape.of(metrics)

    ended = [(labels, value) for name, labels, value in scrape.samples if name == "bff_sessions_ended_total"]
    assert {labels["bff_reason"]: value for labels, value in ended} == {
        reason.value: 0 for reason in Reason if reason is not Reason.EXPIRED
    }


async def test_streams_and_sockets_are_counted_while_they_are_open(browser: Browser, metrics: Metrics):
    await browser.login()
    async with listening(browser), open_websocket(browser, "/api/socket"):
        assert Scrape.of(metrics).value("bff_event_streams_open") == 1
        assert Scrape.of(metrics).value("bff_sockets_open") == 1
        assert Scrape.of(metrics).value("http_server_active_requests", http_request_method="GET") >= 1

    await until(metrics, "bff_event_streams_open", 0)
    await until(metrics, "bff_sockets_open", 0)


async def test_a_breaker_that_opens_is_seen(
    browser: Browser, provider: Provider, clock: Clock, metrics: Metrics
):
    await browser.login()
    provider.fails["token"] = Failure(503, b"", {"Retry-After": "60"})
    clock.advance(301)
    await browser.fetch("/api/echo")

    scrape = Scrape.of(metrics)
    assert scrape.value("bff_breakers", bff_provider_request="refresh", bff_breaker_state="open") == 1
    assert scrape.value("bff_breakers", bff_provider_request="code", bff_breaker_state="closed") == 1
    clock.advance(61)
    scrape = Scrape.of(metrics)
    assert scrape.value("bff_breakers", bff_provider_request="refresh", bff_breaker_state="half_open") == 1


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_operations_on_the_database_are_timed_and_the_wait_for_a_lease(
    driver: str, mongod: Mongod, provider: Provider, api: DemoApi, clock: Clock, metrics: Metrics
):
    store = {"session_store": f"{mongod.uri}/metrics-{driver}", "mongodb_driver": driver}
    with installed(Recording(metrics, None)):
        async with running_app(provider, api, clock=clock, **store) as app, new_browser(app) as browser:
            await browser.login()
            session = await app.session_of(browser)
            assert session
            await app.services.sessions.of_user(session.issuer, session.subject)
            await app.services.sessions.lease(session.ref, owner="another", seconds=0.2)
            other = user_tokens_of_another_process(app, clock)
            clock.advance(301)
            await other.get(session)
            assert await app.services.outbox.count() == 0

    scrape, name = Scrape.of(metrics), "db_client_operation_duration_seconds_count"
    sessions = {"db_system_name": "mongodb", "db_collection_name": "sessions", "error_type": ""}
    for operation in ("insert", "find", "findAndModify"):
        assert scrape.value(name, db_operation_name=operation, **sessions) >= 1, operation
    assert scrape.value("bff_lease_wait_duration_seconds_count") == 1
    assert scrape.value("bff_lease_wait_duration_seconds_sum") > 0


# Pure.


def _caused(cause: Exception) -> LoginFailed:
    error = LoginFailed("…")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "begun_here", "outcome"),
    [
        (LoginFailed("…"), False, "no_attempt"),
        (LoginFailed("…"), True, "login_failed"),
        (LoginFailed("…", reason="access_denied"), True, "denied"),
        (LoginFailed("…", reason="login_required"), True, "denied"),
        (LoginFailed("…", reason="unauthorized_client"), True, "rejected"),
        (LoginFailed("…", reason="made-up-by-a-browser"), True, "login_failed"),
        (_caused(GrantRefused("…")), True, "code_refused"),
        (_caused(InteractionRequired("…")), True, "denied"),
        (_caused(UntrustedToken("…")), True, "untrusted_token"),
        (ProviderUnavailable("…"), True, "provider_unavailable"),
        (StoreUnavailable("…"), False, "store_unavailable"),
        (HTTPError(405), False, "bad_request"),
        (RuntimeError("…"), True, "internal_error"),
        (AppError("…"), True, "internal_error"),
    ],
)
def test_the_outcome_of_a_login_is_one_of_few_words(error: Exception, begun_here: bool, outcome: str):
    assert login_outcome(error, begun_here=begun_here) == outcome


@pytest.mark.parametrize(
    ("regex", "pattern"),
    [
        ("/", "/"),
        ("/bff/sessions/(\\w+)$", "/bff/sessions/*"),
        ("/orders/(?P<number>[0-9]+)/lines", "/orders/*/lines"),
        ("/(a(b|c))/d", "/*/d"),
        (r"/static/(.*)$", "/static/*"),
    ],
)
def test_a_route_is_named_by_its_pattern(regex: str, pattern: str):
    assert route_pattern(regex) == pattern


def test_pages_of_a_single_page_app_are_one_route():
    request: Any = SimpleNamespace(path="/orders/17")

    assert route_of(request, SimpleNamespace(handler_class=SpaFolder)) == "/*"
    assert route_of(request, SimpleNamespace(handler_class=NoRoute)) == ""


def test_labels_beyond_a_limit_are_counted_together():
    metrics = Metrics()
    for number in range(MAX_LABELS + 10):
        metrics.add(LOGINS, (str(number),))

    counts = metrics.snapshot().counts[LOGINS.name]
    assert len(counts) == MAX_LABELS + 1
    assert counts[(OVERFLOW,)] == 10


def test_counts_and_times_of_processes_are_summed_and_what_they_share_is_not():
    one, other = Snapshot(), Snapshot()
    for each, pending in ((one, 3.0), (other, 4.0)):
        each.counts[LOGINS.name] = {("success",): 2}
        each.histograms[REFRESH_WAITS.name] = {(): [1.0] * 16}
        each.gauges = {SOCKETS.name: {(): 5}, REVOCATIONS_PENDING.name: {(): pending}}

    whole = merged([one, other])

    assert whole.counts[LOGINS.name] == {("success",): 4}
    assert whole.histograms[REFRESH_WAITS.name] == {(): [2.0] * 16}
    assert whole.gauges == {SOCKETS.name: {(): 10}, REVOCATIONS_PENDING.name: {(): 4}}


def test_a_process_counts_on_from_where_the_one_before_it_has_ended():
    before = Metrics()
    before.add(LOGINS, ("success",))

    after = Metrics(Snapshot(before.snapshot().counts))
    after.add(LOGINS, ("success",))

    assert after.snapshot().counts[LOGINS.name] == {("success",): 2}
    assert after.snapshot().counts[STARTS.name] == {(): 2}


def test_processes_see_each_others_counts_and_of_one_that_has_ended_no_gauges():
    shared, own, other = SharedSnapshots(2), Metrics(), Metrics()
    for metrics in (own, other):
        metrics.add(LOGINS, ("success",))
        metrics.watch(lambda: [(SOCKETS, (), 5)])
    child = os.fork()
    if child == 0:
        shared.write(1, other.snapshot())
        os._exit(0)
    os.waitpid(child, 0)
    shared.write(0, own.snapshot())

    whole = merged(shared.all())

    assert whole.counts[LOGINS.name] == {("success",): 2}
    assert whole.gauges[SOCKETS.name] == {(): 5}
    assert shared.earlier(1).counts[LOGINS.name] == {("success",): 1}
    assert shared.earlier(1).gauges == {}


def test_of_two_snapshots_the_latest_is_read_and_before_the_first_there_is_none():
    shared, metrics = SharedSnapshots(1), Metrics()
    assert shared.all() == []
    for number in range(1, 4):
        metrics.add(LOGINS, ("success",))
        shared.write(0, metrics.snapshot())

        assert shared.all()[0].counts[LOGINS.name] == {("success",): number}


def test_every_metric_is_exposed_and_says_what_it_is():
    families = Scrape.of(Metrics()).families

    assert set(families) == {each.prometheus_name for each in INSTRUMENTS.values()}
    assert all(family.documentation for family in families.values())


def test_no_name_of_ours_lacks_the_prefix_and_no_label_is_a_person():
    ours = [name for name in INSTRUMENTS if not name.startswith(("http.", "db.", "process."))]

    assert all(name.startswith("bff.") for name in ours)
    labels = {label for each in INSTRUMENTS.values() for label in each.labels}
    words = {word for label in labels for word in label.split(".")}
    assert not words & {"user", "session", "id", "path", "token", "query", "full"}


@pytest.mark.parametrize(
    ("host", "status"),
    [("evil.example", 403), ("localhost.evil.example", 403), ("localhost:9464", 200), ("10.0.0.7", 200)],
)
async def test_a_site_whose_name_leads_to_this_machine_does_not_read_them(host: str, status: int):
    [listener] = bind_sockets(0, "127.0.0.1")
    async with serving([listener], Metrics().snapshot), httpx2.AsyncClient() as http:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/metrics"
        response = await http.get(url, headers={"Host": host})

    assert (response.status_code, "bff_" in response.text) == (status, status == 200)
