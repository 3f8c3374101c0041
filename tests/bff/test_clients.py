"""HTTP clients by name and by class: whose token they carry, where to, and what a 401 leads to."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from app.bff.clients.api import typed_clients
from app.bff.clients.registry import ApiClient, TypedClient, as_app_error
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Failure, Provider
from app.bff.dev.registrations import TOKEN_EXCHANGE
from app.bff.errors import (
    ApiTimeout,
    ApiUnreachable,
    ForeignOrigin,
    NoSession,
    SessionEnded,
    TokenUnavailable,
    UnknownClient,
)
from app.bff.sessions.session import Session
from tests.bff.harness import CLIENT_ID, Browser, Clock, RunningApp, running_app

KINDS = ("none", "user", "client", "user_or_client", "user_or_none")
APPLICATION, ANONYMOUS = "the application", "no user"


@pytest.fixture
async def app(provider: Provider, api: DemoApi, clock: Clock) -> AsyncIterator[RunningApp]:
    """The application with a client for each kind of token, and some more."""
    clients: dict[str, Any] = {kind: {"base_url": api.base_url, "token": kind} for kind in KINDS}
    clients["apiClient"] = clients["user"]
    clients["hurried"] = {**clients["user"], "timeout_seconds": 0.2}
    clients["keyed"] = {**clients["user"], "headers": {"X-Api-Key": "key-1"}}
    clients["scoped"] = {**clients["client"], "scope": "orders.read", "resource": "https://orders.example"}
    clients["swapped"] = {
        "base_url": api.base_url,
        "token": "exchange",
        "audience": "https://orders.example",
    }
    async with running_app(provider, api, clock=clock, http_clients=clients) as app:
        yield app


@pytest.fixture
async def elsewhere(provider: Provider) -> AsyncIterator[DemoApi]:
    """Another API, on an origin of its own."""
    api = DemoApi(provider)
    await api.start()
    yield api
    await api.stop()


@pytest.fixture
def client(app: RunningApp, session: Session) -> ApiClient:
    """A client that carries alice's token."""
    return app.services.clients.create("user", session)


def sent(api: DemoApi) -> dict[str, str]:
    """The headers of the last request, by their names in lower case."""
    assert api.last_request is not None
    return {name.lower(): value for name, value in api.last_request.headers}


def whose_token(api: DemoApi, provider: Provider) -> str:
    """Whom the last request spoke for."""
    token = provider.access_token(sent(api).get("authorization", "").removeprefix("Bearer "))
    return ANONYMOUS if token is None else token.sub or APPLICATION


# Whose token


async def test_the_token_is_there_by_itself(client: ApiClient, session: Session, api: DemoApi):
    async with client.get("echo", params={"page": 1}) as response:
        answer = await response.json()

    assert (answer["user"], answer["query"]) == ("alice", "page=1")
    assert sent(api)["authorization"] == f"Bearer {session.tokens.access_token}"


@pytest.mark.parametrize(
    ("kind", "signed_in", "anonymous"),
    [
        ("none", ANONYMOUS, ANONYMOUS),
        ("user", "alice", NoSession),
        ("client", APPLICATION, APPLICATION),
        ("user_or_client", "alice", APPLICATION),
        ("user_or_none", "alice", ANONYMOUS),
    ],
)
async def test_a_client_of_each_kind_carries(
    app: RunningApp,
    session: Session,
    api: DemoApi,
    provider: Provider,
    kind: str,
    signed_in: str,
    anonymous: Any,
):
    await app.services.clients.create(kind, session).get("echo")
    assert whose_token(api, provider) == signed_in

    client = app.services.clients.create(kind, None)
    if isinstance(anonymous, str):
        await client.get("echo")
        assert whose_token(api, provider) == anonymous
    else:
        with pytest.raises(anonymous):
            await client.get("echo")
        assert api.counts["echo"] == 1


async def test_a_client_of_our_own_asks_for_its_scope_and_resource(app: RunningApp, provider: Provider):
    await app.services.clients.create("scoped", None).get("echo")

    token_request = provider.last_request["token"]
    assert (token_request["scope"], token_request["resource"]) == ("orders.read", "https://orders.example")


async def test_the_token_of_our_own_can_be_had_by_the_clients_name(app: RunningApp, provider: Provider):
    token = await app.services.clients.application_token("scoped")

    assert provider.access_token(token).client_id == CLIENT_ID
    assert provider.access_token(token).scope == "orders.read"


async def test_two_users_never_share_a_token(app: RunningApp, session: Session):
    other = Browser(app)
    await other.login("bob")
    clients = [app.services.clients.create("user", each) for each in (session, await app.session_of(other))]

    answers = await asyncio.gather(*(client.get("echo") for client in clients * 20))

    assert [(await answer.json())["user"] for answer in answers] == ["alice", "bob"] * 20
    await other.http.aclose()


