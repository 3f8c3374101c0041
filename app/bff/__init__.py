"""A backend-for-frontend: the public interface, and nothing else.

An application imports from here only (its tests also from `app.bff.testing`); everything else in this
package may change with any update. docs/bff/ is the manual.

- Handlers: `BaseHandler` for pages, `ApiHandler` for JavaScript, `SocketHandler` for WebSockets,
  `authenticated`, `url`
- What they have: `Session`, `SessionData`, `Services`
- APIs: `TypedClient`, `ApiClient`, `API_ERRORS`
- Settings: `BffSettings`, `HttpClientSettings`, `RemoteApiSettings`
- Errors: `AppError` and its subclasses
- Start: `run`; what you do when users sign in and out: `Hooks`, `HookContext`
- Functions: `local_path`, `login_url`, `claim_entries`, `session_entries`
"""

import app.bff.interrupts  # noqa: F401, I001 (first: Ctrl-C during the imports below shows no traceback)

from tornado.web import url

from app.bff.cli import run
from app.bff.clients.api import API_ERRORS, ApiClient, TypedClient
from app.bff.errors import (
    ApiError,
    ApiTimeout,
    ApiUnreachable,
    AppError,
    BadRequest,
    BadReturnUrl,
    Forbidden,
    ForeignOrigin,
    InsufficientAuthentication,
    InvalidBody,
    NoSession,
    NotFound,
    ReauthenticationRequired,
    SessionEnded,
    SettingsError,
    StoreUnavailable,
    TokenUnavailable,
    TooLarge,
    Unauthorized,
    UnknownClient,
    UnsupportedMediaType,
)
from app.bff.hooks import HookContext, Hooks
from app.bff.handlers.authenticated import authenticated
from app.bff.handlers.base import ApiHandler, BaseHandler
from app.bff.handlers.session import claim_entries, session_entries
from app.bff.handlers.socket import SocketHandler
from app.bff.handlers.web import login_url
from app.bff.services import Services
from app.bff.sessions.data import SessionData
from app.bff.sessions.session import Session
from app.bff.settings.apis import HttpClientSettings, RemoteApiSettings
from app.bff.settings.models import BffSettings
from app.bff.web.return_paths import local_path

__all__ = [
    "API_ERRORS",
    "ApiClient",
    "ApiError",
    "ApiHandler",
    "ApiTimeout",
    "ApiUnreachable",
    "AppError",
    "BadRequest",
    "BadReturnUrl",
    "BaseHandler",
    "BffSettings",
    "Forbidden",
    "ForeignOrigin",
    "HookContext",
    "Hooks",
    "HttpClientSettings",
    "InsufficientAuthentication",
    "InvalidBody",
    "NoSession",
    "NotFound",
    "ReauthenticationRequired",
    "RemoteApiSettings",
    "Services",
    "Session",
    "SessionData",
    "SessionEnded",
    "SettingsError",
    "SocketHandler",
    "StoreUnavailable",
    "TokenUnavailable",
    "TooLarge",
    "TypedClient",
    "Unauthorized",
    "UnknownClient",
    "UnsupportedMediaType",
    "authenticated",
    "claim_entries",
    "local_path",
    "login_url",
    "run",
    "session_entries",
    "url",
]
