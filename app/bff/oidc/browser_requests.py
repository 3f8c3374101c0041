"""Requests to the provider that the browser carries: their URLs and forms. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote_plus, urlencode

_MAX_URL = 2000  # longer ones are truncated or refused by proxies


@dataclass(frozen=True)
class LogoutRequest:
    """The end-session request, which a provider takes by GET and by POST (RP-Initiated Logout 1.0 §2)."""

    endpoint: str
    params: Mapping[str, str]
    id_token_hint: str | None = field(default=None, repr=False)

    @property
    def url(self) -> str | None:
        """The request as a URL; None if it is too long for one, as with an ID token full of groups."""
        url = with_query(self.endpoint, urlencode(self.form))
        return url if len(url) <= _MAX_URL else None

    @property
    def unhinted_url(self) -> str:
        return with_query(self.endpoint, urlencode(self.params))

    @property
    def form(self) -> dict[str, str]:
        hint = {"id_token_hint": self.id_token_hint} if self.id_token_hint else {}
        return {**self.params, **hint}

    @property
    def action(self) -> str:
        """The URL that the form is posted to: no parameter is sent twice."""
        return _without(self.endpoint, self.form)


def with_query(url: str, query: str) -> str:
    """Add a query to an endpoint, whose own stays (RFC 6749 §3.1) but for parameters that are in both."""
    own = _without(url, [name for name, _ in parse_qsl(query)])
    return f"{own}{'&' if '?' in own else '?'}{query}"


def _without(url: str, names: Iterable[str]) -> str:
    """Remove these parameters from the query of an endpoint."""
    base, _, own = url.partition("?")
    removed = set(names)
    kept = [pair for pair in own.split("&") if pair and unquote_plus(pair.partition("=")[0]) not in removed]
    return f"{base}?{'&'.join(kept)}" if kept else base
