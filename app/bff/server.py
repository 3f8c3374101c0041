"""All routes on one screen; starting, and stopping without losing anything."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, Router, Rule
from tornado.web import Application, RequestHandler, url

from app.bff.backoff import STORE_RETRY_SECONDS
from app.bff.clients.registry import TypedClient
from app.bff.errors import AppError, StoreUnavailable
from app.bff.handlers.backchannel import BackChannelLogout
from app.bff.handlers.base import NotFound
from app.bff.handlers.events import Events
from app.bff.handlers.health import Alive, Ready
from app.bff.handlers.login import Callback, Login, SilentLogin
from app.bff.handlers.logout import Logout, LogoutCallback
from app.bff.handlers.session import OneSession, Sessions, User
from app.bff.handlers.static import Static
from app.bff.handlers.web import log_access
from app.bff.paths import PROJECT
from app.bff.proxy.forward_auth import ForwardAuthRouter
from app.bff.proxy.remote_api import RemoteApiRouter
from app.bff.proxy.rules import opens_websocket, route_for
from app.bff.proxy.websocket import RemoteSocket
from app.bff.services import Services, running_services
from app.bff.settings.models import BffSettings, RemoteApiSettings
from app.bff.web.user_agents import describe_user_agent

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 10 * 1024 * 1024
_IDLE_SECONDS, _BODY_SECONDS = 75, 60
_DRAIN_SECONDS = 30


Routes = Sequence[Any]  # of Tornado: `url(…)`, or tuples
Lifespan = Callable[[Services], AbstractAsyncContextManager[Any]]


@asynccontextmanager
async def no_lifespan(services: Services) -> AsyncIterator[None]:
    yield None


def bff_routes(services: Services) -> list[Any]:
    return [
        # WebSockets to APIs; for all other requests to them see `fast_path_routers`
        Rule(WebSocketToRemoteApi(services.settings.remote_apis), RemoteSocket),
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


def fast_path_routers(services: Services) -> list[Router]:
    """What is looked for before all other routes: to APIs, called by our pages or carried by a proxy."""
    return [RemoteApiRouter(services), ForwardAuthRouter(services)]


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

    def __init__(self, services: Services, routes: Routes, state: Any) -> None:
        self._services = services
        self._asked_all_day = fast_path_routers(services)
        super().__init__(
            [*bff_routes(services), *routes],
            services=services,
            state=state,
            default_handler_class=NotFound,
            static_path=str(PROJECT / "static"),
            static_handler_class=Static,
            static_hash_cache=not services.settings.debug,  # else `?v=` is computed once per process
            cross_origin_protection=True,
            autoreload=services.settings.debug,
        )

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        for router in self._asked_all_day:
            if delegate := router.find_handler(request):
                return delegate
        return super().find_handler(request, **kwargs)

    def log_request(self, handler: RequestHandler) -> None:
        log_access(self._services, handler.request, handler.get_status(), handler.request.request_time())


def make_app(services: Services, routes: Routes, state: Any = None) -> BffApplication:
    return BffApplication(services, routes, state)


async def serve(
    settings: BffSettings, sockets: list[socket.socket], routes: Routes, lifespan: Lifespan = no_lifespan
) -> None:
    """Answer requests on `sockets` until SIGTERM or SIGINT, then finish those that are under way."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running_services(settings) as services:
        services.clients.check(TypedClient.__subclasses__())
        async with lifespan(services) as state:
            await _serve(services, sockets, make_app(services, routes, state), stop)


async def _serve(
    services: Services, sockets: list[socket.socket], application: Application, stop: asyncio.Event
) -> None:
    settings = services.settings
    server = HTTPServer(
        application,
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
    await asyncio.to_thread(describe_user_agent, "")  # the first one takes a seventh of a second
    try:
        await services.provider.metadata()
    except AppError as error:
        log.warning("provider is not there yet", extra={"reason": str(error)})
    while True:
        try:
            await services.sessions.open()
            await services.outbox.open()
            return await services.replay_cache.open()
        except StoreUnavailable:
            await asyncio.sleep(STORE_RETRY_SECONDS)


async def _drained(services: Services) -> None:
    """Wait until every request is answered, at most _DRAIN_SECONDS."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            await services.in_flight_requests.drained()
    except TimeoutError:
        log.warning("stopped with requests unanswered", extra={"requests": len(services.in_flight_requests)})
