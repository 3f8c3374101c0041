"""Health: alive, and ready for traffic."""

from __future__ import annotations

import pytest

from app.bff.dev.api import DemoApi
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


async def test_a_provider_that_was_there_is_not_missed_at_once(
    provider: Provider, browser: Browser, clock: Clock
):
    await browser.http.get("/readyz")
    await provider.stop()
    clock.advance(3601)  # its documents are fetched again; the last good copy serves

    assert (await browser.http.get("/readyz")).status_code == 200


async def test_without_a_store_it_is_alive_but_not_ready(provider: Provider, api: DemoApi, clock: Clock):
    store = {"session_store": NOBODY_LISTENS}
    async with running_app(provider, api, clock=clock, **store) as app, new_browser(app) as browser:
        ready = await browser.http.get("/readyz")
        alive = await browser.http.get("/healthz")

    assert ready.status_code == 503
    assert ready.json()["session_store"] == "no answer within 0.8 s"
    assert ready.json()["provider"] == "ok"
    assert alive.status_code == 200


async def test_the_answer_tells_nothing_about_addresses(provider: Provider, browser: Browser):
    await provider.stop()
    body = (await browser.http.get("/readyz")).text

    assert "127.0.0.1" not in body
    assert str(provider.port) not in body


async def test_probes_need_neither_a_cookie_nor_a_header(browser: Browser):
    response = await browser.http.get("/healthz", headers={"Cookie": "bff=garbage", "Host": "10.0.0.1"})

    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
