"""How a client proves who it is."""
# Authlib is untyped:
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from urllib.parse import unquote_plus

from authlib.oauth2.rfc6749 import OAuth2Request

from app.bff.dev.registrations import Client

AUTH_METHODS = ["client_secret_basic", "client_secret_post"]

_FORM_URLENCODED = re.compile(r"(?:[A-Za-z0-9*._~+-]|%[0-9A-Fa-f]{2})+")


def client_secret_basic(
    query_client: Callable[[str], Client | None], request: OAuth2Request
) -> Client | None:
    """Id and secret are form-urlencoded before they are joined (RFC 6749 §2.3.1).

    Authlib's own decodes `%20` but not `+`, and lets a client get away with encoding nothing.
    """
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        joined = base64.b64decode(credentials, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return None
    client_id, _, secret = joined.partition(":")
    if not _FORM_URLENCODED.fullmatch(client_id) or not _FORM_URLENCODED.fullmatch(secret):
        return None
    client = query_client(unquote_plus(client_id))
    return client if client and client.check_client_secret(unquote_plus(secret)) else None
