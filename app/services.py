"""Everything that lives as long as the process: built, opened and closed here."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

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


@asynccontextmanager
async def running_services(
    settings: Settings, *, clock: Callable[[], float] = time.time
) -> AsyncIterator[Services]:
    """Build all services inside the running loop, and close them in the opposite order.

    Neither the provider nor the database is needed to start: what fails is logged, and recovers.
    """
    async with AsyncExitStack() as stack:
        context = tls()
        vault = Vault(settings.key_ring)
        sessions = _session_store(settings, vault, clock)
        stack.push_async_callback(sessions.close)
        http = provider_http(settings.provider_timeout_seconds, context)
        stack.push_async_callback(http.aclose)
        provider = Provider(
            settings.issuer,
            http,
            timeout_seconds=settings.provider_timeout_seconds,
            keys_cooldown_seconds=settings.provider_keys_cooldown_seconds,
            clock=clock,
        )
        oidc = OidcClient(settings, provider, tls=context, clock=clock)
        stack.push_async_callback(oidc.close)
        margin = settings.refresh_before_expiration_seconds
        user_tokens = UserTokens(
            sessions,
            oidc,
            margin_seconds=margin,
            revokes_at_end=settings.revoke_refresh_token_on_logout,
            clock=clock,
        )
        stack.push_async_callback(user_tokens.settle)
        clients = HttpClientFactory(
            settings.http_clients, user_tokens, ApplicationTokens(oidc, margin_seconds=margin, clock=clock)
        )
        stack.push_async_callback(clients.close)
        yield Services(
            settings=settings,
            clock=clock,
            vault=vault,
            cookies=CookiePolicy(https=settings.https, samesite=settings.cookie_samesite),
            lifetime=Lifetime(settings.session_idle_seconds, settings.session_absolute_seconds),
            sessions=sessions,
            provider=provider,
            oidc=oidc,
            user_tokens=user_tokens,
            clients=clients,
            pages=page_environment(ROOT / "templates", debug=settings.debug),
        )


def _session_store(settings: Settings, vault: Vault, clock: Callable[[], float]) -> SessionStore:
    if settings.session_store == "memory:":
        log.warning("sessions are kept in memory: they end when this process does")
        return MemorySessions(clock=clock)
    return MongoSessions(connect(settings.session_store, driver=settings.mongodb_driver), vault, clock=clock)
