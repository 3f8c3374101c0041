"""Journeys: what a person does in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from tests.bff.browser_users import BrowserUser, Site, browser_user

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one loop, so that one Chromium serves all tests

FETCH = "path => fetch(path, {headers: {'X-CSRF': '1'}}).then(response => response.text())"
TOKEN = re.compile(r"\b(?:at|rt)-[\w-]{43}|\beyJ[\w-]+\.[\w-]+\.[\w-]+")


@asynccontextmanager
async def another_site(host: str, page: str) -> AsyncIterator[str]:
    """A page that is not ours, on a port of its own; yields its URL."""

    class Index(RequestHandler):
        def get(self) -> None:
            self.finish(f"<!doctype html><title>Elsewhere</title>{page}")

    [socket] = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application([("/", Index)], log_function=lambda handler: None))
    server.add_sockets([socket])
    yield f"http://{host}:{socket.getsockname()[1]}/"
    server.stop()
    await server.close_all_connections()


async def test_alice_signs_in_sees_her_account_and_signs_out(alice: BrowserUser):
    await alice.signs_in()
    await alice.clicks("Account")

    await alice.sees("Your account")
    await expect(alice.page.get_by_role("row", name="email alice@example.com")).to_be_visible()
    await expect(alice.page.locator("#api-answer")).to_contain_text("Bearer …")

    await alice.signs_out()
    await alice.page.reload()
    await alice.is_signed_out()


async def test_after_a_logout_at_a_provider_like_keycloak_the_next_user_has_to_sign_in(
    site: Site, alice: BrowserUser
):
    site.provider.sessions_end_with_their_grants = True
    await alice.signs_in()
    await alice.signs_out()
    assert site.provider.counts["revoke"] == 1

    await alice.clicks("Sign in")
    await alice.sees("Development provider")


async def test_signing_in_and_out_needs_no_javascript(chromium: Browser, site: Site):
    async with browser_user(chromium, site, java_script_enabled=False) as alice:
        await alice.signs_in()
        await alice.clicks("Account")
        await alice.sees("Your account")

        await alice.signs_out()


async def test_no_page_breaks_its_own_security_policy_or_complains_in_the_console(alice: BrowserUser):
    await alice.goes_to("/")
    await alice.signs_in()
    await alice.goes_to("/account")
    await alice.signs_out()
    assert alice.console_errors == []

    await alice.goes_to("/nowhere")
    await alice.sees("Not Found")
    assert [text for text in alice.console_errors if "404 (Not Found)" not in text] == []


async def test_after_signing_in_the_requested_page_is_shown(alice: BrowserUser):
    await alice.goes_to("/account?from=mail&x=%20")
    await alice.chooses()

    await alice.is_at("/account?from=mail&x=%20")
    await alice.sees("Your account")


async def test_a_link_on_another_site_leads_to_the_account_and_not_to_the_login_page(
    site: Site, alice: BrowserUser
):
    await alice.signs_in()
    authorizations = site.provider.counts["authorize"]

    async with another_site("127.0.0.1", f'<a href="{site.url}/account">Your order</a>') as mail:
        await alice.page.goto(mail)
        await alice.clicks("Your order")
        await alice.sees("Your account")

    await alice.sees_name("Alice Adams")
    assert site.provider.counts["authorize"] == authorizations


async def test_two_tabs_sign_in_at_once(alice: BrowserUser):
    other = BrowserUser(alice.site, await alice.page.context.new_page())
    await alice.goes_to("/account?tab=1")
    await other.goes_to("/account?tab=2")

    await alice.chooses()
    await alice.is_at("/account?tab=1")
    await other.chooses()
    await other.is_at("/account?tab=2")

    await other.goes_to("/")
    await other.sees_name("Alice Adams")


async def test_the_back_button_after_signing_in_is_harmless(site: Site, alice: BrowserUser):
    await alice.signs_in()
    authorizations = site.provider.counts["authorize"]
    statuses: list[int] = []
    alice.page.on("response", lambda response: statuses.append(response.status))

    for _ in range(3):
        await alice.page.go_back(wait_until="load")

    assert max(statuses) < 500
    assert site.provider.counts["authorize"] <= authorizations + 3
    await alice.goes_to("/")
    await alice.sees_name("Alice Adams")


async def test_the_browser_never_gets_a_token_and_scripts_see_no_cookie(
    chromium: Browser, site: Site, tmp_path: Path
):
    har = tmp_path / "journey.har"
    async with browser_user(chromium, site, record_har_path=har, record_har_content="embed") as alice:
        await alice.signs_in()
        await alice.goes_to("/account")
        for path in ("/bff/user", "/api/echo"):
            await alice.page.evaluate(FETCH, path)
        stored = "[document.cookie, localStorage.length, sessionStorage.length]"
        assert await alice.page.evaluate(stored) == ["", 0, 0]
        assert not TOKEN.search(json.dumps(await alice.page.context.storage_state()))

    recorded = har.read_text()
    assert "bff:session_expires_in" in recorded  # bodies are in it
    assert TOKEN.findall(recorded) == []


ATTEMPTS = """async (url) => {
  const todo = JSON.stringify({title: "Stolen"});
  const attempts = [
    fetch(url + "/bff/user", {credentials: "include"}),
    fetch(url + "/bff/user", {credentials: "include", headers: {"X-CSRF": "1"}}),
    fetch(url + "/api/todos", {credentials: "include", headers: {"X-CSRF": "1"}}),
    fetch(url + "/api/todos", {method: "POST", credentials: "include", mode: "no-cors", body: todo}),
    fetch(url + "/api/todos", {method: "POST", credentials: "include", headers: {"X-CSRF": "1"}, body: todo}),
  ];
  const answers = await Promise.allSettled(attempts);
  return Promise.all(answers.map(async ({value}) => value ? await value.text() : "refused"));
}"""
FORM = '<form method="post" action="{}/api/todos"><input name="title"><button>Win</button></form>'


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("127.0.0.1", id="another site"),
        pytest.param("localhost", id="another port, so the cookie comes along"),
    ],
)
async def test_other_origins_can_neither_read_nor_change_anything(site: Site, alice: BrowserUser, host: str):
    await alice.signs_in()

    async with another_site(host, FORM.format(site.url)) as evil:
        await alice.page.goto(evil)
        answers = await alice.page.evaluate(ATTEMPTS, site.url)
        async with alice.page.expect_response("**/api/todos") as posted:
            await alice.clicks("Win", role="button")

    assert answers == ["refused"] * 5
    assert (await posted.value).status == 403
    assert site.api.counts["todos"] == 0


async def test_a_user_who_denies_sees_an_error_and_may_try_again(alice: BrowserUser):
    await alice.goes_to("/account")
    await alice.clicks("Deny", role="button")
    await alice.sees("Signing in did not work")

    await alice.clicks("Try again")
    await alice.chooses()

    await alice.sees_name("Alice Adams")
