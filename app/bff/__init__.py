"""A backend-for-frontend. What an application needs of it; all else is its own business."""

from app.bff.clients.registry import API_ERRORS, ApiClient, TypedClient
from app.bff.errors import AppError, BadRequest, Forbidden, NoSession, Unauthorized
from app.bff.handlers.base import ApiHandler, BaseHandler, authenticated
from app.bff.handlers.socket import SocketHandler
from app.bff.settings.load import HttpClientSettings, RemoteApiSettings

__all__ = [
    "API_ERRORS",
    "ApiClient",
    "ApiHandler",
    "AppError",
    "BadRequest",
    "BaseHandler",
    "Forbidden",
    "HttpClientSettings",
    "NoSession",
    "RemoteApiSettings",
    "SocketHandler",
    "TypedClient",
    "Unauthorized",
    "authenticated",
]
