"""The objects that live as long as the process: built, opened and closed here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from ssl import SSLContext

import jinja2

from app.bff.clients.registry import HttpClientFactory
from app.bff.crypto import Vault
from app.bff.errors import StoreUnavailable
from app.bff.hooks import HookRunner, Hooks
from app.bff.in_flight import InFlightRequests
from app.bff.oidc.client import OidcClient
from app.bff.oidc.dpop import new_key
from app.bff.oidc.http import tls
from app.bff.oidc.metadata import Provider, metadata_url, provider_http
from app.bff.sessions.data import SessionData
from app.bff.sessions.events import SessionEvents
from app.bff.sessions.interfaces import STORE_SECONDS, Outbox, ReplayCache, ReturnPaths, SessionStore
from app.bff.sessions.observed import observed
from app.bff.sessions.session import Lifetime, Session, session_ref
from app.bff.sessions.stores import open_stores
from app.bff.settings.models import BffSettings
from app.bff.settings.spa import DEVELOPMENT_SERVER, development_server
from app.bff.slots import Slots
from app.bff.telemetry import observer
from app.bff.telemetry.logs import Audit, acting_session
from app.bff.tokens.application import ApplicationTokens
from app.bff.tokens.claims import ClaimsRenewal
from app.bff.tokens.revocation import Revocation
from app.bff.tokens.store_time import session_waited_seconds
from app.bff.tokens.user import UserTokens
from app.bff.web.cookies import CookiePolicy

# The start of the idle time is written at most once in a tenth of it, and at most once a minute.
_TOUCH_SHARE, _TOUCH_SECONDS = 0.1, 60


@dataclass(frozen=True)
class Services:
    """What lives as long as the process: `self.services` in a handler, the argument of your `lifespan`.

    An application uses `settings` (`Settings.of(services)` has the type of its own class), `clock()`
    (seconds since the epoch), `clients.create(client, session)`, `tokens.for_session(ref)` and
    `session_data(ref)`; the rest is the engine's.

    A job that calls an API for a user keeps the `ref` of the session: it opens nothing in a browser, and
    `tokens.for_session` returns the access token for it, refreshed if need be, until the session ends:
    then it raises NoSession. Other kinds of Unauthorized mean what they mean in `get_user_access_token`.

    Example::

        import asyncio
        from collections.abc import AsyncIterator
        from contextlib import asynccontextmanager
        from functools import partial

        async def export(services: Services, queue: asyncio.Queue[str]) -> None:
            while True:
                try:
                    token = await services.tokens.for_session(await queue.get())
                except NoSession:
                    continue  # signed out since
                print(len(token))  # call the API with it

        @asynccontextmanager
        async def lifespan(services: Services) -> AsyncIterator[asyncio.Queue[str]]:
            queue: asyncio.Queue[str] = asyncio.Queue()
            job = asyncio.create_task(export(services, queue))
            yield queue  # self.state
            job.cancel()

        class Export(ApiHandler):
            @authenticated
            async def post(self) -> None:
                await self.state.put(self.require_session().ref)
                self.set_status(202)
    """

    settings: BffSettings
    clock: Callable[[], float]
    vault: Vault
    cookies: CookiePolicy
    lifetime: Lifetime
    sessions: SessionStore
    outbox: Outbox
    replay_cache: ReplayCache
    return_paths: ReturnPaths
    session_events: SessionEvents
    event_streams: Slots
    sockets: Slots
    provider: Provider
    oidc: OidcClient
    tokens: UserTokens
    revocation: Revocation
    hooks: HookRunner | None
    audit: Audit
    clients: HttpClientFactory
    pages: jinja2.Environment
    stopping: asyncio.Event
    in_flight_requests: InFlightRequests = field(default_factory=InFlightRequests)

    def session_data(self, ref: str) -> SessionData:
        """Return the application's own data in a session, by the session's `ref`."""
        return SessionData(self.sessions, ref, self.clock)

    async def load_session(self, session_id: str | None, *, keep_alive: bool = True) -> Session | None:
        """Return the session that a cookie opens, or None; `keep_alive` restarts its idle time."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        session = await self.sessions.get(session_ref(session_id)) if session_id else None
        session_waited_seconds.set(loop.time() - started)
        acting_session.set(session.ref if session else None)
        now = self.clock()
        pause = min(self.lifetime.idle_seconds * _TOUCH_SHARE, _TOUCH_SECONDS)
        if session is None or not keep_alive or now < session.renewed_at + pause:
            return session
        ends = self.lifetime.end(created_at=session.created_at, now=now)
        try:
            async with asyncio.timeout_at(started + STORE_SECONDS):
                await self.sessions.touch(session.ref, renewed_at=now, expires_at=ends)
        except (StoreUnavailable, TimeoutError):  # the next request tries again; this one has its session
            session_waited_seconds.set(loop.time() - started)
            return session
        return replace(session, renewed_at=now, expires_at=ends)


