"""The route table, the start, and a stop that drains the requests in flight."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any
from urllib.parse import urlsplit

from tornado.httputil import HTTPInputError, HTTPServerRequest
from tornado.web import Application, RequestHandler, url

from app.bff import paths
from app.bff.backoff import STORE_RETRY_SECONDS
from app.bff.clients.api import typed_clients
from app.bff.descriptors import connection_limit, raise_descriptor_limit
from app.bff.errors import AppError, LifespanFailed, SettingsError, StoreUnavailable
from app.bff.handlers.backchannel import BackChannelLogout
from app.bff.handlers.body_limit import BoundedBody
from app.bff.handlers.callback import Callback
from app.bff.handlers.events import Events
from app.bff.handlers.frontchannel import FrontChannelLogout
from app.bff.handlers.health import Alive, Ready, WholeServer
from app.bff.handlers.login import Login, SilentLogin
from app.bff.handlers.logout import Logout, LogoutCallback
from app.bff.handlers.preflight import Preflight
from app.bff.handlers.request_log import log_handler
from app.bff.handlers.session import OneSession, Sessions, User
from app.bff.handlers.socket import SocketHandler
from app.bff.handlers.static import Static
from app.bff.handlers.web import methods_of
from app.bff.hooks import Hooks
from app.bff.proxy.forward_auth import ForwardAuth, ForwardAuthGate
from app.bff.proxy.patience import Patience
from app.bff.proxy.remote_api import RemoteApi
from app.bff.proxy.rules import opens_websocket, route_for
from app.bff.proxy.streaming import StreamingDelegate
from app.bff.proxy.strict_server import StrictServer
from app.bff.proxy.websocket import RemoteSocket
from app.bff.services import Services, running_services
from app.bff.settings.apis import RemoteApiSettings
from app.bff.settings.models import BffSettings
from app.bff.shutdown import Shutdown, nothing
from app.bff.spa.routing import STATIC_PATHS, comes_before_static, log_problems, single_page_app
from app.bff.telemetry import observer
from app.bff.web.cors import is_preflight
from app.bff.web.targets import is_absolute_form, origin_form
from app.bff.web.user_agents import describe_user_agent

log = logging.getLogger(__name__)

_IDLE_SECONDS = 75
_DRAIN_SECONDS = 30

Routes = Sequence[Any]  # of Tornado: `url(…)`, or tuples
Lifespan = Callable[[Services], AbstractAsyncContextManager[Any]]


@asynccontextmanager
async def no_lifespan(services: Services) -> AsyncIterator[None]:
    """The lifespan of an application that opens nothing of its own."""
    yield None


def bff_routes(services: Services) -> list[Any]:
    return [
        # remote APIs and forward-auth: see `BffApplication.find_handler`
        # navigations between the browser, this server and the provider
        url(paths.LOGIN_PATH, Login),
        url(paths.SILENT_LOGIN_PATH, SilentLogin),
        url(paths.CALLBACK_PATH, Callback),
        url(paths.LOGOUT_PATH, Logout),
        url(paths.LOGOUT_CALLBACK_PATH, LogoutCallback),
        # data for pages: each requires `X-CSRF: 1`
        url(paths.USER_PATH, User),
        url(paths.SESSIONS_PATH, Sessions),
        url(rf"{paths.SESSIONS_PATH}/(\w+)", OneSession),
        url(paths.EVENTS_PATH, Events),
        # called by the provider
        url(paths.BACKCHANNEL_PATH, BackChannelLogout),
        url(paths.FRONTCHANNEL_PATH, FrontChannelLogout),
        # load balancers and operators
        url(paths.ALIVE_PATH, Alive),
        url(paths.READY_PATH, Ready),
    ]


class BffApplication(Application):
    """Tornado's application with the engine's routes, headers and access log."""

    def __init__(self, services: Services, routes: Routes, state: Any) -> None:
        self._services = services
        secret = services.settings.forward_auth_secret.get_secret_value()
        self._forward_auth_gate = ForwardAuthGate(secret, clock=services.clock)
        static = services.settings.project_folder / "static"
        self._app = single_page_app(services)
        super().__init__(
            [*bff_routes(services), *routes],
            services=services,
            state=state,
            log_function=log_handler,
            static_path=str(static),
            # static/bff may be a link to the engine's own files; no other link leads out of the folder
            static_handler_args={
                "allowed_symlink_directory": [str(static), str(paths.PROJECT / "static/bff")]
            },
            static_handler_class=Static,
            static_hash_cache=not services.settings.debug,  # else `?v=` is computed once per process
            cross_origin_protection=True,
            websocket_max_message_size=SocketHandler.max_message_size,  # Tornado's is 10 MB
            # a worker cannot start its parent again
            autoreload=services.settings.debug and services.settings.processes == 1,
        )

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Route remote APIs and forward-auth ahead of the route table, without a RequestHandler.

        These limit the bodies of requests themselves, and BoundedBody those of all other routes. Raises
        HTTPInputError, which Tornado answers with 400 on a connection that it then closes.
        """
        request.connection.stream.active_at = time.monotonic()  # type: ignore[union-attr]
        if request.version == "HTTP/1.0" and "Transfer-Encoding" in request.headers:
            raise HTTPInputError("Transfer-Encoding in HTTP/1.0")  # its framing is faulty: RFC 9112 §6.1
        if not request.path.startswith("/") and request.method != "CONNECT":  # which no route has
            self._read_target(request)
            if request.path == "*":
                return self.get_handler_delegate(request, WholeServer)
        api = route_for(request.path, self._services.settings.remote_apis)
        if api is None and (path := request.path.lower().removesuffix("/")) in paths.IN_ANY_SPELLING:
            request.path = path
        if request.method == "OPTIONS" and (methods := self._preflight_methods(request, api)):
            handler: Any = self.get_handler_delegate(request, Preflight, {"methods": methods})
        elif api is None:
            if request.path == paths.FORWARD_AUTH_PATH and self._forward_auth_gate.admits(request.headers):
                return ForwardAuth(self._services, request)
            is_file = request.path.startswith(STATIC_PATHS)
            of_app = is_file and comes_before_static(self._app, request.path, self._services)
            handler = None if of_app else self.default_router.find_handler(request)
            handler = handler or self._app.delegate(self, request)
            if isinstance(handler, StreamingDelegate):
                return handler
        elif opens_websocket(request.method or "", request.headers, api):
            handler = self.get_handler_delegate(request, RemoteSocket, {"api": api})
        else:
            seconds = api.timeout_seconds or self._services.clients.timeout_seconds[api.client]
            delegate = RemoteApi(self._services, request, max_body_bytes=api.max_body_bytes)
            delegate.api, delegate.timeout_seconds = api, seconds
            return delegate
        has_body = "Content-Length" in request.headers or "Transfer-Encoding" in request.headers
        return BoundedBody(self, request, handler) if has_body else handler

    def _read_target(self, request: HTTPServerRequest) -> None:
        """Give a request in absolute-form (RFC 9112 §3.2.2) its path; raise HTTPInputError for no target.

        Its host replaces the `Host` header. One for another server stays as it is: no route has it.
        """
        target, base_host = request.uri or "", urlsplit(self._services.settings.base_url).netloc
        for host in (request.host, base_host):
            if (origin := origin_form(target, host)) is not None:
                request.headers["Host"] = request.host = host
                request.uri = origin
                request.path, _, request.query = origin.partition("?")
                return
        if not is_absolute_form(target) and (request.method, target) != ("OPTIONS", "*"):
            raise HTTPInputError("the request target has no path")

    def _preflight_methods(self, request: HTTPServerRequest, api: RemoteApiSettings | None) -> list[str]:
        """Return the methods that pages of allowed origins may use here; none if no such page asks."""
        if not is_preflight(request.headers, self._services.settings.allowed_origins):
            return []
        if api is not None:
            return sorted(api.methods)
        handler = getattr(self.default_router.find_handler(request), "handler_class", RequestHandler)
        return [name for name in methods_of(handler) if name in getattr(handler, "cors_methods", ())]


