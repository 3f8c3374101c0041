"""The built app, for a browser. scripts/test.sh builds it first."""

from __future__ import annotations

import pytest

from app.bff.testing import Browser


@pytest.mark.parametrize("path", ["/", "/todos", "/account?details", "/no/such/page"])
async def test_every_navigation_gets_the_app(browser: Browser, path: str) -> None:
    response = await browser.get(path)

    assert response.status_code == 200
    assert '<div id="root">' in response.text


async def test_a_call_of_what_does_not_exist_is_a_problem_document(alice: Browser) -> None:
    response = await alice.fetch("/no/such/data")

    assert (response.status_code, response.json()["code"]) == (404, "not_found")