@asynccontextmanager
async def running_services(
    settings: BffSettings, *, hooks: Hooks | None = None, clock: Callable[[], float] = time.time
) -> AsyncIterator[Services]:
    """Build all services inside the running loop, and close them in reverse order.

    The start needs neither the provider nor the database: both are connected to when they are there.
    """
    services = _built(settings, hooks, clock)
    async with AsyncExitStack() as closing:
        closing.push_async_callback(services.sessions.close)
        closing.push_async_callback(services.provider.close)
        closing.push_async_callback(services.oidc.close)
        closing.push_async_callback(services.tokens.drain)
        closing.push_async_callback(services.clients.close)
        await closing.enter_async_context(services.session_events.running())
        yield services


def _built(settings: BffSettings, own: Hooks | None, clock: Callable[[], float]) -> Services:
    context = tls()
    vault = Vault(settings.key_ring)
    stopping = asyncio.Event()
    stores = open_stores(settings, vault, clock=clock)
    if observer.current.is_on:
        stores = replace(stores, sessions=observed(stores.sessions))
    provider = _provider(settings, context, clock)
    oidc = OidcClient(settings, provider, tls=context, clock=clock)
    hooks = HookRunner(own) if own is not None else None
    audit = Audit(vault)
    revocation = Revocation(
        oidc,
        stores.outbox,
        stores.sessions,
        on_end=settings.revoke_refresh_token_on_logout,
        hooks=hooks,
        audit=audit,
        clock=clock,
    )
    users = UserTokens(
        stores.sessions,
        oidc,
        revocation,
        margin_seconds=settings.refresh_before_expiration_seconds,
        lease_seconds=_lease_seconds(settings),
        claims=ClaimsRenewal(stores.sessions, oidc, hooks=hooks, clock=clock),
        require=settings.require,
        clock=clock,
    )
    return Services(
        settings=settings,
        clock=clock,
        vault=vault,
        cookies=_cookie_policy(settings),
        lifetime=Lifetime(settings.session_idle_seconds, settings.session_absolute_seconds),
        sessions=stores.sessions,
        outbox=stores.outbox,
        replay_cache=stores.replay_cache,
        return_paths=stores.return_paths,
        session_events=SessionEvents(stores.ended, stopping),
        event_streams=Slots(total=settings.max_event_streams, each=settings.max_event_streams_per_session),
        sockets=Slots(total=settings.max_sockets, each=settings.max_sockets_per_session),
        provider=provider,
        oidc=oidc,
        tokens=users,
        revocation=revocation,
        hooks=hooks,
        audit=audit,
        clients=_http_clients(settings, users, oidc, clock),
        pages=page_environment(settings.project_folder / "templates", debug=settings.debug),
        stopping=stopping,
    )


def _cookie_policy(settings: BffSettings) -> CookiePolicy:
    return CookiePolicy(
        https=settings.https,
        samesite=settings.cookie_samesite,
        callback_is_posted=settings.response_mode == "form_post",
        name=settings.cookie_name,
    )


def _http_clients(
    settings: BffSettings, users: UserTokens, oidc: OidcClient, clock: Callable[[], float]
) -> HttpClientFactory:
    application = ApplicationTokens(
        oidc,
        margin_seconds=settings.refresh_before_expiration_seconds,
        dpop_key=new_key() if settings.dpop else None,
        clock=clock,
    )
    clients = settings.http_clients
    if settings.spa_server is not None:
        clients = {**clients, DEVELOPMENT_SERVER: development_server(settings.spa_server)}
    return HttpClientFactory(clients, users, application, clock=clock)


def _lease_seconds(settings: BffSettings) -> float:
    """Return more than a refresh can take: metadata, token, token with a nonce, keys; and one write.

    After a request that an endpoint has not processed, metadata, token and nonce come once more.
    """
    return 7 * settings.provider_timeout_seconds + 10


def _provider(settings: BffSettings, context: SSLContext, clock: Callable[[], float]) -> Provider:
    return Provider(
        settings.issuer,
        provider_http(settings.provider_timeout_seconds, context),
        timeout_seconds=settings.provider_timeout_seconds,
        keys_cooldown_seconds=settings.provider_keys_cooldown_seconds,
        id_token_alg=settings.id_token_alg,
        tenants=settings.tenants,
        url=metadata_url(settings),
        clock=clock,
    )


def page_environment(folder: Path, *, debug: bool) -> jinja2.Environment:
    """Return the Jinja2 environment of the pages: autoescaping is on, an undefined name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        auto_reload=debug,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}  # shown to users
    return environment
