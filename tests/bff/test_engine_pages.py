"""The engine's own pages: they name nothing of a project's, and need nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import expect

from app.bff.dev.provider import Provider
from app.bff.paths import PROJECT
from app.bff.services import page_environment
from app.bff.settings.models import BffSettings
from app.bff.testing.application import ApplicationParts, Clock, running_app
from app.bff.testing.stand_in import StandInApi
from tests.bff.axe import LOOKS, audits
from tests.bff.browser_users import Site, browser_user
from tests.bff.harness import Browser

ENGINE_FILES = sorted([*PROJECT.glob("templates/bff/*"), *PROJECT.glob("static/bff/*")])
OF_A_PROJECT = ("base.html", "app.css", "js/", "css/", "images/", "/signed-out", "/account")
CONTEXT = {
    "flashes": list,
    "app_name": "Shop",
    "layout": "bff/layout.html",
    "user": None,
    "logout_url": None,
    "csp_nonce": "n",
    "static_url": lambda path: f"/static/{path}",
}
ERROR = {
    "status": 503,
    "code": "store_unavailable",
    "title": "Out of order",
    "detail": "?",
    "request_id": "r1",
}


@pytest.mark.parametrize("file", ENGINE_FILES, ids=lambda file: file.name)
def test_a_file_of_the_engine_names_nothing_of_a_project(file: Path):
    text = file.read_text()

    assert [name for name in OF_A_PROJECT if name in text] == []


def test_an_error_page_has_all_that_it_needs_in_the_layout_of_the_engine():
    pages = page_environment(PROJECT / "templates", debug=False)

    template = pages.get_template("bff/error.html")
    page = template.render(**CONTEXT, **ERROR, account=None, try_again_url="/orders")

    assert "<title>Out of order · Shop</title>" in page
    assert all(
        text in page for text in ("503", "store_unavailable", "r1", 'href="/orders"', "/static/bff/bff.css")
    )


async def test_a_browser_that_looks_for_an_icon_by_itself_finds_one(browser: Browser):
    response = await browser.get("/favicon.ico")

    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("image/")
    assert response.headers["Cache-Control"] == "no-cache"  # revalidated, and answered with 304
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_project_without_pages_has_accessible_ones_that_a_sign_out_in_another_window_empties(
    chromium: Chromium,
):
    provider = Provider([], clock=(clock := Clock()))
    await provider.start()
    api, parts = StandInApi(provider), ApplicationParts(BffSettings, [])
    of_other_tests = {"apiClient": {"base_url": "http://127.0.0.1:1/"}}  # their typed clients are checked too
    async with (
        running_app(parts, provider, api, clock=clock, http_clients=of_other_tests) as app,
        browser_user(chromium, Site(app, provider, api, clock)) as alice,
    ):
        await alice.goes_to("/bff/login?returnUrl=/nowhere")
        await alice.chooses()
        await alice.sees("Not Found")
        found = [audit async for audit in audits(alice.page)]
        other = await alice.page.context.new_page()
        await other.goto(f"{app.base_url}/elsewhere")

        async with alice.page.expect_event("framenavigated"):
            await other.get_by_role("link", name="Sign out").click()

        await alice.page.wait_for_url("**/?reason=*")
        await expect(alice.page.get_by_role("link", name="Sign out")).to_have_count(0)
    await provider.stop()
    assert [audit.violations for audit in found] == [[]] * len(LOOKS)