def make_app(services: Services, routes: Routes, state: Any = None) -> BffApplication:
    """Return the application; `state` is what its lifespan has yielded."""
    if services.hooks is not None:
        services.hooks.state = state
    application = BffApplication(services, routes, state)
    observer.current.serves(application, services)
    return application


async def serve(
    settings: BffSettings,
    sockets: list[socket.socket],
    routes: Routes,
    lifespan: Lifespan = no_lifespan,
    parent: socket.socket | None = None,
    telemetry: AbstractAsyncContextManager[Any] | None = None,
    hooks: Hooks | None = None,
) -> None:
    """Answer requests on `sockets` until a signal, then drain those in flight and close everything.

    A worker process also stops when `parent` is closed: see `processes.py`. A signal during the start cancels
    it. Raises SettingsError for a typed client whose name the settings lack, and LifespanFailed.
    """
    task = asyncio.current_task()
    assert task is not None
    shutdown = Shutdown(task.cancel, parent)
    try:
        async with telemetry or nullcontext(), running_services(settings, hooks=hooks) as services:
            services.clients.check(typed_clients())
            try:
                async with _entered(lifespan, services) as state:
                    await _serve(services, sockets, make_app(services, routes, state), shutdown)
                    shutdown.cut_short = task.cancel
            finally:
                shutdown.cut_short = nothing  # what is refreshed is saved in any case
    except asyncio.CancelledError:
        if not shutdown.requested.is_set():
            raise
        task.uncancel()


