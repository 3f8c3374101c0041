"""The provider's signing keys: what it publishes, and what it really signs with."""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, OctKey, RSAKey

_UNPUBLISHED = -1

# Each of these has stopped some client from reading the good key next to it.
MALFORMED_KEYS: list[Any] = [
    {"kty": "unheard-of", "kid": "broken-1"},
    {"kty": "RSA", "kid": "broken-2", "e": "AQAB"},
    {"kty": "EC", "kid": "broken-3", "crv": "P-0", "x": "AA", "y": "AA"},
    "not an object",
]


@cache  # making one takes longer than starting the provider: they are made once per process
def rsa_key(number: int) -> RSAKey:
    return RSAKey.generate_key(2048)


@cache
def ec_key(number: int) -> ECKey:
    return ECKey.generate_key("P-256")


class SigningKeys:
    """An RSA and an EC key at a time; a rotation replaces both."""

    def __init__(self) -> None:
        self._number = 0

    def rotate(self) -> None:
        self._number += 1

    def published(self) -> list[Any]:
        rsa, ec = rsa_key(self._number), ec_key(self._number)
        return [
            rsa.as_dict(private=False, kid=self._kid("RS256"), alg="RS256", use="sig"),
            ec.as_dict(private=False, kid=self._kid("ES256"), alg="ES256", use="sig"),
        ]

    def header(self, alg: str) -> dict[str, object]:
        if alg == "none" or alg.startswith("HS"):
            return {"alg": alg}
        return {"alg": alg, "kid": self._kid(alg)}

    def sign(
        self,
        header: Mapping[str, object],
        claims: Mapping[str, object],
        *,
        alg: str,
        secret: str,
        forged: bool = False,
    ) -> str:
        """A JWT. `secret` is the key of the HS algorithms; `forged` signs with an unpublished key."""
        if alg == "none":
            return f"{_part(header)}.{_part(claims)}."
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # a test's client secret may be short
            key = self._key(alg, secret, _UNPUBLISHED if forged else self._number)
            # Not jwt.encode: half a surrogate pair is for the application to refuse.
            content = json.dumps(claims).encode()
            return jws.serialize_compact({"typ": "JWT", **header}, content, key, algorithms=[alg])

    def _kid(self, alg: str) -> str:
        return f"{'ec' if alg.startswith('ES') else 'rsa'}-{self._number}"

    def _key(self, alg: str, secret: str, number: int) -> Key:
        if alg.startswith("HS"):
            return OctKey.import_key(secret)
        return ec_key(number) if alg.startswith("ES") else rsa_key(number)


def _part(value: Mapping[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
