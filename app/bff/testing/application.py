"""The application under test: on a real port, with the development provider and a stand-in for its APIs."""

from __future__ import annotations

import importlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from socket import socket
from typing import Any

import pytest
from pydantic import ValidationError
from tornado.netutil import bind_sockets
from tornado.web import Application

from app.bff.clients.api import typed_clients
from app.bff.dev.provider import Client, Provider
from app.bff.hooks import Hooks
from app.bff.paths import BACKCHANNEL_PATH, CALLBACK_PATH, LOGOUT_CALLBACK_PATH
from app.bff.proxy.patience import Patience
from app.bff.proxy.strict_server import StrictServer
from app.bff.server import Lifespan, Routes, make_app, no_lifespan
from app.bff.services import Services, running_services
from app.bff.sessions.session import Session, session_ref
from app.bff.settings.models import BffSettings
from app.bff.testing.browsers import Browser
from app.bff.testing.stand_in import StandInApi

CLIENT_ID = "app"


@dataclass
class Clock:
    """The application's and the provider's time, in seconds since the epoch. Only a test moves it."""

    now: float = field(default_factory=time.time)

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class ApplicationParts:
    """What `run()` gets: the class of the settings, the routes, the lifespan, the hooks."""

    settings_class: type[BffSettings]
    routes: Routes
    lifespan: Lifespan = no_lifespan
    hooks: Hooks | None = None


@dataclass(frozen=True)
class RunningApp:
    """The application on a real port, in the process and the event loop of the test."""

    base_url: str
    routes: Routes = field(repr=False)  # those of the application, without the engine's
    services: Services = field(repr=False)
    tornado: Application = field(repr=False)

    @property
    def settings(self) -> BffSettings:
        return self.services.settings

    async def session_of(self, browser: Browser) -> Session | None:
        """Return the session that the browser's cookie opens, or None."""
        session_id = browser.cookie(self.services.cookies.session_name)
        return await self.services.sessions.get(session_ref(session_id)) if session_id else None


def application_parts(config: pytest.Config) -> ApplicationParts:
    """Import what the ini options `bff_settings`, `bff_routes`, `bff_lifespan` and `bff_hooks` name."""
    options, optional = ("bff_settings", "bff_routes"), ("bff_lifespan", "bff_hooks")
    names = {option: str(config.getini(option)) for option in (*options, *optional)}
    missing = [option for option in options if not names[option]]
    if missing:
        raise pytest.UsageError(
            f"app.bff.testing needs {' and '.join(missing)} in pytest.ini: {missing[0]} = module:name"
        )
    settings_class, routes, lifespan, hooks = (_imported(*item) for item in names.items())
    return ApplicationParts(settings_class, routes, lifespan or no_lifespan, hooks)


def _imported(option: str, name: str) -> Any:
    if not name:
        return None
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise pytest.UsageError(f"pytest.ini: {option} = {name} cannot be imported: {error}") from error


def forget_settings_of_the_shell() -> None:
    """Remove BFF_ variables: a test says itself what differs from the defaults."""
    for name in [name for name in os.environ if name.startswith("BFF_")]:
        del os.environ[name]


def settings_for(
    settings_class: type[BffSettings], api: StandInApi, required: Mapping[str, Any], chosen: Mapping[str, Any]
) -> BffSettings:
    """Settings whose named clients all call the stand-in; neither `.env` nor the environment matters."""
    unknown = [name for name in chosen if name not in settings_class.model_fields]
    assert not unknown, f"{settings_class.__name__} has no setting named {', '.join(unknown)}"
    try:
        settings = settings_class(_env_file=None, **{**required, **chosen})
        clients = {
            name: client.model_copy(update={"base_url": api.base_url_for(name)})
            for name, client in settings.http_clients.items()
        }
        return settings_class(_env_file=None, **{**required, **chosen, "http_clients": clients})
    except ValidationError as error:
        raise AssertionError(_explained(error)) from None


def _explained(error: ValidationError) -> str:
    problems = error.errors(include_input=False, include_url=False)
    lines = [f"  {'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems]
    fixture = '@pytest.fixture\n  def settings() -> dict[str, Any]:\n      return {"name": "value"}'
    return "\n".join(["The settings are wrong:", *lines, f"Give them in tests/conftest.py:\n\n  {fixture}"])


@asynccontextmanager
async def running_app(
    parts: ApplicationParts, provider: Provider, api: StandInApi, *, clock: Clock, **chosen: Any
) -> AsyncIterator[RunningApp]:
    """Serve the application on a free port, until the block is left. `chosen` are settings, by field name."""
    [listener] = bind_sockets(0, "127.0.0.1")
    base_url = f"http://localhost:{listener.getsockname()[1]}"
    with closing(listener):
        settings = settings_for(parts.settings_class, api, required_settings(base_url, provider), chosen)
        async with (
            running_services(settings, hooks=parts.hooks, clock=clock) as services,
            parts.lifespan(services) as state,
        ):
            tornado = make_app(services, parts.routes, state)
            async with served(tornado, listener):
                yield RunningApp(base_url, parts.routes, services, tornado)
            services.stopping.set()
            if services.hooks is not None:
                await services.hooks.drain()


def required_settings(base_url: str, provider: Provider) -> dict[str, Any]:
    """Register the application at the provider; return the settings without which it does not start."""
    client = Client(
        CLIENT_ID,
        secrets.token_urlsafe(32),
        redirect_uris=(base_url + CALLBACK_PATH,),
        post_logout_redirect_uris=(base_url + LOGOUT_CALLBACK_PATH,),
        backchannel_logout_uri=base_url + BACKCHANNEL_PATH,
    )
    provider.clients[CLIENT_ID] = client
    return {
        "base_url": base_url,
        "issuer": provider.issuer,
        "client_id": client.client_id,
        "client_auth": "client_secret_basic",
        "client_secret": client.client_secret,
        "encryption_keys": [os.urandom(32)],
        "session_store": "memory:",
    }


def check_typed_clients(services: Services, parts: ApplicationParts) -> None:
    """Raise SettingsError, as the start does, for a typed client without settings; those of tests aside."""
    package = parts.settings_class.__module__.partition(".")[0]
    services.clients.check(
        client for client in typed_clients() if client.__module__.partition(".")[0] == package
    )


@asynccontextmanager
async def served(tornado: Application, listener: socket) -> AsyncIterator[None]:
    """Serve `tornado` on the bound socket `listener` until the block is left."""
    patience = Patience.of(tornado.settings["services"].settings)
    server = StrictServer(tornado, patience=patience)
    server.add_sockets([listener])
    try:
        yield
    finally:
        server.stop()
        await server.close_all_connections()
