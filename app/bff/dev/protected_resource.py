"""A protected resource: requests need a valid access token."""

from __future__ import annotations

from collections.abc import Callable

from tornado.httputil import HTTPServerRequest

from app.bff.dev.dpop import ProofRefused, Proofs
from app.bff.dev.grants import TokenRecord
from app.bff.dev.realm import Realm
from app.bff.dev.server import Answer, credentials, json_answer


class ProtectedResource:
    """Accepts a valid token as Bearer, a key-bound one as DPoP with a proof (RFC 9449 §7)."""

    def __init__(self, realm: Realm, accepts: Callable[[TokenRecord], bool] = lambda token: True) -> None:
        self._realm = realm
        self._accepts = accepts
        self._proofs = Proofs(realm.clock)

    def admit(
        self, request: HTTPServerRequest, work: Callable[[TokenRecord], Answer], nonce: str | None = None
    ) -> Answer:
        """Return the response of `work` to a valid token, else 401."""
        try:
            token = self._token(request, nonce)
        except ProofRefused as refused:
            return refuse_token(request, refused.error)
        return refuse_token(request, "invalid_token") if token is None else work(token)

    def _token(self, request: HTTPServerRequest, nonce: str | None) -> TokenRecord | None:
        scheme, value = credentials(request)
        token = self._realm.access_token(value)
        if token is None or scheme != ("bearer" if token.jkt is None else "dpop"):
            return None
        if token.jkt is not None:
            self._check_key(request, token, nonce)
        return token if self._accepts(token) else None

    def _check_key(self, request: HTTPServerRequest, token: TokenRecord, nonce: str | None) -> None:
        if self._proofs.key_of(request, nonce=nonce, access_token=token.value) != token.jkt:
            raise ProofRefused("There is no proof of the key that the token is bound to.")


def refuse_token(request: HTTPServerRequest, error: str, status: int = 401) -> Answer:
    """The response to a missing or invalid access token (RFC 6750 §3, RFC 9449 §7.1)."""
    scheme = "DPoP" if credentials(request)[0] == "dpop" else "Bearer"
    return json_answer({"error": error}, status, {"WWW-Authenticate": f'{scheme} error="{error}"'})


def with_nonce(answer: Answer, nonce: str | None) -> Answer:
    """Add the nonce for the client's next proof (RFC 9449 §8.2)."""
    return answer if nonce is None else answer.plus({"DPoP-Nonce": nonce})
