"""Everything that lives as long as the process: built, opened and closed here."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ssl import SSLContext

import jinja2

from app.clients.registry import HttpClientFactory
from app.oidc.client import OidcClient
from app.oidc.http import tls
from app.oidc.provider import Provider, provider_http
from app.sessions.memory import MemorySessions
from app.sessions.mongo import MongoSessions, connect
from app.sessions.session import Lifetime
from app.sessions.store import SessionStore
from app.settings import ROOT, Settings
from app.tokens.application import ApplicationTokens
from app.tokens.user import UserTokens
from app.vault import Vault
from app.web.cookies import CookiePolicy
from app.web.pages import page_environment

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Services:
    """What handlers use. `clock` is seconds since the epoch, and the only one they look at."""

    settings: Settings
    clock: Callable[[], float]
    vault: Vault
    cookies: CookiePolicy
    lifetime: Lifetime
    sessions: SessionStore
    provider: Provider
    oidc: OidcClient
    user_tokens: UserTokens
    clients: HttpClientFactory
    pages: jinja2.Environment
    under_way: set[object] = field(default_factory=set)  # requests that a stop must wait for


@asynccontextmanager
async def running_services(
    settings: Settings, *, clock: Callable[[], float] = time.time
) -> AsyncIterator[Services]:
    """Build all services inside the running loop, and close them in the opposite order.

    Neither the provider nor the database is needed to start: what fails is logged, and recovers.
    """
    services = _built(settings, clock)
    async with AsyncExitStack() as closing:
        closing.push_async_callback(services.sessions.close)
        closing.push_async_callback(services.provider.close)
        closing.push_async_callback(services.oidc.close)
        closing.push_async_callback(services.user_tokens.settle)
        closing.push_async_callback(services.clients.close)
        yield services


def _built(settings: Settings, clock: Callable[[], float]) -> Services:
    context = tls()
    vault = Vault(settings.key_ring)
    sessions = _session_store(settings, vault, clock)
    provider = _provider(settings, context, clock)
    oidc = OidcClient(settings, provider, tls=context, clock=clock)
    margin = settings.refresh_before_expiration_seconds
    users = UserTokens(
        sessions,
        oidc,
        margin_seconds=margin,
        lease_seconds=_lease_seconds(settings),
        revokes_at_end=settings.revoke_refresh_token_on_logout,
        clock=clock,
    )
    application = ApplicationTokens(oidc, margin_seconds=margin, clock=clock)
    return Services(
        settings=settings,
        clock=clock,
        vault=vault,
        cookies=CookiePolicy(https=settings.https, samesite=settings.cookie_samesite),
        lifetime=Lifetime(settings.session_idle_seconds, settings.session_absolute_seconds),
        sessions=sessions,
        provider=provider,
        oidc=oidc,
        user_tokens=users,
        clients=HttpClientFactory(settings.http_clients, users, application),
        pages=page_environment(ROOT / "templates", debug=settings.debug),
    )


def _lease_seconds(settings: Settings) -> float:
    """Longer than a refresh can take: three calls to the provider (metadata, token, keys) and one write."""
    return 3 * settings.provider_timeout_seconds + 10


def _provider(settings: Settings, context: SSLContext, clock: Callable[[], float]) -> Provider:
    return Provider(
        settings.issuer,
        provider_http(settings.provider_timeout_seconds, context),
        timeout_seconds=settings.provider_timeout_seconds,
        keys_cooldown_seconds=settings.provider_keys_cooldown_seconds,
        clock=clock,
    )


def _session_store(settings: Settings, vault: Vault, clock: Callable[[], float]) -> SessionStore:
    if settings.session_store == "memory:":
        log.warning("sessions are kept in memory: they end when this process does")
        return MemorySessions(clock=clock)
    return MongoSessions(connect(settings.session_store, driver=settings.mongodb_driver), vault, clock=clock)
