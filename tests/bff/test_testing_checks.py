"""`app.bff.testing.checks`, of little applications that break a rule, and of one that keeps all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tornado.routing import HostMatches, Rule
from tornado.web import RedirectHandler, RequestHandler

from app.bff import ApiHandler, BaseHandler, BffSettings, SocketHandler, authenticated, url
from app.bff.dev.provider import Provider
from app.bff.testing import ApplicationParts, Clock, RunningApp, StandInApi, checks, running_app

log = logging.getLogger(__name__)


class Settings(BffSettings):
    """Of these applications."""


@asynccontextmanager
async def an_app(provider: Provider, *routes: Any) -> AsyncIterator[RunningApp]:
    api = StandInApi(provider)
    await api.start()
    parts = ApplicationParts(Settings, routes)
    clients = {"orders": {"base_url": "http://127.0.0.1:1", "token": "client"}}
    async with running_app(parts, provider, api, clock=Clock(), http_clients=clients) as app:
        yield app
    await api.stop()


async def problems(provider: Provider, *routes: Any, **options: Any) -> Sequence[str]:
    """The lines of the message; none if all rules hold."""
    async with an_app(provider, *routes) as app:
        try:
            await checks.check_routes(app, **options)
        except AssertionError as error:
            return str(error).splitlines()[1:]
    return []


# An application that keeps all rules


class Page(BaseHandler):
    def get(self, *path: str, **named: str) -> None:
        self.write("<h1>Hello</h1>")


class Form(Page):
    @authenticated
    async def post(self) -> None:
        self.redirect(f"/orders/{self.get_body_argument('number')}")


class Order(ApiHandler):
    def initialize(self, shop: str) -> None:
        self.shop = shop

    @authenticated
    async def get(self, number: str) -> None:
        self.finish_json({"shop": self.shop, "number": int(number)})


class AddOrder(ApiHandler):
    @authenticated
    async def post(self) -> None:
        await self.get_user_access_token()
        self.set_status(201)


class News(ApiHandler):
    """A stream that has no end."""

    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        await self.flush()
        await asyncio.Event().wait()


class Chat(SocketHandler):
    async def open(self, *args: str, **kwargs: str) -> None:
        await self.write_message("hello")

    def on_message(self, message: str | bytes) -> None: ...


class PublicChat(Chat):
    wants_session = False


class SignOutEverywhere(BaseHandler):
    """Ends the session with which the checks look at the next route."""

    async def post(self) -> None:
        if self.session:
            await self.services.sessions.delete(self.session.ref)
        self.clear_session_cookie()


KEEPS_ALL = [
    (r"/", Page),
    ("/form", Form, None, "form"),
    url(r"/sign-out-everywhere", SignOutEverywhere),
    url(r"/orders/(\d+)", Order, {"shop": "tea"}, name="order"),
    url(r"/orders", AddOrder),
    url(r"/app(?:/.*)?", Page),
    url(r"/(?P<language>de|en)/help/(?P<topic>[^/]+)", Page),
    url(r"/news", News),
    url(r"/chat", Chat),
    url(r"/public-chat", PublicChat),
    url(r"/old", RedirectHandler, {"url": "/"}),
    Rule(HostMatches("localhost"), [("/here", Page)]),
]


async def test_an_application_that_keeps_all_rules_has_no_problems(provider: Provider):
    assert await problems(provider, *KEEPS_ALL) == []


# Applications that break one


class Open(ApiHandler):
    """Does not ask BaseHandler whether the request is one of our page."""

    async def prepare(self) -> None: ...

    def get(self) -> None:
        self.finish_json([])


class OpenSocket(Chat):
    async def prepare(self) -> None: ...


class Bare(RequestHandler):
    def get(self, **named: str) -> None:
        self.write("no headers")


class Uncovered(BaseHandler):
    def get(self) -> None:
        self.clear_header("Content-Security-Policy")


class Crash(BaseHandler):
    def get(self) -> None:
        self.write(self.current_user["name"])


class PostCrash(ApiHandler):
    async def post(self) -> None:
        self.finish_json(self.require_session().subject if self.session else 1 / 0)


class CrashingSocket(PublicChat):
    async def prepare(self) -> None:
        await super().prepare()
        if self.session is None:
            raise RuntimeError("not here")


class ShowsToken(BaseHandler):
    @authenticated
    async def get(self) -> None:
        self.write({"token": await self.get_user_access_token()})


class SendsTokenOn(BaseHandler):
    @authenticated
    async def get(self) -> None:
        self.redirect(f"https://api.example/?token={self.require_session().tokens.refresh_token}")


class ShowsOwnToken(ApiHandler):
    async def get(self) -> None:
        self.finish_json(await self.get_client_access_token("orders"))


class ShowsSessionId(BaseHandler):
    def get(self) -> None:
        self.write(self.get_cookie(self.services.cookies.session_name) or "")


class Logs(BaseHandler):
    @authenticated
    async def get(self) -> None:
        log.debug("the token is %s", await self.get_user_access_token())


class LogsBeside(BaseHandler):
    @authenticated
    async def get(self) -> None:
        log.info("a session", extra={"id_token": self.require_session().tokens.id_token})


class LogsError(ApiHandler):
    @authenticated
    async def post(self) -> None:
        raise RuntimeError(f"refused: {await self.get_user_access_token()}")


class LogsSocket(Chat):
    async def open(self, *args: str, **kwargs: str) -> None:
        log.info("opened", extra={"token": await self.get_user_access_token()})


class Slow(BaseHandler):
    async def get(self) -> None:
        await asyncio.Event().wait()


class Gone(BaseHandler):
    def get(self) -> None:
        self.detach().close()


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (Open, "GET answers a request without X-CSRF: 1 with 200"),
        (OpenSocket, "GET answers a page of another origin with 101"),
        (Bare, "GET lacks the security headers Content-Security-Policy, X-Content-Type-Options"),
        (Uncovered, "GET lacks the security headers Content-Security-Policy; "),
        (Crash, "GET answers a browser that is not signed in with 500: TypeError: "),
        (PostCrash, "POST answers a browser that is not signed in with 500: ZeroDivisionError: "),
        (
            CrashingSocket,
            "GET answers a browser that is not signed in with 500: RuntimeError: ",
        ),
        (ShowsToken, "GET shows the access token in its body"),
        (SendsTokenOn, "GET shows the refresh token in its headers"),
        (ShowsOwnToken, "GET shows a token in its body"),
        (ShowsSessionId, "GET shows the session id in its body"),
        (Logs, "GET shows the access token in its log"),
        (LogsBeside, "GET shows the ID token in its log"),
        (LogsError, "POST shows the access token in its log"),
        (LogsSocket, "GET shows the access token in its log"),
        (Slow, "GET is not answered within 2 s"),
        (Gone, "GET is not answered: RemoteProtocolError"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_route_that_breaks_a_rule_is_named_and_no_other(
    handler: type[RequestHandler], problem: str, provider: Provider
):
    [line] = await problems(provider, (r"/bad/(?:\d+)", handler), *KEEPS_ALL, timeout_seconds=2)

    assert line.startswith(rf"  - /bad/(?:\d+) ({handler.__module__}.{handler.__name__}): {problem}")


async def test_all_problems_are_reported_at_once(provider: Provider):
    lines = await problems(provider, url("/open", Open), url("/bare", Bare), url("/crash", Crash))

    assert [line.split()[1] for line in lines] == ["/open", "/bare", "/crash"]


async def test_a_route_may_be_left_out(provider: Provider):
    assert await problems(provider, url("/bare", Bare), ignore=["/bare"]) == []


async def test_an_example_helps_where_no_path_is_found(provider: Provider):
    pattern = r"/(?P<word>\w+)-(?P=word)"
    [line] = await problems(provider, url(pattern, Bare))
    [with_example] = await problems(provider, url(pattern, Bare), examples={pattern: "/ho-ho"})

    assert "no path is known that it matches" in line
    assert "lacks the security headers" in with_example


async def test_the_engine_s_own_pages_have_the_required_headers(provider: Provider):
    async with an_app(provider) as app, checks.Browser(app.base_url) as browser:
        response = await browser.get("/nowhere")

    assert set(checks.SECURITY_HEADERS) <= {name.title().replace("Csp", "CSP") for name in response.headers}
