"""Paths of the engine's routes, and of the project's folder."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]

LOGIN_PATH = "/bff/login"
SILENT_LOGIN_PATH = "/bff/silent-login"
CALLBACK_PATH = "/bff/callback"
LOGOUT_PATH = "/bff/logout"
LOGOUT_CALLBACK_PATH = "/bff/logout/callback"
USER_PATH = "/bff/user"
SESSIONS_PATH = "/bff/sessions"
EVENTS_PATH = "/bff/events"
FORWARD_AUTH_PATH = "/bff/forward-auth"
BACKCHANNEL_PATH = "/bff/backchannel"
ALIVE_PATH = "/healthz"
READY_PATH = "/readyz"
