"""The registry of named HTTP clients, and the source of the token that each presents."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import overload

from app.bff.clients.api import API_ERRORS, ApiClient, Pool, Typed, TypedClient, as_app_error, pool_of
from app.bff.clients.bearer import Credential, TokenSource
from app.bff.errors import NoSession, SettingsError, UnknownClient
from app.bff.sessions.session import LOGIN, Session, Target
from app.bff.settings.apis import HttpClientSettings
from app.bff.settings.validators import is_confidential
from app.bff.tokens.application import ApplicationTokens
from app.bff.tokens.user import SessionHolder, UserTokens

__all__ = ["API_ERRORS", "ApiClient", "HttpClientFactory", "Typed", "TypedClient", "as_app_error"]

log = logging.getLogger(__name__)


class HttpClientFactory:
    """Creates clients by name, over one connection pool per name that all users share.

    The pools store no cookies: those of one user must not be sent for another.
    """

    def __init__(
        self,
        clients: Mapping[str, HttpClientSettings],
        users: UserTokens,
        application: ApplicationTokens,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._users = users
        self._application = application
        self._clock = clock
        self.timeout_seconds = {name: settings.timeout_seconds for name, settings in clients.items()}
        self._pools = {name: pool_of(settings, name) for name, settings in clients.items()}
        for name, settings in clients.items():
            if settings.token != "none" and not is_confidential(settings.base_url):
                log.warning("client sends tokens in the clear", extra={"client": name})

    def check(self, typed: Iterable[type[TypedClient]]) -> None:
        """Raise SettingsError with a line for each typed client whose name the settings lack."""
        unknown = [client for client in typed if client.name not in self._pools]
        if unknown:
            mistakes = (f"{client.__name__}.name: {self._unknown(client.name)}" for client in unknown)
            raise SettingsError(*mistakes)

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.http.close()

    @overload
    def create(
        self, client: str, session: Session | SessionHolder | None, *, anonymous_key: str | None = None
    ) -> ApiClient: ...
    @overload
    def create(
        self,
        client: type[Typed],
        session: Session | SessionHolder | None,
        *,
        anonymous_key: str | None = None,
    ) -> Typed: ...
    def create(
        self,
        client: str | type[Typed],
        session: Session | SessionHolder | None,
        *,
        anonymous_key: str | None = None,
    ) -> ApiClient | Typed:
        """Return the client of that name, or of that class; without a session it calls for no user.

        The clients of one `SessionHolder`, such as a handler, share its session: a refresh that one
        of them causes serves all. A session and its user have shares of the client's connections; without a
        session the browser that `anonymous_key` names has one, and the application itself (None) no limit.
        Raises UnknownClient, which lists the names in the settings.
        """
        if isinstance(client, str):
            pool = self._pool(client)
            holder = _Holder(session) if session is None or isinstance(session, Session) else session
            if holder.session:
                sharing = [holder.session.ref, f"user {holder.session.subject}"]
            else:
                sharing = [] if anonymous_key is None else [anonymous_key]
            return ApiClient(pool, self._source(pool, holder), self._clock, sharing=sharing)
        if not hasattr(client, "name"):
            raise UnknownClient(f"{client.__name__} has no name: it is a base class of typed clients")
        return client(self.create(client.name, session, anonymous_key=anonymous_key))

    async def application_token(self, name: str) -> str:
        """Return the application's own token (client credentials) for the target of the named client."""
        return await self._application.get(self._pool(name).target)

    def _pool(self, name: str) -> Pool:
        try:
            return self._pools[name]
        except KeyError:
            raise UnknownClient(self._unknown(name)) from None

    def _unknown(self, name: str) -> str:
        known = ", ".join(sorted(self._pools)) or "none"
        return f"no HTTP client named {name!r}; settings name: {known}"

    def _source(self, pool: Pool, holder: SessionHolder) -> TokenSource:
        kind = pool.settings.token
        if kind == "client" or (kind == "user_or_client" and holder.session is None):
            return _ApplicationToken(self._application, pool.target)
        if kind == "none" or (kind == "user_or_none" and holder.session is None):
            return _no_token
        return _UserToken(self._users, holder, pool.target)


async def _no_token(*, rejected: str | None = None) -> None:
    return None


@dataclass
class _Holder:
    session: Session | None


@dataclass
class _UserToken:
    users: UserTokens
    holder: SessionHolder
    target: Target

    async def __call__(self, *, rejected: str | None = None) -> Credential:
        session = self.holder.session
        if session is None:
            raise NoSession("this API is called for a signed-in user only")
        tokens = await self.users.tokens(session, target=self.target, rejected=rejected, holder=self.holder)
        writes = (self.holder.session or session).version  # of any process; one for its first token
        renewed_at = None if writes <= (1 if self.target == LOGIN else 2) else tokens.received_at
        return Credential(tokens.access_token, tokens.expires_at, session.dpop_key, renewed_at)


@dataclass
class _ApplicationToken:
    application: ApplicationTokens
    target: Target

    async def __call__(self, *, rejected: str | None = None) -> Credential:
        tokens = await self.application.tokens(self.target, rejected=rejected)
        key = self.application.dpop_key
        renewed_at = tokens.received_at if self.application.has_renewed(self.target) else None
        return Credential(tokens.access_token, tokens.expires_at, key, renewed_at)