async def test_a_token_that_is_about_to_expire_is_refreshed_on_the_way(
    client: ApiClient, session: Session, api: DemoApi, clock: Clock
):
    clock.advance(300)

    async with client.get("echo") as response:
        assert response.status == 200
    assert sent(api)["authorization"] != f"Bearer {session.tokens.access_token}"
    assert api.counts["echo"] == 1


async def test_without_a_good_token_nothing_is_sent(
    client: ApiClient, api: DemoApi, provider: Provider, clock: Clock
):
    clock.advance(300)
    provider.fails["token"] = Failure(503)
    with pytest.raises(TokenUnavailable):
        await client.get("echo")

    provider.fails.clear()
    provider.end_all_grants()
    with pytest.raises(SessionEnded):
        await client.get("echo")
    assert api.counts == {}


# Where to


@pytest.mark.parametrize(
    ("end", "path", "sent"),
    [
        ("/echo", "", "/api/echo"),
        ("/echo", "?x=1", "/api/echo?x=1"),
        ("/echo", "/", "/api/echo/"),
        ("/echo", "/a/b?x=1", "/api/echo/a/b?x=1"),
        ("/echo/", "", "/api/echo/"),
        ("/echo/", "?x=1", "/api/echo/?x=1"),
        ("/echo/", "/", "/api/echo/"),
        ("/echo/", "/a%2Fb", "/api/echo/a%2Fb"),
        ("/echo/%7Ea%2fb", "/c", "/api/echo/%7Ea%2fb/c"),
        ("/echo/a//b;c=d", "", "/api/echo/a//b;c=d"),
        ("/echo/%zz/", "/x", "/api/echo/%zz/x"),
    ],
)
async def test_a_base_url_is_used_as_it_is_written_and_joined_with_one_slash(
    end: str, path: str, sent: str, provider: Provider, api: DemoApi, clock: Clock
):
    clients = {"echo": {"base_url": api.base_url.removesuffix("/") + end, "token": "client"}}
    async with running_app(provider, api, clock=clock, http_clients=clients) as app:
        client = app.services.clients.create("echo", None)
        for url in (client.url_for(path), path.removeprefix("/") if len(path) > 1 or not path else None):
            if url is not None:
                async with client.get(url) as response:
                    assert response.status == 200
                request = api.last_request
                assert request
                assert f"{request.path}?{request.query}".rstrip("?") == sent


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("echo", "/api/echo"),
        ("echo/1?x=%2F", "/api/echo/1"),
        ("./echo", "/api/echo"),
        ("/api/echo/absolute", "/api/echo/absolute"),
    ],
)
async def test_urls_are_relative_to_the_base_url(client: ApiClient, api: DemoApi, url: str, path: str):
    async with client.get(url) as response:
        assert response.status == 200

    assert api.last_request.path == path


async def test_an_absolute_url_to_the_own_origin_is_called(client: ApiClient, api: DemoApi):
    async with client.get(f"{api.base_url}echo") as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "url_for",
    [
        pytest.param(lambda port: f"http://127.0.0.1:{port}/api/echo", id="another port"),
        pytest.param(lambda port: f"//127.0.0.1:{port}/api/echo", id="without a scheme"),
        pytest.param(lambda port: f"https://127.0.0.1:{port}/api/echo", id="another scheme"),
        pytest.param(lambda port: f"http://localhost:{port}/api/echo", id="another name of the same machine"),
        pytest.param(lambda port: f"http://127.0.0.1@localhost:{port}/api/echo", id="disguised as a user"),
    ],
)
async def test_an_absolute_url_to_elsewhere_is_refused_and_nothing_is_sent(
    client: ApiClient, api: DemoApi, elsewhere: DemoApi, url_for: Callable[[int], str]
):
    with pytest.raises(ForeignOrigin):
        await client.get(url_for(elsewhere.port))

    assert api.counts == elsewhere.counts == {}


async def test_a_redirect_on_the_same_origin_keeps_the_token(
    client: ApiClient, api: DemoApi, provider: Provider
):
    async with client.get("redirect", params={"to": "/api/echo/there"}) as response:
        assert response.status == 200

    assert api.last_request.path == "/api/echo/there"
    assert whose_token(api, provider) == "alice"


async def test_a_redirect_to_elsewhere_loses_the_token(
    client: ApiClient, elsewhere: DemoApi, provider: Provider
):
    async with client.get("redirect", params={"to": f"{elsewhere.base_url}echo"}) as response:
        assert response.status == 401

    assert "authorization" not in sent(elsewhere)
    assert elsewhere.counts["echo"] == 1  # and is not tried again with a renewed one
    assert provider.counts["token:refresh_token"] == 0


