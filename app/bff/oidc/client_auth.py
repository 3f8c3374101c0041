"""Client authentication methods for Authlib. None sends a parameter twice (RFC 6749 §3.2)."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode

from app.bff.errors import SettingsError
from app.bff.oidc.keys import Key, private_key, sign_jwt

Prepared = tuple[str, Any, Any]

ASSERTION_SECONDS = 60
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def client_secret_basic(client: Any, method: str, uri: str, headers: Any, body: Any) -> Prepared:
    """HTTP Basic with id and secret form-encoded (RFC 6749 §2.3.1); Authlib's own method sends them raw."""
    pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
    headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    return uri, headers, body


def client_secret_post(client: Any, method: str, uri: str, headers: Any, body: Any) -> Prepared:
    """Id and secret in the form; Authlib's own method repeats the `client_id` of a pushed request."""
    return uri, headers, _with(body, client_id=client.client_id, client_secret=client.client_secret)


class PrivateKeyJwt:
    """An assertion signed with the client's private key (RFC 7523 §2.2, §3); no secret is sent.

    `client_id` goes with it (RFC 7521 §4.2): optional, but Microsoft Entra requires it.

    Each one is used once, expires after ASSERTION_SECONDS, and has the issuer as its only audience, so
    another provider cannot replay it. Authlib's own method lets it live for an hour.
    """

    def __init__(self, key: Key, *, audience: str, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._audience = audience
        self._clock = clock

    def __call__(self, client: Any, method: str, uri: str, headers: Any, body: Any) -> Prepared:
        now = int(self._clock())
        claims = {
            "iss": client.client_id,
            "sub": client.client_id,
            "aud": self._audience,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
        }
        return (
            uri,
            headers,
            _with(
                body,
                client_id=client.client_id,
                client_assertion_type=_ASSERTION_TYPE,
                client_assertion=sign_jwt(claims, self._key),
            ),
        )


def _with(form: str | bytes, **params: str) -> str:
    """Return the form with these parameters, each in place of one of that name."""
    pairs = parse_qsl(form if isinstance(form, str) else form.decode(), keep_blank_values=True)
    return urlencode([pair for pair in pairs if pair[0] not in params] + list(params.items()))


def key_from(file: Path) -> Key:
    """Return the private key in a PEM or JWK file, or raise SettingsError."""
    try:
        return private_key(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(
            f"BFF_CLIENT_KEY_FILE: no private key can be read from it ({type(error).__name__})"
        ) from None
