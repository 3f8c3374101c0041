"""BFF_ID_TOKEN_ALG: an announced algorithm that is not the one registered for this client is not believed."""

from __future__ import annotations

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from tests.bff.harness import CLIENT_ID, Browser, Clock, RunningApp, new_browser, running_app, sign_in

ADVICE = "set BFF_ID_TOKEN_ALG=ES256 if that is registered for this client"


async def callback(browser: Browser) -> int:
    return (await browser.get(await browser.choose(await browser.start_login()))).status_code


async def test_a_login_with_another_algorithm_is_refused_and_the_log_says_what_to_set(
    browser: Browser, provider: Provider, caplog: pytest.LogCaptureFixture
):
    provider.signing_alg = "ES256"

    assert await callback(browser) == 400
    [record] = [each for each in caplog.records if each.getMessage() == "login refused"]
    assert ADVICE in record.__dict__["reason"]


async def test_a_logout_token_with_another_algorithm_ends_nothing(
    app: RunningApp, browser: Browser, provider: Provider, caplog: pytest.LogCaptureFixture
):
    await sign_in(app, browser)
    provider.signing_alg = "ES256"
    form = {"logout_token": provider.logout_token(CLIENT_ID, sub="alice")}

    assert (await browser.http.post("/bff/backchannel", data=form)).status_code == 400
    assert await app.session_of(browser) is not None
    assert any(ADVICE in str(record.__dict__.get("reason")) for record in caplog.records)


async def test_a_refreshed_id_token_with_another_algorithm_is_left_aside(
    app: RunningApp, browser: Browser, provider: Provider, clock: Clock
):
    before = await sign_in(app, browser)
    provider.signing_alg = "ES256"
    clock.advance(301)

    assert (await browser.fetch("/api/echo")).status_code == 200
    after = await app.session_of(browser)
    assert after
    assert after.tokens.id_token == before.tokens.id_token


@pytest.mark.parametrize(("signs", "status"), [("ES256", 200), ("RS256", 400)])
async def test_with_the_setting_that_algorithm_alone_is_believed(
    signs: str, status: int, provider: Provider, api: DemoApi, clock: Clock
):
    provider.signing_alg = signs
    chosen = {"id_token_alg": "ES256"}
    async with running_app(provider, api, clock=clock, **chosen) as app, new_browser(app) as browser:
        assert await callback(browser) == status