async def test_a_redirect_to_elsewhere_loses_an_authorization_that_the_caller_has_set(
    app: RunningApp, elsewhere: DemoApi, api: DemoApi
):
    api.fails["echo"] = Failure(302, headers={"Location": f"{elsewhere.base_url}echo"})
    client = app.services.clients.create("none", None)

    await client.get("echo", headers={"Authorization": "Basic c2VjcmV0"})

    assert sent(api)["authorization"] == "Basic c2VjcmV0"
    assert "authorization" not in sent(elsewhere)


async def test_headers_of_the_settings_are_sent_and_a_redirect_to_elsewhere_loses_them(
    app: RunningApp, session: Session, elsewhere: DemoApi, api: DemoApi
):
    client = app.services.clients.create("keyed", session)
    await client.get("redirect", params={"to": f"{elsewhere.base_url}echo"})

    assert sent(api)["x-api-key"] == "key-1"
    assert "x-api-key" not in sent(elsewhere)


# A 401


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "head", "options"])
async def test_a_refused_token_is_renewed_and_the_request_is_sent_once_more(
    client: ApiClient, session: Session, api: DemoApi, provider: Provider, method: str
):
    api.rejects = {session.tokens.access_token}

    async with getattr(client, method)("echo") as response:
        assert response.status == 200

    assert (api.counts["echo"], provider.counts["token:refresh_token"]) == (2, 1)


@pytest.mark.parametrize(
    ("options", "body"),
    [
        pytest.param({"json": {"x": 1}}, '{"x": 1}', id="JSON"),
        pytest.param({"data": b"bytes"}, "bytes", id="bytes"),
        pytest.param({"data": "Zoë"}, "Zoë", id="text"),
        pytest.param({"data": {"x": "1"}}, "x=1", id="a form"),
    ],
)
async def test_a_body_is_sent_again_with_the_renewed_token(
    client: ApiClient, session: Session, api: DemoApi, options: dict[str, Any], body: str
):
    api.rejects = {session.tokens.access_token}

    async with client.post("echo", **options) as response:
        assert (await response.json())["body"] == body
    assert api.counts["echo"] == 2


async def a_stream() -> AsyncIterator[bytes]:
    yield b"once "
    yield b"only"


@pytest.mark.parametrize(
    "body",
    [pytest.param(a_stream, id="a generator"), pytest.param(lambda: io.BytesIO(b"once only"), id="a file")],
)
async def test_a_streamed_body_is_not_sent_again_and_the_401_goes_to_the_caller(
    client: ApiClient, session: Session, api: DemoApi, body: Callable[[], Any]
):
    api.rejects = {session.tokens.access_token}

    async with client.post("echo", data=body()) as response:
        assert response.status == 401

    assert (api.counts["echo"], api.last_request.body) == (1, "once only")


async def test_a_streamed_body_arrives(client: ApiClient, api: DemoApi):
    async with client.post("echo", data=a_stream()) as response:
        assert (await response.json())["body"] == "once only"


async def test_a_second_401_goes_to_the_caller(client: ApiClient, api: DemoApi, provider: Provider):
    api.fails["echo"] = Failure(401, b"no")

    async with client.get("echo") as response:
        assert (response.status, await response.text()) == (401, "no")
    assert (api.counts["echo"], provider.counts["token:refresh_token"]) == (2, 1)


@pytest.mark.parametrize(
    ("name", "kind", "first"),
    [
        pytest.param("user", "refresh_token", 0, id="the user's"),
        pytest.param("client", "client_credentials", 1, id="our own"),
        pytest.param("swapped", TOKEN_EXCHANGE, 1, id="an exchanged one"),
    ],
)
async def test_thirty_calls_that_are_answered_with_401_renew_a_token_once_in_ten_seconds(
    app: RunningApp,
    browser: Browser,
    api: DemoApi,
    provider: Provider,
    clock: Clock,
    name: str,
    kind: str,
    first: int,
):
    await browser.login("alice")
    api.fails["echo"] = Failure(401, b"forbidden")

    for renewals in (1, 2):
        for _ in range(30):
            session = await app.session_of(browser)
            async with app.services.clients.create(name, session).get("echo") as response:
                assert (response.status, await response.text()) == (401, "forbidden")
        assert provider.counts[f"token:{kind}"] == first + renewals
        clock.advance(10)


