"""DPoP proofs (RFC 9449): each proves that its sender holds a private key."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import Key, import_key
from tornado.httputil import HTTPServerRequest

ALGORITHMS = ["ES256", "ES384", "ES512", "PS256", "RS256", "Ed25519"]
PROOF_SECONDS = 60

_REGISTRY = jws.JWSRegistry(algorithms=ALGORITHMS)
_REGISTRY.max_header_length = 4096  # an RSA key in the header is longer than joserfc expects


class ProofRefused(Exception):
    """The text says why; `error` is the code for the client (RFC 9449 §5 and §8)."""

    def __init__(self, reason: str, error: str = "invalid_dpop_proof") -> None:
        super().__init__(reason)
        self.error = error


@dataclass(frozen=True)
class Proof:
    jkt: str  # the key's thumbprint (RFC 7638)
    jti: str


def check_proof(
    proof: str, *, method: str, url: str, now: float, nonce: str | None, access_token: str | None
) -> Proof:
    """The checks of RFC 9449 §4.3, but for a `jti` that comes again: that takes a memory.

    `url` has no query; a None is not checked. Raises ProofRefused.
    """
    key, claims = _opened(proof)
    right = {
        "htm": claims.get("htm") == method,
        "htu": claims.get("htu") == url,
        "iat": _is_about(claims.get("iat"), now),
        "jti": isinstance(claims.get("jti"), str) and claims["jti"] != "",
        "ath": access_token is None or claims.get("ath") == ath(access_token),
    }
    if wrong := [name for name, good in right.items() if not good]:
        raise ProofRefused(f"Wrong in the proof: {', '.join(wrong)}.")
    if nonce is not None and claims.get("nonce") != nonce:
        raise ProofRefused("The proof needs the nonce of DPoP-Nonce.", "use_dpop_nonce")
    return Proof(key.thumbprint(), claims["jti"])


def ath(access_token: str) -> str:
    digest = hashlib.sha256(access_token.encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _opened(proof: str) -> tuple[Key, dict[str, Any]]:
    """The key in the header, and the claims that it has signed."""
    try:
        signed = jws.extract_compact(proof.encode(), registry=_REGISTRY)
        header = signed.headers()
        key = import_key(dict(header["jwk"]))  # a text would be taken for PEM, or for a shared secret
        is_good = jws.validate_compact(signed, key, registry=_REGISTRY)
        claims = json.loads(signed.payload)
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise ProofRefused("This is not a signed proof with a public key.") from error
    if not is_good or header.get("typ") != "dpop+jwt" or key.is_private or not isinstance(claims, dict):
        raise ProofRefused("Wrong in the proof: signature, typ or jwk.")
    return key, claims


def _is_about(iat: object, now: float) -> bool:
    return isinstance(iat, int | float) and abs(now - iat) <= PROOF_SECONDS


class Proofs:
    """The proofs that a server has been shown: none is good twice (RFC 9449 §11.1)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: set[str] = set()

    def key_of(
        self, request: HTTPServerRequest, *, nonce: str | None, access_token: str | None = None
    ) -> str | None:
        """The thumbprint of the key that the request proves; None when it brings no proof."""
        sent = request.headers.get_list("DPoP")
        if not sent:
            return None
        if len(sent) > 1:
            raise ProofRefused("There is more than one DPoP header.")
        url = f"{request.protocol}://{request.host}{request.path}"
        method, now = request.method or "", self._clock()
        proof = check_proof(sent[0], method=method, url=url, now=now, nonce=nonce, access_token=access_token)
        if proof.jti in self._seen:
            raise ProofRefused("This jti has been used.")
        self._seen.add(proof.jti)
        return proof.jkt
