"""JSON Web Signatures: published keys, verification of tokens, and signing with the client's key."""

from __future__ import annotations

import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from joserfc import jwk, jws
from joserfc.errors import JoseError

from app.bff.errors import UntrustedToken, UnusableToken
from app.bff.oidc.http import parse_json_object
from app.bff.settings.models import SignatureAlgorithm

ALGORITHMS = frozenset(get_args(SignatureAlgorithm))
_SIGNING_KEY_TYPES: tuple[Literal["RSA", "EC", "OKP"], ...] = ("RSA", "EC", "OKP")
_ALGORITHM_FOR = {"RSA": "PS256", "P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "Ed25519"}
Key = jwk.Key


class _Registry(jws.JWSRegistry):
    """Sizes in bytes: a response may have 1 MB, thousands of groups among it, and a header certificates."""

    max_header_length = 16_384
    max_payload_length = 1_000_000


_SIZES = _Registry()


class UnknownKey(UnusableToken):
    """No published key matches; the keys may have been rotated since they were fetched."""


@dataclass(frozen=True)
class SignedToken:
    """The content of a token with a verified signature; its claims are not validated yet."""

    algorithm: str
    type: str | None
    claims: dict[str, Any]


def parse_jwks(document: dict[str, Any]) -> list[Key]:
    """Return the keys of a JWK set that can verify signatures; malformed ones are skipped."""
    members = document.get("keys")
    found = (_key(member) for member in (members if isinstance(members, list) else []))
    return [key for key in found if key is not None]


def _key(member: Any) -> Key | None:
    if not isinstance(member, dict) or member.get("use", "sig") != "sig":
        return None
    if member.get("kty") not in _SIGNING_KEY_TYPES:
        return None
    try:
        return jwk.import_key(member)
    except Exception:  # joserfc raises bare KeyError and ValueError too; one bad key must not block logins
        return None


def private_key(data: bytes) -> Key:
    """Return the private key in a PEM or JWK file; raises ValueError if there is none."""
    material = json.loads(data) if data.lstrip().startswith(b"{") else data
    for key_type in _SIGNING_KEY_TYPES:
        try:
            key = jwk.import_key(material, key_type)
            sign_jwt({}, key)  # also refuses an `alg` that is not for such a key
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        return key
    raise ValueError("no RSA, EC or OKP private key that can sign")


def sign_jwt(claims: dict[str, Any], key: Key, *, token_type: str | None = None) -> str:
    """Return the claims as a JWT signed with a private key.

    `kid` and `alg` are those of the JWK, by which the provider may know it; without them the
    thumbprint (RFC 7638), and the algorithm that fits the type of key.
    """
    algorithm = key.alg or _ALGORITHM_FOR[str(key.as_dict().get("crv", key.key_type))]
    header = {"alg": algorithm, "kid": key.kid or key.thumbprint()}
    if token_type:
        header["typ"] = token_type
    return jws.serialize_compact(header, json.dumps(claims).encode(), key, algorithms=list(ALGORITHMS))


def unverified_claims(token: str) -> dict[str, Any]:
    """Return what a token says before its signature is verified; {} if that cannot be read."""
    try:
        return parse_json_object(jws.extract_compact(token.encode(), registry=_SIZES).payload) or {}
    except (JoseError, ValueError, TypeError, binascii.Error):
        return {}


def algorithm_of(token: str, allowed: frozenset[str]) -> str:
    """Return the `alg` of a token if it is allowed, or raise UntrustedToken. Needs no key.

    UnusableToken among them if another setting would allow it.
    """
    algorithm = _header(token).get("alg")
    if isinstance(algorithm, str) and algorithm in ALGORITHMS - allowed:
        raise UnusableToken(
            f"signed with {algorithm}, which is not allowed here:"
            f" set BFF_ID_TOKEN_ALG={algorithm} if that is registered for this client"
        )
    if not isinstance(algorithm, str) or algorithm not in allowed:
        raise UntrustedToken(f"signed with {algorithm!r:.20}, which is not allowed here")
    return algorithm


def verify_signature(token: str, keys: Sequence[Key], allowed: frozenset[str]) -> SignedToken:
    """Return the token's content if one of `keys` has signed it with an allowed algorithm.

    Raises UnknownKey if none has, UnusableToken if it is no signed token, or UntrustedToken.
    """
    algorithm = algorithm_of(token, allowed)
    header = _header(token)
    registry = _Registry(algorithms=[algorithm], strict_check_header=False)
    for key in keys:
        if "kid" in header and key.kid is not None and key.kid != header["kid"]:
            continue
        payload = _payload(token, key, registry)
        if payload is not None:
            return SignedToken(algorithm, header.get("typ"), _claims(payload))
    raise UnknownKey("no key that the provider publishes has signed the token")


def names_one_of(token: str, keys: Sequence[Key]) -> bool:
    """Whether one of `keys` has the token's `kid`, or it names none: then its signature is wrong."""
    kid = _header(token).get("kid")
    return kid is None or any(key.kid in (kid, None) for key in keys)


def _header(token: str) -> dict[str, Any]:
    try:
        return dict(jws.extract_compact(token.encode(), registry=_SIZES).headers())
    except (JoseError, ValueError, TypeError, binascii.Error) as error:
        raise UnusableToken("not a signed token") from error


def _payload(token: str, key: Key, registry: jws.JWSRegistry) -> bytes | None:
    try:
        return jws.deserialize_compact(token, key, registry=registry).payload
    except (JoseError, ValueError, TypeError):  # also: a key of another type than the algorithm's
        return None


def _claims(payload: bytes) -> dict[str, Any]:
    claims = parse_json_object(payload)
    if claims is None:
        raise UnusableToken("the token's content is not a JSON object")
    return claims
