"""Validators of settings: each returns the value, or raises ValueError. Pure."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any
from urllib.parse import urlsplit

from app.bff.authorization import Rule

KEY_BYTES = 32
# Parameters of authorization and end-session requests whose values belong to the flow.
_FLOW_PARAMETERS = frozenset(
    {"response_type", "response_mode", "client_id", "redirect_uri", "scope", "resource", "state", "nonce"}
    | {"code_challenge", "code_challenge_method", "dpop_jkt", "request", "request_uri", "claims"}
    | {"client_secret", "client_assertion", "client_assertion_type", "id_token_hint", "registration"}
)
_LOGIN_ROUTE_PARAMETERS = frozenset(
    {"prompt", "login_hint", "hint", "acr_values", "max_age", "returnUrl", "moved"}
)
_LOGOUT_PARAMETERS = frozenset({"client_id", "post_logout_redirect_uri", "state", "id_token_hint"})
LOGOUT_PLACEHOLDERS = frozenset({"post_logout_redirect_uri", "client_id", "state"})
_PARAMETER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}")
_QUOTED = re.compile(r"""(["'`]).*\1""", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True} | {
    "false": False, "0": False, "no": False, "off": False,
}  # fmt: skip
_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*\.?")  # RFC 1123 §2.1, and `_`
_URL = re.compile(r"[!-~]+")  # RFC 3986 §2
_UNSAFE_IN_URLS = re.compile(r"[\"<>]")
_COOKIE_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")  # in a header, and in the regular expressions of proxies
_HEADER_SECRET = re.compile(r"[!-~]{32,1024}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2


def from_json(value: Any) -> Any:
    """Parse text; refuse a name that is twice in an object, since only the last value would count."""
    try:
        return well_formed(json.loads(value, object_pairs_hook=_unique)) if isinstance(value, str) else value
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{well_formed(min(twice))!r} is there twice")
    return dict(pairs)


def rule(value: Any) -> Rule | None:
    return None if value is None else Rule.of(value)


def rule_or_bool(value: Any) -> Rule | bool:
    """Return true, false, or the rule of a JSON object."""
    text = value.strip().lower() if isinstance(value, str) else ""
    if text.startswith("{"):
        return Rule.of(from_json(value))
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if isinstance(value, str):
        raise ValueError("must be true, false, or a rule over claims")
    return value if isinstance(value, bool) else Rule.of(value)


def well_formed(value: Any) -> Any:
    """Refuse text that no response and no database can hold: bytes of the environment that are no UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None
    return value


def header_fields(headers: Mapping[str, str]) -> dict[str, str]:
    """Return fixed headers of a client without white space around values; refuse what is no header."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{well_formed(name)!r} is no name of a header")
        if _CONTROL.search(value.strip()):
            raise ValueError(f"the header {name} contains a line break or another control character")
    return {name: well_formed(value.strip()) for name, value in headers.items()}


def single_line(value: Any) -> Any:
    """Refuse a string in quotes or with control characters: the provider would answer `invalid_client`."""
    if isinstance(value, str) and len(value) > 1 and _QUOTED.fullmatch(value):
        raise ValueError("is in quotes, which would be part of it: remove them")
    if isinstance(value, str) and _CONTROL.search(value):
        raise ValueError("contains a line break or another control character")
    return value


def login_params(params: Mapping[str, str]) -> Mapping[str, str]:
    """Refuse parameters of the authorization request that the login flow sets itself."""
    _check_names(params, _FLOW_PARAMETERS | {"login_hint", "hint", "returnUrl"})
    if params.get("prompt") == "none":
        raise ValueError("prompt=none would make every login a silent one")
    return params


def login_params_allowed(names: Sequence[str]) -> Sequence[str]:
    """Refuse names that a login link must not decide, and those that it can decide in any case."""
    _check_names(names, _FLOW_PARAMETERS | _LOGIN_ROUTE_PARAMETERS)
    return names


def logout_params(params: Mapping[str, str]) -> Mapping[str, str]:
    """Refuse parameters that every end-session request has, and unknown placeholders in the values."""
    _check_names(params, _LOGOUT_PARAMETERS)
    found = {name for value in params.values() for name in re.findall(r"\{(.*?)\}", value)}
    if unknown := sorted(found - LOGOUT_PLACEHOLDERS):
        known = ", ".join(f"{{{name}}}" for name in sorted(LOGOUT_PLACEHOLDERS))
        raise ValueError(f"there is no placeholder {{{unknown[0]}}}; there are: {known}")
    return params


def _check_names(names: Iterable[str], reserved: Set[str]) -> None:
    for name in names:
        if not _PARAMETER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a parameter")
        if name.lower() in {each.lower() for each in reserved}:
            raise ValueError(f"{name} is set by the flow itself, and cannot be chosen here")


def split_commas(value: Any) -> Any:
    """Split a comma-separated string; return any other value unchanged."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def key_bytes(value: Any) -> bytes:
    """Return the 32 bytes of a base64 key; the error message never contains the value."""
    try:
        key = base64.b64decode(value, validate=True) if isinstance(value, str) else value
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError("each key must be the base64 of 32 bytes")
    return bytes(key)


def absolute(url: str) -> str:
    if not _is_absolute(url):
        raise ValueError("must be an absolute http(s) URL without user name, password or spaces")
    if not _URL.fullmatch(url) or _UNSAFE_IN_URLS.search(url):
        raise ValueError("must be ASCII: a host name as xn--…, other characters as %…")
    return url


def resource_uri(value: str) -> str:
    """Return a resource indicator (RFC 8707 §2): an absolute URI without fragment."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[^#\s]+", value):
        raise ValueError("a resource must be an absolute URI without a fragment")
    return value


def _is_absolute(url: str) -> bool:
    try:
        parts = urlsplit(url)
        reachable = parts.port != 0 and _is_host(parts.hostname or "", is_bracketed="[" in parts.netloc)
    except ValueError:  # such as a port that is no number; the message could contain a password
        return False
    clean = not ("@" in parts.netloc or re.search(r"[\s\\]|" + _CONTROL.pattern, url))
    return parts.scheme in ("http", "https") and reachable and clean


def _is_host(host: str, *, is_bracketed: bool) -> bool:
    """Whether it is a name or an address that can be connected to. Beyond ASCII no name is looked at."""
    if is_bracketed:
        return ipaddress.IPv6Address(host).scope_id is None
    if re.fullmatch(r"[0-9.]+", host):  # or else it raises ValueError
        return bool(ipaddress.IPv4Address(host))
    return bool(host) and (not host.isascii() or _HOST_NAME.fullmatch(host) is not None)


def require_https(url: str, *, debug: bool) -> str:
    """Refuse unencrypted http (RFC 9700 §2.6), except to this machine or with BFF_DEBUG."""
    if not is_confidential(url) and not debug:
        raise ValueError("must be https (http is allowed on this machine, and with BFF_DEBUG)")
    return url


def is_confidential(url: str) -> bool:
    """Whether the connection is confidential: https, or loopback."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def cookie_name(name: str) -> str:
    if not _COOKIE_NAME.fullmatch(name):
        raise ValueError("must be up to 64 letters, digits, dots, hyphens and underscores")
    if name.lower().startswith(("__host-", "__secure-")):  # browsers compare them so
        raise ValueError("has no prefix: __Host- is put before it on https")
    return name


def header_secret(secret: str) -> str:
    if secret and not _HEADER_SECRET.fullmatch(secret):
        raise ValueError("must be 32 printable ASCII characters or more: use `openssl rand -hex 32`")
    return secret
