"""WebSockets to remote APIs: what the handshake carries, what passes through, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from app.bff.proxy.websocket import RemoteSocket
from app.bff.sessions.session import Session
from app.bff.settings.apis import RemoteApiSettings
from tests.bff.harness import (
    Browser,
    Clock,
    RunningApp,
    new_browser,
    raw_target,
    running_app,
    sign_in,
    wait_until,
)
from tests.bff.websocket_clients import (
    HANDSHAKE,
    MANY,
    MIB,
    BulkSender,
    api_socket,
    close_code_and_reason,
    no_requests_in_flight,
    open_websocket,
    refused_handshake,
    settled_value,
)

PATH = "/api/socket"


class Impatient(RemoteSocket):
    look_again_seconds = 0.001
    stall_seconds = 0.1
    farewell_seconds = 0.1


class Attentive(RemoteSocket):
    ping_interval = 0.1


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    clients = {
        "apiClient": {"base_url": api.base_url, "token": "user", "max_connections": 1},
        "ours": {"base_url": api.base_url, "token": "client"},
        "named": {
            "base_url": api.base_url,
            "token": "user",
            "headers": {"Origin": "https://bff.example.com"},
        },
        "away": {"base_url": "http://127.0.0.1:1/", "token": "user"},
    }
    apis = [
        {"path": "/api", "client": "apiClient"},
        {"path": "/ours", "client": "ours"},
        {"path": "/named", "client": "named", "forwarded": True},
        {"path": "/away", "client": "away"},
        {"path": "/hurried", "client": "apiClient", "timeout_seconds": 0.1},
        {"path": "/todos", "client": "apiClient", "methods": ["POST", "DELETE"]},
        {"path": "/api/posts", "client": "apiClient", "methods": ["POST"]},
    ]
    async with running_app(provider, api, clock=clock, http_clients=clients, remote_apis=apis) as app:
        for path, handler in (("/impatient", Impatient), ("/attentive", Attentive)):
            api_there = RemoteApiSettings(path=path, client="apiClient")
            app.tornado.add_handlers(".*", [(f"{path}/.*", handler, {"api": api_there})])
        yield app


def headers_heard_by(api: DemoApi) -> dict[str, str]:
    assert api.last_request
    return {name.lower(): value for name, value in api.last_request.headers}


# The handshake


async def test_it_carries_the_users_token_and_does_not_reveal_it(
    api: DemoApi, browser: Browser, session: Session
):
    async with open_websocket(browser, PATH) as socket:
        answered = str(socket._response.headers)

    assert headers_heard_by(api)["authorization"] == f"Bearer {session.tokens.access_token}"
    assert session.tokens.access_token not in answered


async def test_path_and_query_arrive_letter_for_letter(api: DemoApi, browser: Browser, session: Session):
    async with open_websocket(browser, f"{PATH}/a%20b/%C3%A9?x=1&x=2&y=%2F+%26"):
        assert api.last_request
        assert api.last_request.path == f"{PATH}/a%20b/%C3%A9"
        assert api.last_request.query == "x=1&x=2&y=%2F+%26"


async def test_the_api_hears_what_belongs_to_the_request(api: DemoApi, browser: Browser, session: Session):
    async with open_websocket(browser, PATH, headers={"Accept-Language": "de", "User-Agent": "a browser"}):
        heard = headers_heard_by(api)

    assert (heard["accept-language"], heard["user-agent"]) == ("de", "a browser")


async def test_a_header_arrives_byte_for_byte(api: DemoApi, browser: Browser, session: Session):
    async with open_websocket(browser, PATH, headers={"X-Name": "é"}):
        heard = headers_heard_by(api)["x-name"]

    assert heard.encode("latin-1").decode() == "é"


async def test_what_the_browser_did_not_send_is_not_added(api: DemoApi, browser: Browser, session: Session):
    browser.http.headers.clear()
    await refused_handshake(
        browser, PATH, **{"Sec-WebSocket-Version": "12"}
    )  # which is checked after the request to the API

    assert not {"user-agent", "accept", "accept-encoding"} & headers_heard_by(api).keys()


@pytest.mark.parametrize("name", ["Cookie", "X-Forwarded-For", "Sec-WebSocket-Extensions", "X-Named"])
async def test_the_api_does_not_hear_the_browser_s(
    name: str, api: DemoApi, browser: Browser, session: Session
):
    sent = {"Connection": "Upgrade, X-Named", "X-Named": "1", "X-Forwarded-For": "10.0.0.1"}
    async with open_websocket(browser, PATH, headers=sent, compress=15) as socket:
        assert not socket.compress

    assert name.lower() not in headers_heard_by(api)


async def test_an_api_that_checks_the_origin_sees_its_own(api: DemoApi, browser: Browser, session: Session):
    async with open_websocket(browser, PATH):
        assert headers_heard_by(api)["origin"] == f"http://127.0.0.1:{api.port}"


async def test_it_sees_the_one_that_the_client_s_headers_name_and_where_it_is_seen_from(
    api: DemoApi, browser: Browser, session: Session
):
    refused = await refused_handshake(browser, "/named/socket")  # by the API, as another origin's

    heard = headers_heard_by(api)
    assert (heard["origin"], refused.status_code) == ("https://bff.example.com", 403)
    assert (heard["x-forwarded-proto"], heard["x-forwarded-prefix"]) == ("http", "/named")


async def test_what_the_browser_speaks_is_offered_and_what_the_api_chose_is_answered(
    api: DemoApi, browser: Browser, session: Session
):
    async with open_websocket(browser, PATH, protocols=("graphql-ws", "mqtt")) as socket:
        assert socket.protocol == "mqtt"

    assert headers_heard_by(api)["sec-websocket-protocol"] == "graphql-ws,mqtt"


async def test_it_is_not_opened_for_another_site(api: DemoApi, browser: Browser, session: Session):
    response = await refused_handshake(browser, PATH, Origin="https://evil.example")

    assert (response.status_code, response.json()["code"]) == (403, "csrf_rejected")
    assert api.counts.total() == 0


async def test_it_is_not_opened_without_a_session_if_the_client_carries_the_users_token(
    api: DemoApi, browser: Browser
):
    response = await refused_handshake(browser, PATH)

    assert (response.status_code, response.json()["code"]) == (401, "no_session")
    assert api.counts.total() == 0


async def test_it_is_opened_without_a_session_if_the_client_carries_the_applications_token(
    api: DemoApi, browser: Browser
):
    async with open_websocket(browser, "/ours/socket") as socket:
        await socket.send_str("x")
        assert await socket.receive_str() == "x"


async def test_it_is_not_opened_where_no_get_is_forwarded(api: DemoApi, browser: Browser, session: Session):
    response = await refused_handshake(browser, "/todos/socket")

    assert (response.status_code, response.headers["Allow"]) == (405, "DELETE, POST")
    assert api.counts.total() == 0


@pytest.mark.parametrize(
    "path",
    [
        *("/api/../secrets", "/api/%2e%2e/secrets", "/api/..%20/x", "/api/%c0%ae./x"),
        *("/api/%70osts/x", "/api/%2570osts/x", "/api/posts;x", "/api/Posts"),  # of the API below
    ],
)
async def test_it_is_not_opened_at_a_path_that_could_lead_outside(
    path: str, api: DemoApi, browser: Browser, session: Session
):
    headers = {**HANDSHAKE, "Origin": browser.app.base_url}
    response = await browser.http.get("/", headers=headers, **raw_target(path))

    assert (response.status_code, response.json()["code"]) == (400, "bad_request")
    assert api.counts.total() == 0


async def test_a_post_that_wants_a_websocket_is_a_post(api: DemoApi, browser: Browser, session: Session):
    response = await browser.fetch("/api/echo", "POST", headers=HANDSHAKE, content=b"x")

    assert response.status_code == 200
    assert "upgrade" not in headers_heard_by(api)


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        (401, 401),
        (403, 403),
        (404, 404),
        (429, 429),
        (503, 503),
        (504, 504),
        (500, 502),
        (200, 502),
        (204, 502),
    ],
)
async def test_what_the_api_refuses_the_browser_is_refused(
    said: int, answered: int, api: DemoApi, browser: Browser, session: Session
):
    api.fails["socket"] = Failure(said)
    response = await refused_handshake(browser, PATH)

    assert (response.status_code, response.json()["code"]) == (answered, "api_refused")
    assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int, api: DemoApi, browser: Browser, session: Session):
    api.fails["socket"] = Failure(status, headers={"Location": f"{api.base_url}echo"})
    response = await refused_handshake(browser, PATH)

    assert (response.status_code, response.json()["code"]) == (502, "api_refused")
    assert api.counts["echo"] == 0


async def test_an_api_that_is_away_is_502(browser: Browser, session: Session):
    response = await refused_handshake(browser, "/away/socket")

    assert (response.status_code, response.json()["code"]) == (502, "api_unreachable")


async def test_an_api_that_does_not_answer_in_time_is_504(api: DemoApi, browser: Browser, session: Session):
    api.holds["socket"] = asyncio.Event()
    response = await refused_handshake(browser, "/hurried/socket")

    assert (response.status_code, response.json()["code"]) == (504, "api_timeout")


async def test_a_token_that_the_api_refuses_is_renewed_once(
    api: DemoApi, browser: Browser, session: Session, provider: Provider
):
    api.rejects.add(session.tokens.access_token)
    async with open_websocket(browser, PATH):
        assert api.counts["socket"] == 2

    assert provider.counts["token:refresh_token"] == 1


async def test_a_bound_token_is_sent_with_a_proof(provider: Provider, api: DemoApi, clock: Clock):
    api.dpop_nonce = "newest"
    async with running_app(provider, api, clock=clock, dpop=True) as app, new_browser(app) as browser:
        await sign_in(app, browser)
        async with open_websocket(browser, PATH, headers={"DPoP": "of the browser"}):
            assert headers_heard_by(api)["authorization"].startswith("DPoP ")
        await no_requests_in_flight(app)


async def test_the_api_is_left_alone_when_the_browser_speaks_another_version(
    app: RunningApp, api: DemoApi, browser: Browser, session: Session
):
    response = await refused_handshake(browser, PATH, **{"Sec-WebSocket-Version": "12"})

    assert response.status_code == 426
    await no_requests_in_flight(app)
    await wait_until(lambda: api.sockets[0].is_over)


async def test_open_sockets_take_no_place_in_the_pool(browser: Browser, session: Session):
    async with open_websocket(browser, PATH), open_websocket(browser, PATH):
        assert (await browser.fetch("/api/echo")).status_code == 200


async def test_the_api_is_left_alone_when_the_browser_leaves_before_it_answers(
    app: RunningApp, api: DemoApi, browser: Browser, session: Session, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    api.holds["socket"] = asyncio.Event()
    leaving = asyncio.create_task(refused_handshake(browser, PATH))
    await wait_until(lambda: api.counts["socket"] == 1)
    leaving.cancel()
    await no_requests_in_flight(app)

    assert [vars(record)["status"] for record in caplog.records if "answered" in record.message] == [499]


# What passes through


async def test_text_and_bytes_go_both_ways_in_order(api: DemoApi, browser: Browser, session: Session):
    said = ["é", b"\x00\xff", "", b"", "last"]
    async with open_websocket(browser, PATH) as socket:
        for message in said:
            await (socket.send_bytes if isinstance(message, bytes) else socket.send_str)(message)
        heard = [(await socket.receive()).data for _ in said]

    assert heard == said
    assert api.sockets[0].heard == said


async def test_a_message_may_have_a_mebibyte(browser: Browser, session: Session):
    async with open_websocket(browser, PATH) as socket:
        await socket.send_bytes(bytes(MIB))

        assert await socket.receive_bytes() == bytes(MIB)


async def test_a_larger_one_of_the_api_closes_it(api: DemoApi, browser: Browser, session: Session):
    async with open_websocket(browser, PATH) as socket:
        there = await api_socket(api)
        await there.write_message(bytes(MIB + 1), binary=True)

        assert await close_code_and_reason(socket) == (1009, "the message is too big")
        await wait_until(lambda: there.is_over)
    assert there.close_code == 1009


async def test_a_larger_one_of_the_browser_closes_it(
    app: RunningApp, api: DemoApi, browser: Browser, session: Session
):
    async with open_websocket(browser, PATH) as socket:
        await socket.send_bytes(bytes(MIB + 1))
        there = await api_socket(api)
        await wait_until(lambda: there.is_over)

    assert there.heard == []
    await no_requests_in_flight(app)


async def test_a_browser_that_does_not_read_holds_the_api_up(
    api: DemoApi, browser: Browser, session: Session
):
    async with open_websocket(browser, PATH) as socket:
        there = await api_socket(api)
        sending = BulkSender(lambda message: there.write_message(message, binary=True))
        assert await settled_value(lambda: sending.sent) < MANY / 2

        for _ in range(MANY):
            assert len(await socket.receive_bytes()) == MIB
        await sending.task


async def test_an_api_that_does_not_read_holds_the_browser_up(
    api: DemoApi, browser: Browser, session: Session
):
    api.holds["message"] = asyncio.Event()
    async with open_websocket(browser, PATH) as socket:
        sending = BulkSender(socket.send_bytes)
        assert await settled_value(lambda: sending.sent) < MANY / 2

        api.holds["message"].set()
        for _ in range(MANY):
            assert len(await socket.receive_bytes()) == MIB
        await sending.task


async def test_an_api_that_reads_nothing_for_long_is_a_bad_gateway(
    app: RunningApp, api: DemoApi, browser: Browser, session: Session
):
    api.holds["message"] = asyncio.Event()
    async with open_websocket(browser, "/impatient/socket") as socket:
        sending = BulkSender(socket.send_bytes)

        assert await close_code_and_reason(socket) == (1014, "the API is gone")
        await sending.is_over()
    await no_requests_in_flight(app)


async def test_an_api_that_answers_no_ping_is_a_bad_gateway(
    app: RunningApp, api: DemoApi, browser: Browser, session: Session
):
    api.holds["message"] = asyncio.Event()
    async with open_websocket(browser, "/attentive/socket") as socket:
        await socket.send_str("It does not even read any more")

        assert await close_code_and_reason(socket) == (1014, "the API is gone")
    await no_requests_in_flight(app)


# The end


@pytest.mark.parametrize("ending", [(1000, ""), (1001, "left"), (3000, "é"), (4999, "x" * 123)])
async def test_the_close_frame_of_the_browser_reaches_the_api(
    ending: tuple[int, str], api: DemoApi, browser: Browser, session: Session
):
    async with open_websocket(browser, PATH) as socket:
        there = await api_socket(api)
        await socket.close(code=ending[0], message=ending[1].encode())
        await wait_until(lambda: there.is_over)

    assert (there.close_code, there.close_reason or "") == ending


@pytest.mark.parametrize("ending", [(1000, ""), (1011, "a bug"), (3000, "é"), (4401, "x" * 123)])
async def test_the_close_frame_of_the_api_reaches_the_browser(
    ending: tuple[int, str], api: DemoApi, browser: Browser, session: Session
):
    async with open_websocket(browser, PATH) as socket:
        (await api_socket(api)).close(*ending)

        assert await close_code_and_reason(socket) == ending


async def test_an_api_that_closes_it_without_a_word_has_nothing_to_complain_about(
    api: DemoApi, browser: Browser, session: Session
):
    async with open_websocket(browser, PATH) as socket:
        (await api_socket(api)).close()

        assert await close_code_and_reason(socket) == (1000, "")


async def test_a_browser_that_disappears_has_gone_away(api: DemoApi, browser: Browser, session: Session):
    async with open_websocket(browser, PATH) as socket:
        there = await api_socket(api)
        cut(socket)
        await wait_until(lambda: there.is_over)

    assert there.close_code == 1001


async def test_an_api_that_disappears_is_a_bad_gateway(api: DemoApi, browser: Browser, session: Session):
    async with open_websocket(browser, PATH) as socket:
        (await api_socket(api)).ws_connection.stream.close()

        assert await close_code_and_reason(socket) == (1014, "the API is gone")


async def test_both_sides_are_closed_when_the_user_has_signed_out(
    api: DemoApi, browser: Browser, session: Session
):
    async with open_websocket(browser, "/impatient/socket") as socket:
        there = await api_socket(api)
        await browser.logout()

        assert await close_code_and_reason(socket) == (4401, "the session is over")
        await wait_until(lambda: there.is_over)
    assert there.close_code == 4401


async def test_the_api_is_notified_at_once_even_if_the_browser_does_not_answer(
    api: DemoApi, browser: Browser, session: Session
):
    async with open_websocket(browser, "/impatient/socket", autoclose=False) as socket:
        there = await api_socket(api)
        await browser.logout()
        await wait_until(lambda: there.is_over)
        await socket.send_str("too late")

    assert there.heard == []


async def test_both_sides_are_closed_when_the_process_stops(
    app: RunningApp, api: DemoApi, browser: Browser, session: Session
):
    async with open_websocket(browser, PATH) as socket:
        there = await api_socket(api)
        app.services.stopping.set()

        assert await close_code_and_reason(socket) == (1001, "the server is about to stop")
        await wait_until(lambda: there.is_over)
    await no_requests_in_flight(app)


async def test_a_browser_that_disappears_while_the_api_talks_is_no_failure(
    app: RunningApp, api: DemoApi, browser: Browser, session: Session, caplog: pytest.LogCaptureFixture
):
    async with open_websocket(browser, PATH) as socket:
        there = await api_socket(api)
        sending = BulkSender(lambda message: there.write_message(message, binary=True))
        await wait_until(lambda: sending.sent > 1)
        cut(socket)
        await sending.is_over()
        await no_requests_in_flight(app)

    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_the_wait_for_the_apis_closing_handshake_is_limited(
    api: DemoApi, browser: Browser, session: Session
):
    api.holds["message"] = asyncio.Event()
    async with open_websocket(browser, "/impatient/socket") as socket:
        there = await api_socket(api)
        await socket.send_str("It does not even read any more")
        await wait_until(lambda: there.heard != [])
        sending = BulkSender(lambda message: there.write_message(message, binary=True))
        await settled_value(lambda: sending.sent)
        cut(socket)
        await sending.is_over()

    await wait_until(lambda: "RemoteSocket._pass_on" not in str(asyncio.all_tasks()))
    api.holds["message"].set()
    await wait_until(lambda: there.is_over)


async def by_the_browser(socket: ClientWebSocketResponse, api: DemoApi) -> None:
    await socket.close()


async def by_the_api(socket: ClientWebSocketResponse, api: DemoApi) -> None:
    (await api_socket(api)).close(1000)


async def by_a_lost_browser(socket: ClientWebSocketResponse, api: DemoApi) -> None:
    cut(socket)


async def by_a_lost_api(socket: ClientWebSocketResponse, api: DemoApi) -> None:
    (await api_socket(api)).ws_connection.stream.close()


def cut(socket: ClientWebSocketResponse) -> None:
    socket._response.connection.transport.abort()


@pytest.mark.parametrize("closed", [by_the_browser, by_the_api, by_a_lost_browser, by_a_lost_api])
async def test_nothing_stays_behind_when_it_is_closed(
    closed: Any, app: RunningApp, api: DemoApi, browser: Browser, session: Session
):
    before = asyncio.all_tasks()
    async with open_websocket(browser, PATH) as socket:
        await api_socket(api)
        await closed(socket, api)
        assert (await socket.receive()).type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR)
    await no_requests_in_flight(app)

    await wait_until(lambda: api.sockets[0].is_over)
    await wait_until(lambda: asyncio.all_tasks() <= before)


async def test_the_log_says_how_it_ended_and_nothing_of_what_was_said(
    app: RunningApp, api: DemoApi, browser: Browser, session: Session, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    async with open_websocket(browser, f"{PATH}?secret") as socket:
        await socket.send_str("secret")
        (await api_socket(api)).close(4000, "secret")
        await wait_until(lambda: bool(api.sockets[0].is_over))
        await socket.receive()
        await socket.receive()
    await no_requests_in_flight(app)
    logged = [vars(record) for record in caplog.records if record.name.startswith("app.")]

    assert [line["message"] for line in logged] == ["request answered", "socket closed"]
    assert logged[-1]["close_code"] == 4000
    assert "secret" not in str(logged)
