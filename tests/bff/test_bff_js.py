"""`static/bff/bff.js` in Chromium, against a server that answers what a test wants."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from tests.bff.harness import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
BFF, MANUAL = ROOT / "static/bff/bff.js", ROOT / "docs/bff/front-end.md"
PAGE = """<!doctype html>
<script type="module">import * as bff from "/bff.js"; import {session} from "/spa.js";
Object.assign(window, {bff, session});</script>"""
PROBLEM = {"Content-Type": "application/problem+json"}

SECOND_PIECE = ""  # what follows is sent when the test says so

Answer = tuple[int, dict[str, str], Any]


def problem(status: int, code: str, *, headers: dict[str, str] | None = None, **more: str) -> Answer:
    return status, {**PROBLEM, **(headers or {})}, {"status": status, "code": code, "detail": code, **more}


class Server:
    """Answers each path with what was put there, the last of it again and again; keeps what it heard."""

    def __init__(self) -> None:
        self.answers: dict[str, deque[Answer]] = {}
        self.streams: deque[list[str]] = deque()
        self.heard: list[HTTPServerRequest] = []
        self.open_streams = 0
        self.second_piece = asyncio.Event()
        self.holds: dict[str, asyncio.Event] = {}
        [self._socket] = bind_sockets(0, "127.0.0.1")
        routes = [("/page", Shows), (r"/(?:bff|spa)\.js", Script), ("/bff/events", Streams), (".*", Answers)]
        handlers = [(path, handler, {"server": self}) for path, handler in routes]
        self._http = HTTPServer(Application(handlers, log_function=lambda handler: None))
        self._http.add_sockets([self._socket])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def answers_with(self, path: str, *answers: Answer) -> None:
        self.answers[path] = deque(answers)

    def heard_at(self, path: str) -> list[HTTPServerRequest]:
        return [request for request in self.heard if request.path == path]

    async def stop(self) -> None:
        self._http.stop()
        await self._http.close_all_connections()


class Part(RequestHandler):
    def initialize(self, server: Server) -> None:
        self.server = server

    def prepare(self) -> None:
        self.server.heard.append(self.request)


class Shows(Part):
    def get(self) -> None:
        self.finish(PAGE)


class Script(Part):
    def get(self) -> None:
        self.set_header("Content-Type", "text/javascript")
        self.finish((BFF.parent / self.request.path[1:]).read_bytes())


class Answers(Part):
    async def answer(self) -> None:
        if hold := self.server.holds.get(self.request.path):
            await hold.wait()
        known = self.server.answers.get(self.request.path)
        status, headers, body = (known.popleft() if len(known) > 1 else known[0]) if known else (200, {}, {})
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        for name, value in headers.items():
            self.set_header(name, value)
        self.finish(json.dumps(body) if status != 204 else None)

    get = post = put = delete = answer


class Streams(Part):
    """Sends the next list of pieces, and is cut after the last; without a list, stays open."""

    def prepare(self) -> None:
        super().prepare()
        self._left = asyncio.Event()

    async def get(self) -> None:
        if known := self.server.answers.get(self.request.path):
            self.set_status(known[0][0])
            self.finish(known[0][2])
            return
        self.server.open_streams += 1
        try:
            if not self.server.streams:
                self.write(":\n\n")
                await self.flush()
                await self._left.wait()
                return
            for piece in self.server.streams.popleft():
                if piece is SECOND_PIECE:
                    await self.server.second_piece.wait()
                self.write(piece)
                await self.flush()
        except StreamClosedError:
            pass
        finally:
            self.server.open_streams -= 1

    def on_connection_close(self) -> None:
        self._left.set()


@pytest_asyncio.fixture(loop_scope="module")
async def server() -> AsyncIterator[Server]:
    server = Server()
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def page(chromium: Browser, server: Server) -> AsyncIterator[Page]:
    context = await chromium.new_context()
    context.set_default_timeout(10_000)
    page = await context.new_page()
    await page.goto(f"{server.url}/page?x=1#/orders/7")
    await page.wait_for_function("window.bff")
    await page.evaluate("() => { Math.random = () => 0; }")  # pauses are random, up to a limit
    yield page
    await context.close()


async def test_it_is_small_and_stands_alone():
    source = BFF.read_bytes()

    assert len(source) < 4000
    assert b"import " not in source
    assert f" {len(source):,} bytes" in MANUAL.read_text()


# user()


async def test_a_claim_that_occurs_twice_is_an_array(server: Server, page: Page):
    entries = [("sub", "alice"), ("role", "a"), ("role", "b"), ("role", "c"), ("constructor", "x")]
    server.answers_with("/bff/user", (200, {}, [{"type": t, "value": v} for t, v in entries]))

    claims = await page.evaluate("bff.user()")

    assert claims == {"sub": "alice", "role": ["a", "b", "c"], "constructor": "x"}


@pytest.mark.parametrize(
    "answer",
    [pytest.param(problem(401, "no_session"), id="401"), pytest.param((200, {}, None), id="200 and null")],
)
async def test_user_is_null_without_a_session(server: Server, page: Page, answer: Answer):
    server.answers_with("/bff/user", answer)

    assert await page.evaluate("bff.user()") is None


async def test_asking_may_leave_the_session_as_short_as_it_is(server: Server, page: Page):
    server.answers_with("/bff/user", (200, {}, []))

    await page.evaluate("bff.user({slide: false})")

    [request] = server.heard_at("/bff/user")
    assert request.query == "typed=true&slide=false"
    assert request.headers["X-CSRF"] == "1"


async def test_what_the_server_says_of_a_failure_is_in_the_error(server: Server, page: Page):
    server.answers_with("/bff/user", problem(503, "store_unavailable", request_id="r1"))

    error = await page.evaluate(
        "bff.user().catch(e => [e instanceof Error, e.message, e.code, e.request_id])"
    )

    assert error == [True, "store_unavailable", "store_unavailable", "r1"]


# api.fetch()


async def test_a_call_carries_the_header_and_what_the_page_sends(server: Server, page: Page):
    server.answers_with("/api/x", (201, {}, {"id": 1}))
    init = {"method": "POST", "body": "b", "headers": {"X-Mine": "m"}}

    status = await page.evaluate("init => bff.api.fetch('/api/x', init).then(a => a.status)", init)

    [request] = server.heard_at("/api/x")
    assert (status, request.method, request.body) == (201, "POST", b"b")
    assert (request.headers["X-CSRF"], request.headers["X-Mine"]) == ("1", "m")


async def test_nothing_is_sent_to_another_origin_not_even_by_a_redirect(server: Server, page: Page):
    other = Server()
    server.answers_with("/away", (302, {"Location": f"{other.url}/stolen"}, None))

    for path in (f"{other.url}/stolen", "/away"):
        assert await page.evaluate("path => bff.api.fetch(path).catch(e => e.name)", path) == "TypeError"

    assert other.heard == []
    await other.stop()


@pytest.mark.parametrize("code", ["no_session", "session_ended", "reauthentication_required"])
async def test_a_call_that_needs_a_login_navigates_there_and_back(server: Server, page: Page, code: str):
    server.answers_with("/api/x", problem(401, code, login_url="/bff/login?returnUrl=%2Fapi%2Fx"))

    await page.evaluate("() => { bff.api.fetch('/api/x'); }")
    await page.wait_for_url("**/bff/login?*")

    assert parse_qs(urlsplit(page.url).query) == {"returnUrl": ["/page?x=1#/orders/7"]}


async def step_up(server: Server, page: Page) -> None:
    login_url = "/bff/login?acr_values=mfa&max_age=60"
    server.answers_with("/api/x", problem(401, "insufficient_user_authentication", login_url=login_url))
    await page.evaluate("() => { bff.api.fetch('/api/x'); }")
    await page.wait_for_url("**/bff/login?acr_values*")


async def test_a_step_up_requests_what_the_handler_requires(server: Server, page: Page):
    await step_up(server, page)

    login_params = parse_qs(urlsplit(page.url).query)
    assert login_params == {"acr_values": ["mfa"], "max_age": ["60"], "returnUrl": ["/page?x=1#/orders/7"]}


async def comes_back(server: Server, page: Page) -> None:
    await page.goto(f"{server.url}/page")
    await page.wait_for_function("window.bff")


async def test_a_login_that_did_not_help_is_not_tried_again(server: Server, page: Page):
    await step_up(server, page)
    await comes_back(server, page)

    assert await page.evaluate("bff.api.fetch('/api/x').then(a => a.status)") == 401
    assert len(server.heard_at("/bff/login")) == 1


async def test_a_step_up_may_be_needed_just_after_a_login(server: Server, page: Page):
    server.answers_with("/api/x", problem(401, "no_session", login_url="/bff/login"))
    await page.evaluate("() => { bff.api.fetch('/api/x'); }")
    await page.wait_for_url("**/bff/login?*")
    await comes_back(server, page)

    await step_up(server, page)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(problem(401, "no_session", login_url="https://evil.example/bff/login"), id="elsewhere"),
        pytest.param(problem(401, "no_session", login_url="/bff/logout?sid=1"), id="no login at all"),
        pytest.param(problem(401, "no_session"), id="none"),
        pytest.param((401, {}, "what?"), id="no problem document"),
        pytest.param(problem(403, "forbidden", login_url="/bff/login"), id="not a 401"),
    ],
)
async def test_no_api_can_send_the_user_anywhere(server: Server, page: Page, answer: Answer):
    server.answers_with("/api/x", answer)

    assert await page.evaluate("bff.api.fetch('/api/x').then(a => a.status)") == answer[0]


def unavailable(status: int, after: str | None = "0") -> Answer:
    return problem(status, "provider_unavailable", headers={"Retry-After": after} if after else {})


@pytest.mark.parametrize(
    ("status", "method", "after", "times"),
    [
        pytest.param(401, "POST", "0", 3, id="a 401 has reached no API: any method, twice more"),
        pytest.param(503, "GET", "0", 3, id="a GET, twice more"),
        pytest.param(503, "POST", "0", 1, id="a POST that may have had an effect is not repeated"),
        pytest.param(401, "GET", "11", 1, id="at most ten seconds"),
        pytest.param(401, "GET", None, 1, id="the server does not know when"),
    ],
)
async def test_a_provider_that_is_down_is_given_time(
    server: Server, page: Page, status: int, method: str, after: str | None, times: int
):
    server.answers_with("/api/x", unavailable(status, after))

    error = await page.evaluate(
        "method => bff.api.fetch('/api/x', {method}).then(bff.jsonOf).catch(e => e.code)", method
    )

    assert error == "provider_unavailable"
    assert len(server.heard_at("/api/x")) == times


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_call_beyond_the_session_s_share_is_tried_again(server: Server, page: Page, method: str):
    busy = problem(429, "too_many_requests", headers={"Retry-After": "0"})
    server.answers_with("/api/x", busy, busy, (200, {}, {"done": True}))

    assert await page.evaluate("method => bff.api.fetch('/api/x', {method}).then(bff.jsonOf)", method) == {
        "done": True
    }
    assert len(server.heard_at("/api/x")) == 3


async def test_a_call_succeeds_once_the_provider_is_back(server: Server, page: Page):
    server.answers_with("/api/x", unavailable(401), (200, {}, {"done": True}))
    init = {"method": "PUT", "body": "again"}

    assert await page.evaluate("init => bff.api.fetch('/api/x', init).then(bff.jsonOf)", init) == {
        "done": True
    }
    assert [request.body for request in server.heard_at("/api/x")] == [b"again", b"again"]


# login(), logout()


async def test_login_passes_its_parameters_on(server: Server, page: Page):
    await page.evaluate("() => { bff.login('/orders', {prompt: 'login', login_hint: 'alice'}); }")
    await page.wait_for_url("**/bff/login?*")

    login_params = parse_qs(urlsplit(page.url).query)
    assert login_params == {"prompt": ["login"], "login_hint": ["alice"], "returnUrl": ["/orders"]}


async def test_logout_goes_where_the_server_says(server: Server, page: Page):
    server.answers_with("/bff/logout", (200, {}, {"url": "/bye"}))

    await page.evaluate("() => { bff.logout('/after'); }")
    await page.wait_for_url("**/bye")

    [request] = server.heard_at("/bff/logout")
    assert (request.method, request.query, request.headers["X-CSRF"]) == ("POST", "returnUrl=%2Fafter", "1")


# on()

ENDING = 'event: session_ending\ndata: {"expires_in": 118}\n\n'
ENDED = 'event: session_ended\ndata: {"reason": "operator"}\n\n'
LISTEN = """() => {
  window.received = [];
  window.stops = ["ending", "ended"].map((type) => bff.on(type, ({detail}) => received.push([type, detail])));
}"""
LISTEN_FOR_CHANGES = LISTEN.replace('"ending", ', '"ending", "changed", ')
WAITS_FOR_NOTHING = """() => {
  const { setTimeout } = window;
  window.waits = [];
  window.setTimeout = (work, milliseconds) => setTimeout(work, 20, waits.push(milliseconds));
  Math.random = () => 1;
}"""
RECEIVED = "received.length >= {} && received"


async def received(page: Page, events: int) -> Any:
    return await (await page.wait_for_function(RECEIVED.format(events))).json_value()


async def test_a_page_hears_that_its_session_is_about_to_end_and_that_it_has(server: Server, page: Page):
    server.streams.extend([[":\n\n", ENDING], [":\n\n", ENDED]])

    await page.evaluate(LISTEN)

    assert await received(page, 2) == [["ending", {"expires_in": 118}], ["ended", {"reason": "operator"}]]
    assert {request.headers["X-CSRF"] for request in server.heard_at("/bff/events")} == {"1"}


async def test_the_end_is_heard_also_in_two_pieces(server: Server, page: Page):
    server.streams.append([":\n\n" + ENDED[:30], SECOND_PIECE, ENDED[30:]])

    async with page.expect_response("**/bff/events"):
        await page.evaluate(LISTEN)
    server.second_piece.set()

    assert await received(page, 1) == [["ended", {"reason": "operator"}]]
    assert len(server.heard_at("/bff/events")) == 1


async def test_what_comes_in_one_piece_with_a_comment_is_heard(server: Server, page: Page):
    server.streams.append([":\n\n" + ENDED + ":\n\n"])

    await page.evaluate(LISTEN)

    assert await received(page, 1) == [["ended", {"reason": "operator"}]]


async def test_a_server_that_has_trouble_gets_fewer_and_fewer_requests(server: Server, page: Page):
    server.answers_with("/bff/events", problem(503, "store_unavailable"))

    await page.evaluate(WAITS_FOR_NOTHING)
    await page.evaluate(LISTEN)

    waits = await (await page.wait_for_function("waits.length >= 7 && waits")).json_value()
    assert waits[:7] == [2000, 4000, 8000, 16000, 32000, 60000, 60000]


async def test_the_end_that_comes_with_a_warning_leaves_nothing_to_warn_of(server: Server, page: Page):
    server.streams.append([":\n\n" + ENDING + ENDED])

    await page.evaluate(LISTEN)

    assert await received(page, 1) == [["ended", {"reason": "operator"}]]


CHANGED = "event: session_changed\ndata: {}\n\n"


async def test_events_that_come_in_one_piece_are_all_heard_also_with_half_of_one_more(
    server: Server, page: Page
):
    first, second = ":\n\n" + ENDING + CHANGED + CHANGED[:20], CHANGED[20:] + ":\n\n"
    server.streams.append([first, SECOND_PIECE, second])

    await page.evaluate(LISTEN_FOR_CHANGES)
    assert await received(page, 2) == [["ending", {"expires_in": 118}], ["changed", {}]]
    server.second_piece.set()

    assert (await received(page, 3))[2] == ["changed", {}]


async def test_a_stream_that_is_opened_again_may_have_missed_a_change(server: Server, page: Page):
    server.streams.extend([[":\n\n"], [":\n\n", SECOND_PIECE, ENDED]])

    await page.evaluate(LISTEN_FOR_CHANGES)
    assert await received(page, 1) == [["changed", {}]]
    server.second_piece.set()

    assert await received(page, 2) == [["changed", {}], ["ended", {"reason": "operator"}]]


async def test_a_session_that_was_over_before_has_ended_for_an_unknown_reason(server: Server, page: Page):
    server.answers_with("/bff/events", problem(401, "no_session"))

    await page.evaluate(LISTEN)

    assert await received(page, 1) == [["ended", {}]]


async def test_a_stream_that_is_cut_is_opened_again(server: Server, page: Page):
    server.streams.extend([[":\n\n"], [ENDED[:30]], [], [ENDED]])

    await page.evaluate(LISTEN)

    assert await received(page, 1) == [["ended", {"reason": "operator"}]]
    assert len(server.heard_at("/bff/events")) == 4


async def test_a_page_has_one_stream_however_many_listen_and_who_has_stopped_hears_nothing(
    server: Server, page: Page
):
    server.streams.append([":\n\n", SECOND_PIECE, ENDING, ENDED])
    await page.evaluate(LISTEN)
    await page.evaluate("() => { stops[0](); }")
    server.second_piece.set()

    assert await received(page, 1) == [["ended", {"reason": "operator"}]]
    assert len(server.heard_at("/bff/events")) == 1


async def hears_of_the_end_while_it_signs_out(server: Server, page: Page) -> None:
    server.holds["/bff/logout"] = asyncio.Event()
    server.streams.append([":\n\n", SECOND_PIECE, ENDED])
    await page.evaluate(LISTEN)
    await page.evaluate("() => { bff.logout().catch((error) => received.push(error.code)); }")
    await wait_until(lambda: bool(server.heard_at("/bff/logout")))
    server.second_piece.set()
    await wait_until(lambda: len(server.heard_at("/bff/events")) == 2)  # so it has read the first to its end


async def test_the_page_that_signs_out_gets_no_event_but_navigates(server: Server, page: Page):
    await hears_of_the_end_while_it_signs_out(server, page)
    assert await page.evaluate("received") == []

    server.answers_with("/bff/logout", (200, {}, {"url": "/bye"}))
    server.holds["/bff/logout"].set()

    await page.wait_for_url("**/bye")


async def test_a_page_that_could_not_sign_out_gets_events_again(server: Server, page: Page):
    await hears_of_the_end_while_it_signs_out(server, page)
    server.answers_with("/bff/logout", problem(503, "store_unavailable"))
    server.answers_with("/bff/events", problem(401, "no_session"))

    server.holds["/bff/logout"].set()
    await received(page, 1)
    await page.evaluate(VISIBILITY, False)  # cuts the stream
    await page.evaluate(VISIBILITY, True)

    assert await received(page, 2) == ["store_unavailable", ["ended", {}]]


async def test_a_hidden_page_holds_no_connection(server: Server, page: Page):
    await page.evaluate(LISTEN)
    await wait_until(lambda: server.open_streams == 1)

    await page.evaluate(VISIBILITY, False)
    await wait_until(lambda: server.open_streams == 0)
    await page.evaluate(VISIBILITY, True)

    await wait_until(lambda: server.open_streams == 1)


VISIBILITY = """visible => {
  Object.defineProperty(document, "hidden", {value: !visible, configurable: true});
  document.dispatchEvent(new Event("visibilitychange", {bubbles: true}));
}"""
