"""The one reader of cookies; names and attributes of the session, login and logout cookies."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from http.cookies import SimpleCookie
from typing import Any

MAX_LOGIN_ATTEMPTS = 5
MAX_COOKIE_BYTES = (
    4_080  # of all cookies of this site that are ours, as the browser sends them: servers allow 8 KB
)
SESSION_ID_LENGTH = 43  # characters: 32 bytes in base64url
_WHITESPACE = " \t"  # what RFC 6265 §5.2 strips, and no other byte
_LOGIN_SUFFIX = re.compile("[0-9a-f]{1,16}-[0-9a-f]{16}")


def read_cookies(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the cookies of a request, names to values, verbatim. No other code reads a cookie.

    The header is split as browsers write it (RFC 6265 §5.4). Names are compared byte by byte: a parser that
    strips more than space and tab takes a sibling host's `\\xa0__Host-bff` for `__Host-bff`, whose prefix the
    browser has not checked. A name that is there twice is no cookie: one of the two was planted.
    """
    cookies: dict[str, str] = {}
    repeated = set()
    for pair in headers.get("Cookie", "").split(";"):
        name, equals, value = pair.partition("=")
        if equals:
            name = name.strip(_WHITESPACE)
            if name in cookies:
                repeated.add(name)
            cookies[name] = value.strip(_WHITESPACE)
    return {name: value for name, value in cookies.items() if name not in repeated}


def unquoted(value: str) -> str:
    """Return the value that Tornado's `set_cookie` was given: it quotes special characters."""
    return str(SimpleCookie().value_decode(value)[0])


@dataclass(frozen=True)
class CookiePolicy:
    """Names and attributes of the cookies of this site.

    All begin with `name`: browsers send cookies to every application of a host, whatever its port. On https
    they have the prefix `__Host-`: a browser refuses such a cookie if it is not `Secure`, has a `Domain`,
    or comes from a sibling site (RFC 10017 §6.1.3.2).
    """

    https: bool
    samesite: str
    callback_is_posted: bool = False  # BFF_RESPONSE_MODE=form_post
    name: str = "bff"

    @cached_property
    def session_name(self) -> str:
        return self._prefixed(self.name)

    @cached_property
    def logout_name(self) -> str:
        return self._prefixed(f"{self.name}-logout")

    def login_name(self, state: str, created_at: float) -> str:
        """Return the name for one login attempt: several tabs may sign in concurrently."""
        return f"{self._login_prefix}{int(created_at):x}-{_digest(state)}"

    def login_name_of(self, state: str, names: Iterable[str]) -> str | None:
        """Return the cookie among `names` that belongs to `state`, if it is there."""
        digest = _digest(state)
        return next((name for name in self._login_names(names) if name.endswith(f"-{digest}")), None)

    def excess_attempts(self, cookies: Mapping[str, str], name: str = "", value: str = "") -> list[str]:
        """Return the oldest attempts of `cookies`, to be deleted so that the rest with this one is small.

        A session cookie counts in any case: a request that another site has started may lack it.
        """
        others = {each: len(value) for each, value in cookies.items() if each != name}
        attempts = self._login_names(others)
        fixed = {self.session_name: SESSION_ID_LENGTH, self.logout_name: others.get(self.logout_name, 0)}
        sizes = fixed | {each: others[each] for each in attempts} | ({name: len(value)} if name else {})
        allowed = MAX_LOGIN_ATTEMPTS - self.is_login_name(name)
        excess = []
        while attempts and (len(attempts) > allowed or _bytes(sizes) > MAX_COOKIE_BYTES):
            excess.append(attempts.pop(0))
            del sizes[excess[-1]]
        return excess

    @cached_property
    def session_attributes(self) -> dict[str, Any]:
        return {**self._shared(), "samesite": self.samesite.capitalize()}

    @cached_property
    def login_cookie_attributes(self) -> dict[str, Any]:
        """For cookies that the callback needs: the provider makes that a cross-site navigation.

        Lax is enough for a GET. A POST needs None, which must be Secure; browsers accept that on
        http://localhost too.
        """
        if self.callback_is_posted:
            return {**self._shared(), "secure": True, "samesite": "None"}
        return {**self._shared(), "samesite": "Lax"}

    def _shared(self) -> dict[str, Any]:
        return {"path": "/", "httponly": True, "secure": self.https}

    def _prefixed(self, name: str) -> str:
        return f"__Host-{name}" if self.https else name

    @cached_property
    def _login_prefix(self) -> str:
        return self._prefixed(f"{self.name}-login-")

    def _login_names(self, names: Iterable[str]) -> list[str]:
        return sorted(name for name in names if self.is_login_name(name))

    def is_login_name(self, name: str) -> bool:
        """Whether it is the name of a login attempt's cookie."""
        prefix, suffix = name[: len(self._login_prefix)], name[len(self._login_prefix) :]
        return prefix == self._login_prefix and _LOGIN_SUFFIX.fullmatch(suffix) is not None


def _bytes(sizes: Mapping[str, int]) -> int:
    """The length of a Cookie header (RFC 6265 §4.2.1) whose values have these lengths."""
    return sum(len(f"{name}=; ") + size for name, size in sizes.items())


def _digest(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()[:16]
