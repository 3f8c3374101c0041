"""BFF_METADATA_URL: browsers reach the provider at the issuer's address, and this server at another one."""

from __future__ import annotations

from typing import Any

import pytest

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.doctor.command import examine
from tests.bff.harness import Clock, make_settings, new_browser, running_app

PATH = "/.well-known/openid-configuration"


@pytest.fixture
def split(provider: Provider) -> dict[str, Any]:
    """The settings for a provider that calls itself by a name that this server cannot look up."""
    inside, outside = provider.issuer, "http://login.localhost:1"
    provider.issuer = outside
    names = ("token", "userinfo", "jwks", "revoke")
    members = ("token_endpoint", "userinfo_endpoint", "jwks_uri", "revocation_endpoint")
    provider.overrides["metadata"] = {
        member: f"{inside}/{name}" for member, name in zip(members, names, strict=True)
    }
    return {"issuer": outside, "metadata_url": inside + PATH}


async def test_browsers_are_sent_to_the_issuers_address_and_this_server_uses_its_own(
    split: dict[str, Any], provider: Provider, api: DemoApi, clock: Clock
):
    async with running_app(provider, api, clock=clock, **split) as app, new_browser(app) as browser:
        authorize_url = await browser.start_login()
        assert authorize_url.startswith(f"{split['issuer']}/authorize?")
        inside = authorize_url.replace(split["issuer"], split["metadata_url"].removesuffix(PATH))
        await browser.get(await browser.choose(inside))
        session = await app.session_of(browser)
        clock.advance(1800)
        refreshed = await browser.fetch("/api/echo")

    assert session
    assert (session.issuer, refreshed.status_code) == (split["issuer"], 200)
    assert provider.counts["token:refresh_token"] == 1


async def test_the_issuer_is_compared_wherever_the_metadata_is_fetched(
    split: dict[str, Any], provider: Provider, api: DemoApi, clock: Clock
):
    settings = {**split, "issuer": "http://other.localhost"}
    async with running_app(provider, api, clock=clock, **settings) as app, new_browser(app) as browser:
        ready = await browser.http.get("/readyz")

    assert ready.json()["provider"] == "the metadata names another issuer than BFF_ISSUER"


async def test_the_doctor_looks_at_the_same_address(split: dict[str, Any], provider: Provider):
    found = await examine(make_settings(**split), clock=provider.clock)

    assert any(split["metadata_url"] in finding.what for finding in found["The provider"])
    assert f"it is {split['issuer']}" in [finding.what for finding in found["The provider"]]


async def test_the_doctor_says_which_setting_a_provider_with_several_tenants_needs(provider: Provider):
    provider.overrides["metadata"] = {"issuer": f"{provider.issuer}/{{tenantid}}/v2.0"}
    settings = {"issuer": f"{provider.issuer}/common/v2.0", "metadata_url": provider.issuer + PATH}
    refused = await examine(make_settings(**settings), clock=provider.clock)
    listed = await examine(make_settings(**settings, tenants=["one-tenant"]), clock=provider.clock)

    assert any("BFF_TENANTS" in finding.advice for finding in refused["The provider"])
    assert [finding for finding in listed["The provider"] if finding.level == "wrong"] != []  # no such client
    assert "Provider metadata" in listed
