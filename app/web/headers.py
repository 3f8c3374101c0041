"""The headers that every response of ours carries."""

from __future__ import annotations

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Nobody but us sets these; how long something may be kept, an API may say of its own answers.
SECURITY_HEADERS = frozenset(
    name.lower() for name in (*_ALWAYS, "Content-Security-Policy", "Strict-Transport-Security")
) - {"cache-control"}
_TWO_YEARS = 2 * 365 * 24 * 3600  # in seconds


def security_headers(*, nonce: str | None, https: bool) -> dict[str, str]:
    """Return the headers for one response; only a script with `nonce` runs on its page."""
    scripts = "'none'" if nonce is None else f"'nonce-{nonce}'"
    headers = {**_ALWAYS, "Content-Security-Policy": _POLICY.format(scripts=scripts)}
    if https:
        headers["Strict-Transport-Security"] = f"max-age={_TWO_YEARS}"
    return headers