@asynccontextmanager
async def _entered(lifespan: Lifespan, services: Services) -> AsyncIterator[Any]:
    """Run the block inside the application's lifespan. Raises LifespanFailed, or its SettingsError."""
    try:
        async with lifespan(services) as state:
            yield state
    except SettingsError:
        raise
    except Exception as error:
        log.critical("lifespan failed", exc_info=True)
        raise LifespanFailed(error) from error


async def _serve(
    services: Services, sockets: list[socket.socket], application: Application, shutdown: Shutdown
) -> None:
    settings = services.settings
    limit = connection_limit(settings.max_connections, raise_descriptor_limit())
    server = StrictServer(
        application,
        max_connections=limit,
        patience=Patience.of(settings),
        idle_connection_timeout=_IDLE_SECONDS,
    )
    server.add_sockets(sockets)
    address = {"url": settings.base_url, "address": settings.address, "port": settings.port}
    log.info("listening", extra={**address, "max_connections": limit})
    in_background = [
        asyncio.create_task(_warm_up(services)),
        asyncio.create_task(services.revocation.run()),
        asyncio.create_task(asyncio.to_thread(log_problems, settings)),
    ]
    try:
        shutdown.listening()
        await shutdown.requested.wait()
    finally:  # also when a task group of the lifespan cancels this task
        services.stopping.set()
        for task in in_background:
            task.cancel()
        server.stop()
        await _drain(services, shutdown)
        await server.close_all_connections()
        if services.hooks is not None:
            await services.hooks.drain()  # they use what the lifespan closes


async def _warm_up(services: Services) -> None:
    """Load what requests will need. Without the provider a login fetches the metadata."""
    await asyncio.to_thread(describe_user_agent, "")  # the first call loads its rules: 140 ms
    try:
        await services.provider.metadata()
    except AppError as error:
        log.warning("provider metadata not available yet", extra={"reason": str(error)})
    while True:
        try:
            await services.sessions.open()
            await services.outbox.open()
            await services.replay_cache.open()
            return await services.return_paths.open()
        except StoreUnavailable:
            await asyncio.sleep(STORE_RETRY_SECONDS)


async def _drain(services: Services, shutdown: Shutdown) -> None:
    """Wait until no request is in flight, at most _DRAIN_SECONDS; not at all once the stop is hurried."""
    try:
        async with asyncio.timeout(0 if shutdown.hurried else _DRAIN_SECONDS) as patience:
            shutdown.cut_short = lambda: patience.reschedule(0)
            await services.in_flight_requests.drained()
    except TimeoutError:
        log.warning("stopped with requests in flight", extra={"requests": len(services.in_flight_requests)})
    finally:
        shutdown.cut_short = nothing
