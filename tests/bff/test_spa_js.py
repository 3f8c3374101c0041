"""`static/bff/spa.js` in Chromium: a single-page app follows its session, in this window and in others."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page

from tests.bff import test_bff_js
from tests.bff.harness import wait_until
from tests.bff.test_bff_js import ENDED, SECOND_PIECE, Answer, Server, problem

pytestmark = pytest.mark.asyncio(loop_scope="module")
server, page = test_bff_js.server, test_bff_js.page  # fixtures

NO_SESSION = problem(401, "no_session")
FOLLOW = """() => {
  window.states = [];
  window.unsubscribe = session.subscribe(() => states.push(session.get()));
}"""
RESTORED = "() => { dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true})); }"
ANOTHER_WINDOW = """key => {
  window.channel = new BroadcastChannel("session");
  window.heard = [];
  channel.onmessage = ({data}) => heard.push(data);
  channel.postMessage(key);
}"""


def signed_in(sub: str = "alice", key: str = "1") -> Answer:
    claims = {"sub": sub, "bff:logout_url": f"/bff/logout?sid={key}", "bff:session_expires_in": 3600}
    return 200, {}, [{"type": name, "value": value} for name, value in claims.items()]


async def last_state(page: Page, states: int = 1) -> Any:
    """The state after so many changes."""
    await page.wait_for_function(f"states.length >= {states}")
    state = await page.evaluate("states.at(-1)")
    return {**state, "user": state.get("user") and state["user"]["sub"]}


async def follows(server: Server, page: Page, *answers: Answer) -> None:
    """The app has started, signed in, and listens."""
    server.answers_with("/bff/user", *answers)
    await page.evaluate(FOLLOW)
    await wait_until(lambda: server.open_streams == 1)


async def test_nothing_is_asked_before_the_app_wants_to_know(server: Server, page: Page):
    assert await page.evaluate("session.get()") == {"user": None}  # undefined, in Python
    assert server.heard_at("/bff/user") == []


async def test_it_is_known_who_is_signed_in(server: Server, page: Page):
    await follows(server, page, signed_in())

    assert await last_state(page) == {"user": "alice"}


async def test_without_a_session_nothing_is_listened_to(server: Server, page: Page):
    server.answers_with("/bff/user", NO_SESSION)
    await page.evaluate(FOLLOW)

    assert await last_state(page) == {"user": None}
    assert server.heard_at("/bff/events") == []


async def test_a_server_that_does_not_know_is_an_error_and_not_a_signed_out_user(server: Server, page: Page):
    server.answers_with("/bff/user", problem(503, "store_unavailable"))
    await page.evaluate(FOLLOW)

    await page.wait_for_function("session.get().error?.code === 'store_unavailable'")
    assert await page.evaluate("session.get().user === undefined")


async def test_the_end_of_the_session_leaves_nothing_of_the_user(server: Server, page: Page):
    server.streams.append([":\n\n", SECOND_PIECE, ENDED])
    await follows(server, page, signed_in())

    server.second_piece.set()

    assert await last_state(page, 2) == {"user": None, "reason": "operator"}


async def test_changed_claims_are_read_again_and_the_session_does_not_last_longer(server: Server, page: Page):
    server.streams.append([":\n\n", SECOND_PIECE, "event: session_changed\ndata: {}\n\n"])
    await follows(server, page, signed_in())

    server.second_piece.set()

    await last_state(page, 2)
    assert [request.query for request in server.heard_at("/bff/user")][-1].endswith("slide=false")


@pytest.mark.parametrize(
    ("now", "state", "says"),
    [
        pytest.param(signed_in(), {"user": "alice"}, ["/bff/logout?sid=1"], id="this session lives"),
        pytest.param(signed_in(key="2"), {"user": "alice"}, ["/bff/logout?sid=2"], id="signed in once more"),
        pytest.param(NO_SESSION, {"user": None, "reason": ""}, [], id="it has ended"),
    ],
)
async def test_another_window_that_has_another_session_makes_it_look(
    server: Server, page: Page, now: Answer, state: dict[str, Any], says: list[str]
):
    await follows(server, page, signed_in(), now)
    other = await page.context.new_page()
    await other.goto(f"{server.url}/page")

    await other.evaluate(ANOTHER_WINDOW, "/bff/logout?sid=2")

    assert await last_state(page, 2) == state
    await other.wait_for_function("count => heard.length >= count", arg=len(says))
    assert await other.evaluate("heard") == says


async def test_an_unreachable_server_is_not_the_end_of_the_session(server: Server, page: Page):
    await follows(server, page, signed_in(), problem(503, "store_unavailable"))
    other = await page.context.new_page()
    await other.goto(f"{server.url}/page")

    await other.evaluate(ANOTHER_WINDOW, "")
    await wait_until(lambda: len(server.heard_at("/bff/user")) == 2)

    assert await last_state(page) == {"user": "alice"}


async def test_another_user_gets_a_new_page(server: Server, page: Page):
    await follows(server, page, signed_in(), signed_in("bob", "2"))

    async with page.expect_event("load"):
        await page.evaluate("() => { session.refresh(); }")


async def test_an_app_whose_session_has_ended_loads_again_once_when_another_window_signs_in(
    server: Server, page: Page
):
    server.streams.append([":\n\n", ENDED])
    server.answers_with("/bff/user", signed_in())
    await page.evaluate(FOLLOW)
    await last_state(page, 2)
    other = await page.context.new_page()
    await other.goto(f"{server.url}/page")

    async with page.expect_event("load"):
        await other.evaluate(ANOTHER_WINDOW, "/bff/logout?sid=2")

    assert await page.evaluate("sessionStorage.reloadedFor") == "/bff/logout?sid=2"


async def test_who_has_unsubscribed_is_not_called(server: Server, page: Page):
    await follows(server, page, signed_in())
    await last_state(page)

    await page.evaluate("() => { unsubscribe(); return session.refresh(); }")

    assert await page.evaluate("states.length") == 1


async def test_what_the_back_button_may_restore_is_hidden_and_loaded_again(server: Server, page: Page):
    await follows(server, page, signed_in())

    await page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
    assert await page.evaluate("document.body.hidden")

    async with page.expect_event("load"):
        await page.evaluate(
            "() => { dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true})); }"
        )
