"""The settings with which the application starts on a developer's machine."""

from __future__ import annotations

import base64
import os
import secrets
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from dotenv import dotenv_values

from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Client, Provider

DEFAULT_PORT = 8888


def given_settings(folder: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the BFF_ settings of `.env` and the environment, which comes first; an empty one is unset."""
    made = {**dotenv_values(folder / ".env"), **environment}
    return {name: value for name, value in made.items() if name.startswith("BFF_") and value}


def port_of(given: Mapping[str, str]) -> int:
    text = given.get("BFF_PORT", str(DEFAULT_PORT))
    if not text.isdecimal():
        raise SystemExit(f"BFF_PORT is {text!r}, but must be a number.")
    return int(text)


def health_url_of(given: Mapping[str, str]) -> str:
    address = given.get("BFF_ADDRESS", "127.0.0.1")
    everywhere = address in ("0.0.0.0", "::")  # noqa: S104  compared, not bound
    host = "127.0.0.1" if everywhere else address
    return f"http://{host}:{port_of(given)}/healthz"


def base_url_of(given: Mapping[str, str]) -> str:
    return given.get("BFF_BASE_URL", f"http://localhost:{port_of(given)}").rstrip("/")


def dev_client(given: Mapping[str, str]) -> Client:
    """Return the application's registration at the development provider."""
    base_url = base_url_of(given)
    return Client(
        given.get("BFF_CLIENT_ID", "app"),
        given.get("BFF_CLIENT_SECRET", secrets.token_urlsafe(32)),
        redirect_uris=(f"{base_url}/bff/callback",),
        post_logout_redirect_uris=(f"{base_url}/bff/logout/callback",),
        backchannel_logout_uri=f"{base_url}/bff/backchannel",
    )


def own_settings(given: Mapping[str, str], store: str) -> dict[str, str]:
    """Return the settings that every application needs; the encryption key lasts for this run."""
    return {
        "BFF_DEBUG": "true",
        "BFF_PORT": str(port_of(given)),
        "BFF_BASE_URL": base_url_of(given),
        "BFF_SESSION_STORE": store,
        "BFF_ENCRYPTION_KEYS": base64.b64encode(secrets.token_bytes(32)).decode(),
    }


def stand_in_settings(provider: Provider, client: Client, api: DemoApi) -> dict[str, str]:
    """Return where the development provider and the demo API are, and the client's credentials.

    DEMO_API_URL is for the project's own settings: the engine does not know which client calls that API.
    """
    return {
        "BFF_ISSUER": provider.issuer,
        "BFF_CLIENT_ID": client.client_id,
        "BFF_CLIENT_SECRET": client.client_secret,
        "DEMO_API_URL": api.base_url,
    }


def taken_ports(ports: Iterable[int]) -> list[int]:
    return [port for port in ports if _is_taken(port)]


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a server does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
