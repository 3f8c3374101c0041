"""A backend-for-frontend: the names that an application uses, and nothing else."""

from tornado.web import url

from app.bff.cli import run
from app.bff.clients.registry import API_ERRORS, ApiClient, TypedClient
from app.bff.errors import AppError, BadRequest, Forbidden, NoSession, Unauthorized
from app.bff.handlers.base import ApiHandler, BaseHandler, authenticated
from app.bff.handlers.session import claim_entries, session_entries
from app.bff.handlers.socket import SocketHandler
from app.bff.handlers.web import login_url
from app.bff.services import Services
from app.bff.settings.models import BffSettings, HttpClientSettings, RemoteApiSettings
from app.bff.web.return_paths import local_path

__all__ = [
    "API_ERRORS",
    "ApiClient",
    "ApiHandler",
    "AppError",
    "BadRequest",
    "BaseHandler",
    "BffSettings",
    "Forbidden",
    "HttpClientSettings",
    "NoSession",
    "RemoteApiSettings",
    "Services",
    "SocketHandler",
    "TypedClient",
    "Unauthorized",
    "authenticated",
    "claim_entries",
    "local_path",
    "login_url",
    "run",
    "session_entries",
    "url",
]
