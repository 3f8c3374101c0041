"""The pages, for a browser that is signed in and for one that is not."""

from __future__ import annotations

from app.bff.testing import Browser, Clock


async def test_the_home_page_needs_no_session(browser: Browser) -> None:
    response = await browser.get("/")

    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")


async def test_the_account_page_asks_to_sign_in_and_comes_back(browser: Browser) -> None:
    response = await browser.get("/account")

    assert response.status_code == 302
    assert response.headers["Location"] == "/bff/login?returnUrl=%2Faccount"


async def test_the_account_page_shows_who_is_signed_in(alice: Browser, bob: Browser) -> None:
    assert "Alice Adams" in (await alice.get("/account")).text
    assert "Bob Brown" in (await bob.get("/account")).text


async def test_a_session_ends_after_an_hour_without_use(alice: Browser, clock: Clock) -> None:
    clock.advance(3601)

    assert (await alice.get("/account")).status_code == 302