async def test_thirty_calls_of_one_handler_renew_a_token_once(
    client: ApiClient, api: DemoApi, provider: Provider
):
    api.fails["echo"] = Failure(401)

    assert {(await client.get("echo")).status for _ in range(30)} == {401}
    assert (api.counts["echo"], provider.counts["token:refresh_token"]) == (31, 1)


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
async def test_any_other_refusal_goes_to_the_caller_at_once(
    client: ApiClient, api: DemoApi, provider: Provider, status: int
):
    async with client.get(f"status/{status}") as response:
        assert response.status == status

    assert (api.counts["status"], provider.counts["token:refresh_token"]) == (1, 0)


async def test_a_hundred_refused_requests_at_once_cause_one_refresh(
    client: ApiClient, session: Session, api: DemoApi, provider: Provider
):
    api.rejects = {session.tokens.access_token}

    answers = await asyncio.gather(*(client.get("echo") for _ in range(100)))

    assert {answer.status for answer in answers} == {200}
    assert provider.counts["token:refresh_token"] == 1


async def test_a_refused_token_of_our_own_is_renewed_too(app: RunningApp, api: DemoApi, provider: Provider):
    api.rejects = {await app.services.clients.application_token("client")}

    async with app.services.clients.create("client", None).get("echo") as response:
        assert response.status == 200
    assert provider.counts["token:client_credentials"] == 2


async def test_a_401_that_no_renewal_can_help_says_why(client: ApiClient, api: DemoApi, provider: Provider):
    api.fails["echo"] = Failure(401)
    provider.end_all_grants()

    with pytest.raises(SessionEnded):
        await client.get("echo")
    assert api.counts["echo"] == 1


@pytest.mark.parametrize("kind", ["none", "user_or_none"])
async def test_a_401_to_a_request_without_a_token_goes_to_the_caller(
    app: RunningApp, api: DemoApi, kind: str
):
    async with app.services.clients.create(kind, None).get("echo") as response:
        assert response.status == 401

    assert api.counts["echo"] == 1


# What may go wrong


async def test_an_unknown_name_says_which_names_there_are(app: RunningApp):
    with pytest.raises(UnknownClient, match=r"'billing'; settings name: apiClient, client, hurried"):
        app.services.clients.create("billing", None)
    with pytest.raises(UnknownClient):
        await app.services.clients.application_token("billing")


async def test_cookies_that_an_api_sets_are_not_stored(client: ApiClient, api: DemoApi):
    api.fails["echo"] = Failure(200, b"{}", {"Set-Cookie": "user=alice; Path=/"})
    await client.get("echo")
    api.fails.clear()
    await client.get("echo")

    assert "cookie" not in sent(api)


async def test_an_api_that_hangs_is_given_up_after_the_clients_time_out(
    app: RunningApp, session: Session, api: DemoApi
):
    api.holds["echo"] = asyncio.Event()

    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError) as caught:
            await app.services.clients.create("hurried", session).get("echo")
    assert isinstance(as_app_error(caught.value), ApiTimeout)


async def test_an_api_that_does_not_listen_is_unreachable(client: ApiClient, api: DemoApi):
    await api.stop()

    with pytest.raises(aiohttp.ClientError) as caught:
        await client.get("echo")
    assert isinstance(as_app_error(caught.value), ApiUnreachable)


def test_other_errors_keep_their_words():
    error = KeyError("mine")

    assert as_app_error(error) is error
    assert as_app_error(None) is None


# Typed clients


class Todos(TypedClient):
    """A client as an application's developer writes it."""

    name = "apiClient"

    async def titles(self) -> list[str]:
        async with self.api.get("todos") as response:
            return [todo["title"] for todo in await response.json()]

    async def add(self, title: str) -> None:
        async with self.api.post("todos", json={"title": title}) as response:
            assert response.status == 201


async def test_a_typed_client_has_methods_of_its_own_and_the_user_s_token(app: RunningApp, session: Session):
    todos = app.services.clients.create(Todos, session)

    await todos.add("Water the plants")

    assert (await todos.titles())[-1] == "Water the plants"


async def test_a_typed_client_without_a_session_sends_nothing(app: RunningApp, api: DemoApi):
    with pytest.raises(NoSession):
        await app.services.clients.create(Todos, None).titles()

    assert api.counts == {}


async def test_a_typed_client_of_an_unknown_name_says_which_names_there_are(app: RunningApp):
    class Unheard(TypedClient):
        name = "unheard-of"

    with pytest.raises(UnknownClient, match="unheard-of"):
        app.services.clients.create(Unheard, None)


async def test_a_typed_client_without_a_name_is_a_base_class_and_cannot_be_made(app: RunningApp):
    class Base(TypedClient):
        pass

    with pytest.raises(UnknownClient, match="Base has no name"):
        app.services.clients.create(Base, None)


def test_the_start_checks_typed_clients_of_modules_and_none_that_a_function_defines():
    class Local(Todos):
        pass

    assert Todos in typed_clients()
    assert Local not in typed_clients()
