"""Health: alive, and ready for traffic."""

from __future__ import annotations

import time

import pytest

from app.bff.backoff import READY_SECONDS
from app.bff.dev.api import DemoApi
from app.bff.dev.mongod import Mongod
from app.bff.dev.provider import Failure, Provider
from tests.bff.harness import Browser, Clock, new_browser, running_app

NOBODY_LISTENS = "mongodb://127.0.0.1:1/bff"


async def test_a_process_that_answers_is_alive(browser: Browser):
    response = await browser.http.get("/healthz")

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_a_process_whose_store_and_provider_answer_is_ready(browser: Browser):
    response = await browser.http.get("/readyz")

    assert response.status_code == 200
    assert response.json() == {"status": "ok", "session_store": "ok", "provider": "ok"}


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_probe_may_ask_for_the_head_alone(path: str, browser: Browser):
    answer, probed = await browser.http.get(path), await browser.http.head(path)

    assert (probed.status_code, probed.content) == (200, b"")
    assert probed.headers["Content-Length"] == answer.headers["Content-Length"]


async def test_without_a_provider_it_is_alive_but_not_ready(provider: Provider, browser: Browser):
    await provider.stop()
    ready = await browser.http.get("/readyz")

    assert ready.status_code == 503
    assert (ready.json()["status"], ready.json()["session_store"]) == ("unavailable", "ok")
    assert "could not be reached" in ready.json()["provider"]
    assert (await browser.http.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    "failure",
    [
        Failure(500),
        Failure(200, b"no JSON"),
        Failure(200, b"[]"),
        Failure(200, b'{"issuer": "https://evil.example"}'),
    ],
)
async def test_a_provider_that_publishes_nonsense_is_not_ready(
    failure: Failure, provider: Provider, browser: Browser
):
    provider.fails["metadata"] = failure

    assert (await browser.http.get("/readyz")).status_code == 503


async def test_it_becomes_ready_by_itself_when_the_provider_comes_back(provider: Provider, browser: Browser):
    provider.fails["metadata"] = Failure(503)
    before = await browser.http.get("/readyz")
    provider.fails.clear()
    after = await browser.http.get("/readyz")

    assert (before.status_code, after.status_code) == (503, 200)


async def test_a_provider_that_goes_away_is_missed_within_seconds_and_the_cause_is_named(
    provider: Provider, browser: Browser, clock: Clock, caplog: pytest.LogCaptureFixture
):
    await browser.http.get("/readyz")
    await provider.stop()
    at_once = await browser.http.get("/readyz")
    clock.advance(READY_SECONDS)
    soon = await browser.http.get("/readyz")

    cause = "the provider could not be reached: connection refused"
    assert (at_once.status_code, soon.status_code, soon.json()["provider"]) == (200, 503, cause)
    assert cause in [getattr(record, "reason", "") for record in caplog.records]


async def test_requests_for_readiness_cause_one_fetch_in_five_seconds(
    provider: Provider, browser: Browser, clock: Clock
):
    for _ in range(20):
        await browser.http.get("/readyz")
        clock.advance(1)

    assert provider.counts["metadata"] == 20 / READY_SECONDS


async def test_readiness_may_be_set_to_be_that_of_the_store_alone(
    provider: Provider, api: DemoApi, clock: Clock
):
    settings = {"ready_without_provider": True}
    async with running_app(provider, api, clock=clock, **settings) as app, new_browser(app) as browser:
        await provider.stop()
        ready = await browser.http.get("/readyz")

    assert (ready.status_code, ready.json()["status"]) == (200, "ok")
    assert ready.json()["provider"] == "the provider could not be reached: connection refused"


async def test_without_a_store_it_is_alive_but_not_ready(provider: Provider, api: DemoApi, clock: Clock):
    store = {"session_store": NOBODY_LISTENS}
    async with running_app(provider, api, clock=clock, **store) as app, new_browser(app) as browser:
        ready = await browser.http.get("/readyz")
        alive = await browser.http.get("/healthz")

    assert ready.status_code == 503
    assert ready.json()["session_store"] == "no answer within 0.8 s"
    assert ready.json()["provider"] == "ok"
    assert alive.status_code == 200


@pytest.mark.parametrize(("minutes", "warning"), [(10, "ahead of"), (-10, "behind"), (0, None)])
async def test_a_clock_that_differs_from_mongodbs_is_a_warning(
    provider: Provider, api: DemoApi, mongod: Mongod, minutes: int, warning: str | None
):
    ours = Clock(time.time() + 60 * minutes)
    store = {"session_store": f"{mongod.uri}/test-health"}
    async with running_app(provider, api, clock=ours, **store) as app, new_browser(app) as browser:
        body = (await browser.http.get("/readyz")).json()

    assert body["session_store"] == "ok"
    assert body.get("clock") == (warning and f"600 s {warning} the session store's")


async def test_the_answer_tells_nothing_about_addresses(provider: Provider, browser: Browser):
    await provider.stop()
    body = (await browser.http.get("/readyz")).text

    assert "127.0.0.1" not in body
    assert str(provider.port) not in body


async def test_probes_need_neither_a_cookie_nor_a_header(browser: Browser):
    response = await browser.http.get("/healthz", headers={"Cookie": "bff=garbage", "Host": "10.0.0.1"})

    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
