"""The engine's own pages: they name nothing of a project's, and need nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.bff.paths import PROJECT
from app.bff.services import page_environment
from tests.bff.harness import Browser

ENGINE_FILES = sorted([*PROJECT.glob("templates/bff/*"), *PROJECT.glob("static/bff/*")])
OF_A_PROJECT = ("base.html", "app.css", "js/", "css/", "images/", "/signed-out", "/account")
CONTEXT = {
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

    page = pages.get_template("bff/error.html").render(**CONTEXT, **ERROR, try_again_url="/orders")

    assert "<title>Out of order · Shop</title>" in page
    assert all(
        text in page for text in ("503", "store_unavailable", "r1", 'href="/orders"', "/static/bff/bff.css")
    )


async def test_a_browser_that_looks_for_an_icon_by_itself_finds_one(browser: Browser):
    response = await browser.get("/favicon.ico")

    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("image/")
    assert response.headers["Cache-Control"] == "no-cache"  # asked for again, and answered with 304
    assert response.headers["X-Content-Type-Options"] == "nosniff"
