"""BFF_TRUSTED_AUDIENCES: a provider that names a project beside the client, in every token that it signs."""

from __future__ import annotations

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from tests.bff.harness import CLIENT_ID, Clock, new_browser, running_app

PROJECT = "project-1"
OF_ZITADEL = {"aud": [CLIENT_ID, PROJECT], "azp": CLIENT_ID}


async def test_login_refresh_and_logout_token_may_name_the_project(
    provider: Provider, api: DemoApi, clock: Clock
):
    provider.overrides |= {"id_token": OF_ZITADEL, "logout_token": {"aud": [CLIENT_ID, PROJECT]}}
    chosen = {"trusted_audiences": f"{PROJECT}, other"}
    async with running_app(provider, api, clock=clock, **chosen) as app, new_browser(app) as browser:
        await browser.login()
        before = await app.session_of(browser)
        clock.advance(301)
        assert (await browser.fetch("/api/echo")).status_code == 200
        after = await app.session_of(browser)
        assert before
        assert after
        assert after.tokens.id_token != before.tokens.id_token

        form = {"logout_token": provider.logout_token(CLIENT_ID, sub="alice")}
        assert (await browser.http.post("/bff/backchannel", data=form)).status_code == 200
        assert await app.session_of(browser) is None


async def test_without_the_setting_a_login_for_another_audience_is_refused(
    provider: Provider, api: DemoApi, clock: Clock
):
    provider.overrides["id_token"] = OF_ZITADEL
    async with running_app(provider, api, clock=clock) as app, new_browser(app) as browser:
        answer = await browser.get(await browser.choose(await browser.start_login()))

        assert answer.status_code == 400
        assert await app.session_of(browser) is None
