"""All routes on one screen; starting, and stopping without losing anything."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, Router, Rule
from tornado.web import Application, RequestHandler, url

from app.clients.registry import TypedClient
from app.errors import AppError, StoreUnavailable
from app.handlers.backchannel import BackChannelLogout
from app.handlers.base import NotFound
from app.handlers.events import Events
from app.handlers.forward_auth import ForwardAuths
from app.handlers.health import Alive, Ready
from app.handlers.login import Callback, Login, SilentLogin
from app.handlers.logout import Logout, LogoutCallback
from app.handlers.pages import Account, Home, SessionsPage, SignedOut
from app.handlers.plain import log_answer
from app.handlers.remote_api import RemoteApis
from app.handlers.remote_socket import RemoteSocket
from app.handlers.session import OneSession, Sessions, User
from app.handlers.static import Static
from app.services import Services, running_services
from app.settings import ROOT, RemoteApiSettings, Settings
from app.web.devices import device_in_words
from app.web.remote import opens_websocket, route_for

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 10 * 1024 * 1024
_IDLE_SECONDS, _BODY_SECONDS = 75, 60
_DRAIN_SECONDS = 30
_STORE_RETRY_SECONDS = 5


def routes(services: Services) -> list[Any]:
    return [
        # WebSockets to APIs; for all other requests to them see `asked_all_day`
        Rule(WebSocketToRemoteApi(services.settings.remote_apis), RemoteSocket),
        # pages
        url(r"/", Home),
        url(r"/account", Account),
        url(r"/sessions", SessionsPage),
        url(r"/signed-out", SignedOut),
        # navigations between the browser, us and the provider
        url(r"/bff/login", Login),
        url(r"/bff/silent-login", SilentLogin),
        url(r"/bff/callback", Callback),
        url(r"/bff/logout", Logout),
        url(r"/bff/logout/callback", LogoutCallback),
        # data for our pages: all want X-CSRF: 1
        url(r"/bff/user", User),
        url(r"/bff/sessions", Sessions),
        url(r"/bff/sessions/(\w+)", OneSession),
        url(r"/bff/events", Events),
        # the provider itself
        url(r"/bff/backchannel", BackChannelLogout),
        # load balancers and operators
        url(r"/healthz", Alive),
        url(r"/readyz", Ready),
    ]


def asked_all_day(services: Services) -> list[Router]:
    """What is looked for before all other routes: to APIs, called by our pages or carried by a proxy."""
    return [RemoteApis(services), ForwardAuths(services)]


class WebSocketToRemoteApi(Matcher):
    """Matches what opens a WebSocket under the path of a remote API, and says which one it is."""

    def __init__(self, apis: Sequence[RemoteApiSettings]) -> None:
        self._apis = apis

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        api = route_for(request.path, self._apis)
        opens = api and opens_websocket(request.method or "", request.headers, api)
        return {"target_kwargs": {"api": api}} if opens else None


class BffApplication(Application):
    """Tornado's application, with our routes, headers and log lines."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._asked_all_day = asked_all_day(services)
        super().__init__(
            routes(services),
            services=services,
            default_handler_class=NotFound,
            static_path=str(ROOT / "static"),
            static_handler_class=Static,
            cross_origin_protection=True,
            autoreload=services.settings.debug,
        )

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        for router in self._asked_all_day:
            if delegate := router.find_handler(request):
                return delegate
        return super().find_handler(request, **kwargs)

    def log_request(self, handler: RequestHandler) -> None:
        self._services.under_way.discard(handler)
        log_answer(self._services, handler.request, handler.get_status(), handler.request.request_time())


def make_app(services: Services) -> BffApplication:
    return BffApplication(services)


async def serve(settings: Settings, sockets: list[socket.socket]) -> None:
    """Answer requests on `sockets` until SIGTERM or SIGINT, then finish those that are under way."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running_services(settings) as services:
        services.clients.check(TypedClient.__subclasses__())
        server = HTTPServer(
            make_app(services),
            max_body_size=MAX_BODY_BYTES,
            idle_connection_timeout=_IDLE_SECONDS,
            body_timeout=_BODY_SECONDS,
        )
        server.add_sockets(sockets)
        log.info(
            "listening", extra={"url": settings.base_url, "address": settings.address, "port": settings.port}
        )
        in_background = [
            asyncio.create_task(_warm_up(services)),
            asyncio.create_task(services.revocation.run()),
        ]
        await stop.wait()
        services.stopping.set()
        for task in in_background:
            task.cancel()
        server.stop()
        await _drained(services)
        await server.close_all_connections()


async def _warm_up(services: Services) -> None:
    """Look at once for what requests will need; what is not there is logged, and looked for again."""
    await asyncio.to_thread(device_in_words, "")  # the first one takes a seventh of a second
    try:
        await services.provider.metadata()
    except AppError as error:
        log.warning("provider is not there yet", extra={"reason": str(error)})
    while True:
        try:
            await services.sessions.open()
            await services.outbox.open()
            return await services.seen_tokens.open()
        except StoreUnavailable:
            await asyncio.sleep(_STORE_RETRY_SECONDS)


async def _drained(services: Services) -> None:
    """Wait until every request is answered, at most _DRAIN_SECONDS."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while services.under_way:  # noqa: ASYNC110 (a stop may look twenty times a second)
                await asyncio.sleep(0.05)
    except TimeoutError:
        log.warning("stopped with requests unanswered", extra={"requests": len(services.under_way)})
