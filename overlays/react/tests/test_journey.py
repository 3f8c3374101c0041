"""A journey through a real browser. Where there is no Chromium the test is skipped, and pytest says so."""

from __future__ import annotations

from playwright.async_api import Page, expect

from app.bff.testing import RunningApp


async def test_alice_signs_in_sees_her_account_and_signs_out(page: Page, app: RunningApp) -> None:
    await page.goto("/account")
    await page.get_by_role("button", name="Alice Adams").click()  # on the development provider's page

    await expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    await expect(page).to_have_url(f"{app.base_url}/account")
    await expect(page.get_by_role("main")).to_contain_text("Alice Adams")

    await page.get_by_role("button", name="Sign out").click()

    await expect(page.get_by_role("button", name="Sign in").first).to_be_visible()
    await expect(page).to_have_url(f"{app.base_url}/")
