"""Tornado's request adapted to Authlib's, with the target of its access token."""
# Authlib is untyped:
# mypy: disable-error-code="import-untyped", allow-subclassing-any

from __future__ import annotations

import re
from collections.abc import Iterable

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import OAuth2Request
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from tornado.httputil import HTTPServerRequest

from app.bff.dev.grants import Code, Grant, TokenRecord

_ABSOLUTE_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^#\s]+")


class Request(OAuth2Request):
    """Tornado's request adapted to Authlib's; `data` are the effective parameters."""

    def __init__(self, request: HTTPServerRequest, data: dict[str, str]) -> None:
        # Not the Host header: Authlib wants https or a loopback address, and this always is one.
        super().__init__(request.method, f"http://127.0.0.1{request.uri}", headers=request.headers)
        self.http = request
        self.payload = BasicOAuth2Payload(data)
        self.target: str | None = None
        self.jkt: str | None = None  # the key that the client has proven to hold
        self.exchanged: Grant | None = None

    @property
    def form(self) -> dict[str, str]:
        data: dict[str, str] = self.payload.data
        return data

    @property
    def grant(self) -> Grant | None:
        """The grant behind a token request; None for client credentials."""
        source: Code | TokenRecord | None = self.authorization_code or self.refresh_token
        return source.grant if source else self.exchanged


class InvalidTargetError(OAuth2Error):
    error = "invalid_target"


def target_of(request: Request, names: Iterable[str], refused: set[str]) -> str | None:
    """Return the first of the parameters that is present; raise InvalidTargetError (RFC 8707 §2)."""
    targets = {name: request.form[name] for name in names if name in request.form}
    for name, target in targets.items():
        if len(request.http.arguments.get(name, [])) > 1:
            raise InvalidTargetError(f"A token is for one {name} here.")
        check_target(name, target, refused)
    return next(iter(targets.values()), None)


def check_target(name: str, target: str, refused: set[str]) -> None:
    if target in refused:
        raise InvalidTargetError(f"This {name} is unknown here.")
    if name == "resource" and not _ABSOLUTE_URI.fullmatch(target):
        raise InvalidTargetError("The resource must be an absolute URI without a fragment.")


def resources_of(request: Request) -> list[str]:
    """Return the resources of an authorization request (RFC 8707 §2.1)."""
    several = [value.decode() for value in request.http.arguments.get("resource", [])]
    return several or [request.form[name] for name in ("resource",) if name in request.form]
