"""Pushed authorization requests (RFC 9126)."""
# Authlib is untyped:
# mypy: disable-error-code="import-untyped", allow-subclassing-any

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import InvalidRequestError
from authlib.oauth2.rfc6749.endpoint import Endpoint

from app.bff.dev.client_auth import AUTH_METHODS
from app.bff.dev.grants import new_secret
from app.bff.dev.registrations import Client
from app.bff.dev.request import Request

PUSHED_SECONDS = 60


@dataclass
class Pushed:
    parameters: dict[str, str] = field(repr=False)
    expires_at: float
    opened: bool = False


class PushedRequests:
    """Pending pushed requests by request_uri."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pushed: dict[str, Pushed] = {}

    def add(self, parameters: dict[str, str]) -> str:
        request_uri = f"urn:ietf:params:oauth:request_uri:{new_secret('par')}"
        self._pushed[request_uri] = Pushed(parameters, self._clock() + PUSHED_SECONDS)
        return request_uri

    def open(self, query: Mapping[str, str]) -> dict[str, str] | None:
        """Return the pushed request of a request_uri, if first used in time.

        Once used it does not expire: the login page may stay open.
        """
        pushed = self._pushed.get(query["request_uri"])
        if pushed is None or pushed.parameters["client_id"] != query.get("client_id"):
            return None
        pushed.opened = pushed.opened or self._clock() < pushed.expires_at
        return pushed.parameters if pushed.opened else None

    def finish(self, query: Mapping[str, str]) -> None:
        self._pushed.pop(query.get("request_uri", ""), None)


class PushedRequestEndpoint(Endpoint):
    ENDPOINT_NAME = "par"

    def create_endpoint_response(self, request: Request) -> tuple[int, dict[str, object], list[object]]:
        client = self.server.authenticate_client(request, AUTH_METHODS, self.ENDPOINT_NAME)
        try:
            self._check(request, client)
        except OAuth2Error as error:
            error.redirect_uri = None  # answered to the client directly, not by redirect
            raise
        request_uri = self.server.pushed.add(request.form)
        return 201, {"request_uri": request_uri, "expires_in": PUSHED_SECONDS}, []

    def _check(self, request: Request, client: Client) -> None:
        """Refuse what the authorization endpoint would refuse (RFC 9126 §2.1)."""
        form = request.form
        if form.get("client_id") != client.client_id:
            raise InvalidRequestError("The client_id is missing, or another client's.")
        if "request_uri" in form:
            raise InvalidRequestError("A request_uri cannot be pushed.")
        if form.get("redirect_uri") not in client.redirect_uris:
            raise InvalidRequestError("This redirect_uri is not registered for the client.")
        self.server.get_authorization_grant(request).validate_authorization_request()
        self._bind(request)

    def _bind(self, request: Request) -> None:
        """A proof binds the code as `dpop_jkt` does (RFC 9449 §10.1)."""
        jkt = self.server.proven_key(request)
        if jkt and request.form.setdefault("dpop_jkt", jkt) != jkt:
            raise OAuth2Error("The proof is of another key than dpop_jkt.", error="invalid_dpop_proof")
