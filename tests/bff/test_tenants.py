"""A provider with several tenants, as Microsoft Entra: an issuer for each, and some may sign in."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.bff.commands.sessions import selected
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.errors import ProviderUnavailable, UntrustedToken
from app.bff.oidc.metadata import metadata_from
from app.bff.settings.issuers import ANY_TENANT, Issuers
from tests.bff.harness import CLIENT_ID, Browser, Clock, RunningApp, new_browser, running_app

COMMON = "https://login.test/common/v2.0"
ANNOUNCED = "https://login.test/{tenantid}/v2.0"
ONE, TWO = "11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-000000000000"


def issuer_of(tenant: str) -> str:
    return ANNOUNCED.replace("{tenantid}", tenant)


LISTED = Issuers(COMMON, frozenset({ONE, TWO}))
ANY = Issuers(COMMON, frozenset({ANY_TENANT}))
SINGLE = Issuers("https://login.test/a/")


@pytest.mark.parametrize("alias", ["common", "organizations", "consumers"])
def test_the_metadata_must_announce_the_issuer_with_a_placeholder(alias: str):
    assert Issuers(COMMON.replace("common", alias), frozenset({ONE})).announced == ANNOUNCED


def test_without_tenants_the_issuer_is_the_configured_one():
    assert (SINGLE.announced, SINGLE.of({"tid": ONE})) == ("https://login.test/a/",) * 2
    assert "https://login.test/a/" in SINGLE
    assert "https://login.test/a" not in SINGLE


@pytest.mark.parametrize(
    ("issuers", "issuer", "known"),
    [
        (LISTED, issuer_of(ONE), True),
        (LISTED, issuer_of(TWO), True),
        (LISTED, issuer_of("another"), False),
        (LISTED, ANNOUNCED, False),
        (LISTED, COMMON, False),
        (LISTED, issuer_of(ONE) + "/", False),
        (LISTED, issuer_of(ONE).replace("login.test", "evil.test"), False),
        (LISTED, issuer_of(f"x/../{ONE}"), False),
        (LISTED, None, False),
        (LISTED, [issuer_of(ONE)], False),
        (ANY, issuer_of("another-tenant"), True),
        (ANY, issuer_of("a/b"), False),
        (ANY, issuer_of(""), False),
        (ANY, issuer_of("common"), False),
        (ANY, issuer_of(ANY_TENANT + "/"), False),
        (ANY, ANNOUNCED, False),
        (ANY, "https://evil.test/x/v2.0", False),
    ],
)
def test_an_issuer_is_known_if_its_tenant_may_sign_in(issuers: Issuers, issuer: object, known: bool):
    assert (issuer in issuers) is known


@pytest.mark.parametrize(
    ("issuers", "tid", "expected"),
    [
        (LISTED, ONE, issuer_of(ONE)),
        (LISTED, TWO, issuer_of(TWO)),
        (ANY, "another", issuer_of("another")),
    ],
)
def test_a_token_must_have_the_issuer_of_its_own_tenant(issuers: Issuers, tid: str, expected: str):
    assert issuers.of({"tid": tid}) == expected


@pytest.mark.parametrize("issuers", [LISTED, ANY])
@pytest.mark.parametrize(
    "tid", [None, "", 7, [ONE], "{tenantid}", "common", "a/../b", f"{ONE} ", ANY_TENANT + "/"]
)
def test_a_token_of_no_such_tenant_is_not_trusted(issuers: Issuers, tid: object):
    with pytest.raises(UntrustedToken, match="tid"):
        issuers.of({"tid": tid})


def test_a_tenant_that_is_not_listed_is_not_trusted():
    with pytest.raises(UntrustedToken, match="tid"):
        LISTED.of({"tid": "another"})


def test_metadata_for_several_tenants_is_refused_without_the_setting():
    with pytest.raises(ProviderUnavailable, match="it is for several tenants: see BFF_TENANTS"):
        metadata_from({"issuer": ANNOUNCED}, issuer=COMMON)


# With the application


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    """Trusts two tenants of a provider that has many."""
    async with running_app(provider, api, clock=clock, **tenants(provider, ONE, TWO)) as app:
        yield app


def tenants(provider: Provider, *allowed: str) -> dict[str, Any]:
    """Make the provider one for several tenants, and return the settings for some of them."""
    provider.overrides["metadata"] = {"issuer": f"{provider.issuer}/{{tenantid}}/v2.0"}
    provider.overrides["callback"] = {"iss": None}
    return {
        "issuer": f"{provider.issuer}/common/v2.0",
        "metadata_url": f"{provider.issuer}/.well-known/openid-configuration",
        "tenants": list(allowed),
    }


def sign_with(provider: Provider, tenant: str, tid: object = "") -> None:
    """The tenant that tokens are of, by their `iss`, and by `tid`."""
    claims = {"iss": f"{provider.issuer}/{tenant}/v2.0", "tid": tid or tenant}
    provider.overrides["id_token"] = provider.overrides["logout_token"] = claims
    provider.overrides["metadata"]["authorization_response_iss_parameter_supported"] = False


async def callback_status(browser: Browser, **changed: str) -> int:
    url = await browser.choose(await browser.start_login())
    for name, value in changed.items():
        url += f"&{name}={value}"
    return (await browser.get(url)).status_code


@pytest.mark.parametrize("tenant", [ONE, TWO])
async def test_users_of_the_listed_tenants_sign_in_and_their_sessions_are_of_their_tenant(
    app: RunningApp, browser: Browser, provider: Provider, tenant: str
):
    sign_with(provider, tenant)
    await browser.login("alice")
    session = await app.session_of(browser)

    assert session
    assert session.issuer == session.claims["iss"] == f"{provider.issuer}/{tenant}/v2.0"


@pytest.mark.parametrize(
    ("tenant", "tid"),
    [
        pytest.param("another", "another", id="not listed"),
        pytest.param(ONE, TWO, id="of another tenant than it says"),
        pytest.param("common", "common", id="the alias"),
        pytest.param("{tenantid}", "{tenantid}", id="the placeholder"),
    ],
)
async def test_no_one_else_does(app: RunningApp, browser: Browser, provider: Provider, tenant: str, tid: str):
    sign_with(provider, tenant, tid)

    assert await callback_status(browser) == 400


async def test_the_issuer_of_the_authorization_response_must_be_that_of_the_id_token(
    app: RunningApp, provider: Provider
):
    sign_with(provider, ONE)
    found = []
    for issuer in (f"{provider.issuer}/{ONE}/v2.0", f"{provider.issuer}/{TWO}/v2.0", app.settings.issuer):
        async with new_browser(app) as browser:
            found.append(await callback_status(browser, iss=issuer))

    assert found == [200, 400, 400]


async def test_a_session_is_refreshed_and_its_tokens_revoked_as_any_other(
    app: RunningApp, browser: Browser, provider: Provider, clock: Clock
):
    sign_with(provider, ONE)
    await browser.login("alice")
    clock.advance(1800)
    refreshed = await browser.fetch("/api/echo")
    await browser.get(await browser.logout_url())
    clock.advance(120)
    await app.services.revocation.drain_due()

    assert refreshed.status_code == 200
    assert provider.counts["token:refresh_token"] == provider.counts["revoke"] == 1


async def test_a_session_of_a_tenant_that_is_listed_no_more_is_not_refreshed(
    provider: Provider, api: DemoApi, clock: Clock, mongod: Any
):
    store = {"session_store": f"{mongod.uri}/tenants", **tenants(provider, ONE, TWO)}
    sign_with(provider, TWO)
    async with running_app(provider, api, clock=clock, **store) as app:
        browser = Browser(app)
        await browser.login("alice")
        session = await app.session_of(browser)
    clock.advance(3600)
    async with running_app(provider, api, clock=clock, **{**store, "tenants": [ONE]}) as app:
        assert session
        issued = app.services.oidc.issued(session)
    await browser.http.aclose()

    assert not issued


async def test_a_logout_token_ends_the_sessions_of_its_tenant_alone(
    app: RunningApp, provider: Provider, clock: Clock
):
    browsers = [Browser(app), Browser(app)]
    for tenant, browser in zip((ONE, TWO), browsers, strict=True):
        sign_with(provider, tenant)
        await browser.login("alice")
    token = provider.logout_token(CLIENT_ID, sub="alice")  # of TWO
    answer = await browsers[0].http.post("/bff/backchannel", data={"logout_token": token})
    left = [await app.session_of(browser) is not None for browser in browsers]
    for browser in browsers:
        await browser.http.aclose()

    assert (answer.status_code, left) == (200, [True, False])


async def test_an_operator_finds_a_user_in_every_tenant(app: RunningApp, provider: Provider):
    for tenant in (ONE, TWO):
        sign_with(provider, tenant)
        async with new_browser(app) as browser:
            await browser.login("alice")
    found = {
        user: [each async for each in selected(app.services, Namespace(user=user, sid=None))]
        for user in ("alice", "bob")
    }

    assert {session.issuer for session in found["alice"]} == {
        f"{provider.issuer}/{tenant}/v2.0" for tenant in (ONE, TWO)
    }
    assert found["bob"] == []
