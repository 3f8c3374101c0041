"""Authenticated encryption with a key ring: the first key seals, every key opens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.bff.settings.validators import KEY_BYTES

_KEY_ID_BYTES = 4
_NONCE_BYTES = 12
SEAL_BYTES = _KEY_ID_BYTES + _NONCE_BYTES + 16  # that sealing adds: with the tag of GCM


class Unsealable(Exception):
    """No key of the ring opens the bytes, they were modified, or they were sealed for another place."""


class _Key:
    """One key of the ring, derived by purpose (HKDF, RFC 5869): encryption and tags use different keys."""

    def __init__(self, secret: bytes) -> None:
        self.id = hashlib.sha256(b"id" + secret).digest()[:_KEY_ID_BYTES]
        self.cipher = AESGCM(_derived(secret, b"seal"))
        self.tag_key = _derived(secret, b"tag")
        self.id_key = _derived(secret, b"id of a session")


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(secret)


class Vault:
    """AES-256-GCM with a place as associated data.

    `place` names where the sealed bytes belong (a record, a cookie). Bytes sealed for one place do not
    open in another, so an attacker gains nothing by swapping two records of the database.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ring = [_Key(key) for key in keys]

    @property
    def key_ids(self) -> list[bytes]:
        """The ids of the keys, in the order of the ring. Sealed bytes begin with the id of their key."""
        return [key.id for key in self._ring]

    def is_newest(self, sealed: bytes) -> bool:
        """Whether the first key has sealed these bytes."""
        return sealed[:_KEY_ID_BYTES] == self._ring[0].id

    def seal(self, data: bytes, *, place: str) -> bytes:
        key = self._ring[0]
        nonce = os.urandom(_NONCE_BYTES)  # 96 random bits for every call: NIST SP 800-38D §8.2.2
        return key.id + nonce + key.cipher.encrypt(nonce, data, key.id + place.encode())

    def open(self, sealed: bytes, *, place: str) -> bytes:
        """Return the sealed content, or raise Unsealable."""
        key_id, nonce = sealed[:_KEY_ID_BYTES], sealed[_KEY_ID_BYTES : _KEY_ID_BYTES + _NONCE_BYTES]
        body = sealed[_KEY_ID_BYTES + _NONCE_BYTES :]
        key = next((key for key in self._ring if key.id == key_id), None)
        if key is None:
            raise Unsealable("sealed with a key that is not in the ring")
        try:
            return key.cipher.decrypt(nonce, body, key_id + place.encode())
        except (InvalidTag, ValueError) as error:
            raise Unsealable("modified, truncated, or from another place") from error

    def seal_json(self, value: Any, *, place: str) -> str:
        """Return `value` as JSON, sealed and base64url-encoded, which fits a cookie."""
        return base64.urlsafe_b64encode(
            self.seal(json.dumps(value, ensure_ascii=False).encode(), place=place)
        ).decode()

    def open_json(self, text: str, *, place: str) -> Any:
        """Return the sealed content, or raise Unsealable."""
        try:
            return json.loads(self.open(base64.urlsafe_b64decode(text.encode()), place=place))
        except ValueError as error:
            raise Unsealable("not sealed JSON") from error

    def tag(self, value: str) -> str:
        """Return a keyed hash (HMAC-SHA256) of `value`, to search for it without storing it."""
        return self.tags(value)[0]

    def tags(self, value: str) -> list[str]:
        """Return the hash of `value` under each key of the ring, to search for it."""
        return [hmac.new(key.tag_key, value.encode(), hashlib.sha256).hexdigest() for key in self._ring]

    def ids(self, value: str) -> list[str]:
        """Return a session id derived from `value` (HMAC-SHA256, as base64url) under each key of the ring."""
        digests = (hmac.digest(key.id_key, value.encode(), hashlib.sha256) for key in self._ring)
        return [base64.urlsafe_b64encode(digest).rstrip(b"=").decode() for digest in digests]
