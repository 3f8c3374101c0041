"""DPoP (RFC 9449): proofs that bind a token to a key. Pure, except for the cache of nonces."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from joserfc import jwk, jws

Headers = Mapping[str, str]
DpopKey = Mapping[str, str]  # a private JWK, as stored in a session

ALGORITHM = "ES256"
_REFUSAL = "use_dpop_nonce"
_NONCE_CHALLENGE = re.compile(rf'\berror\s*=\s*"?{_REFUSAL}\b')


def new_key() -> dict[str, str]:
    """Return a new private key, as a JWK that can be sealed into a session."""
    return {name: str(value) for name, value in jwk.generate_key("EC", "P-256").as_dict(private=True).items()}


def thumbprint(key: DpopKey) -> str:
    """Return the `dpop_jkt` that binds an authorization code to the key (RFC 9449 §10, RFC 7638)."""
    return str(jwk.import_key(dict(key)).thumbprint())


def authorization(
    access_token: str, key: DpopKey | None, method: str, url: str, *, now: float, nonce: str | None
) -> dict[str, str]:
    """Return the headers that present an access token: as Bearer (RFC 6750 §2.1), or with a proof (§7.1)."""
    if key is None:
        return {"Authorization": f"Bearer {access_token}"}
    proven = proof(key, method, url, now=now, nonce=nonce, access_token=access_token)
    return {"Authorization": f"DPoP {access_token}", "DPoP": proven}


def proof(
    key: DpopKey, method: str, url: str, *, now: float, nonce: str | None, access_token: str | None = None
) -> str:
    """Return a proof for one request (§4.2), with the hash of the access token that it carries, if any."""
    signing_key = jwk.import_key(dict(key))
    public = {name: value for name, value in signing_key.as_dict(private=False).items() if name != "kid"}
    claims = {
        "jti": secrets.token_urlsafe(16),
        "htm": method,
        "htu": without_query(url),
        "iat": int(now),
        "ath": _hash(access_token) if access_token else None,
        "nonce": nonce,
    }
    present = {name: value for name, value in claims.items() if value is not None}
    header = {"typ": "dpop+jwt", "alg": ALGORITHM, "jwk": public}
    return jws.serialize_compact(header, json.dumps(present).encode(), signing_key, algorithms=[ALGORITHM])


def without_query(url: str) -> str:
    return urlsplit(url)._replace(query="", fragment="").geturl()


def _hash(access_token: str) -> str:
    digest = hashlib.sha256(access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_token_endpoint_nonce_challenge(status: int, error: object) -> bool:
    """Whether a token endpoint demands the request again, with a nonce (§8)."""
    return status in (400, 401) and error == _REFUSAL


def is_api_nonce_challenge(status: int, headers: Headers) -> bool:
    """Whether an API demands the request again, with a nonce (§9)."""
    challenges = [value for name, value in headers.items() if name.lower() == "www-authenticate"]
    return status == 401 and any(_NONCE_CHALLENGE.search(challenge) for challenge in challenges)


class Nonces:
    """The newest nonce of each origin; with it, a proof cannot have been made in advance (§8)."""

    def __init__(self) -> None:
        self._newest: dict[str, str] = {}

    def of(self, url: str) -> str | None:
        return self._newest.get(_origin(url))

    def note(self, url: str, headers: Headers) -> None:
        """Store the nonce of a response, successful or not (§8.2)."""
        nonce = headers.get("DPoP-Nonce")
        if nonce:
            self._newest[_origin(url)] = nonce


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
