"""The security headers of every response."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from urllib.parse import urlsplit

from app.bff.web.csp import widened

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin-allow-popups",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action {forms}; base-uri 'none'; {frames}frame-ancestors {ancestors}"
)
# Removed from the responses of APIs; Cache-Control is not, an API may set its own.
SECURITY_HEADERS = frozenset(
    name.lower() for name in (*_ALWAYS, "Content-Security-Policy", "Strict-Transport-Security")
) - {"cache-control"}
_DISPOSITION_TYPE = re.compile(r"^[^;]*")
_TWO_YEARS = 2 * 365 * 24 * 3600  # in seconds


def security_headers(
    *,
    nonce: str | None,
    https: bool,
    login_page: str | None = None,
    framed_by_same_site: bool = False,
    framed_by: Collection[str] = (),
    keeps_opener: bool = False,
    posts_to: str | None = None,
    added: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, str]:
    """Return the headers for one response; only a script with `nonce` runs on its page.

    `frame-src` allows this site and the origin of `login_page`, which a silent login navigates through.
    With `framed_by_same_site` this site may frame the response, and so may the origins `framed_by`. With
    `keeps_opener` there is no Cross-Origin-Opener-Policy: a popup that shows the response, or is redirected
    by it, and the page that has opened it stay connected (`window.opener`, `closed`), also by way of the
    provider.

    With `posts_to`, a URL, the page has a form for that origin with what no script may read: a window that
    has opened it, or was opened by it, has no access. Chromium applies `form-action` to redirects of the
    response, too, and a provider may redirect to one behind it first: so any https is allowed.

    `added` are sources for the Content-Security-Policy, by directive (BFF_CSP).
    """
    policy = _POLICY.format(
        scripts="'none'" if nonce is None else f"'nonce-{nonce}'",
        forms=f"'self' {_origin(posts_to)} https:" if posts_to else "'self'",
        frames=f"frame-src 'self' {_origin(login_page)}; " if login_page else "",
        ancestors=" ".join(["'self'", *framed_by]) if framed_by_same_site else "'none'",
    )
    headers = {**_ALWAYS, "Content-Security-Policy": widened(policy, added) if added else policy}
    if framed_by_same_site and framed_by:
        del headers["X-Frame-Options"]  # cannot name an origin
    elif framed_by_same_site:
        headers["X-Frame-Options"] = "SAMEORIGIN"
    if keeps_opener:
        del headers["Cross-Origin-Opener-Policy"]
    if posts_to:
        # strict-origin: with less the form would be sent with `Origin: null`.
        headers |= {"Cross-Origin-Opener-Policy": "same-origin", "Referrer-Policy": "strict-origin"}
    if https:
        headers["Strict-Transport-Security"] = f"max-age={_TWO_YEARS}"
    return headers


def as_a_file(headers: list[tuple[str, str]], status: int) -> list[tuple[str, str]]:
    """Return an API's headers so that a navigation saves the response instead of showing a page of ours.

    An error, which it shows, runs no script and sends no form: it has no origin (`sandbox`).
    """
    policy = security_headers(nonce=None, https=True)["Content-Security-Policy"]
    kept = [(name, value) for name, value in headers if name.lower() != "content-disposition"]
    if 200 <= status < 300:
        given = next((value for name, value in headers if name.lower() == "content-disposition"), "")
        kept.append(("Content-Disposition", _DISPOSITION_TYPE.sub("attachment", given, count=1)))
    return [*kept, ("Content-Security-Policy", f"{policy}; sandbox")]


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
