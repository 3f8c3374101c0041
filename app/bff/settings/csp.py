"""BFF_CSP: which sources may be added to our Content-Security-Policy (CSP Level 3). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from app.bff.settings.validators import is_loopback

UNSAFE = "unsafe-"  # before the name of a directive: its sources may let any script in
_SOURCES = frozenset({
    "base-uri", "child-src", "connect-src", "default-src", "font-src", "form-action", "frame-src", "img-src",
    "manifest-src", "media-src", "object-src", "script-src", "script-src-attr", "script-src-elem",
    "style-src", "style-src-attr", "style-src-elem", "worker-src",
})  # fmt: skip
_TOKENS = frozenset({"report-to", "report-uri", "require-trusted-types-for", "trusted-types"})
_WITHOUT_VALUE = frozenset({"upgrade-insecure-requests"})
# What these name can run scripts here, or decide where scripts come from.
_RUN_SCRIPTS = frozenset({
    "base-uri", "child-src", "default-src", "object-src", "script-src", "script-src-attr", "script-src-elem",
    "worker-src",
})  # fmt: skip
_KEYWORDS = frozenset({
    "self", "unsafe-inline", "unsafe-eval", "unsafe-hashes", "wasm-unsafe-eval", "strict-dynamic",
    "report-sample", "inline-speculation-rules",
})  # fmt: skip
_HARMLESS_KEYWORDS = _KEYWORDS - {"unsafe-inline", "unsafe-eval", "strict-dynamic"}
_HASH = re.compile(r"'sha(?:256|384|512)-[A-Za-z0-9+/_-]+={0,2}'")
_NONCE = re.compile(r"'nonce-[A-Za-z0-9+/_-]+={0,2}'")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:")
_LABELS = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
HOST_SOURCE = re.compile(
    rf"(?:(?P<scheme>https?|wss?)://)?(?P<host>\*|(?:\*\.)?{_LABELS}|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]+|\*))?(?P<path>/[!-~]*)?"
)
_TOKEN = re.compile(r"[!-~]+")


def csp_additions(value: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the sources to add, by directive; raises ValueError for what would let scripts in.

    Nothing is refused in a directive that is written `unsafe-script-src`: the name says what it does.
    """
    added: dict[str, tuple[str, ...]] = {}
    for name, sources in value.items():
        directive = name.strip().lower()
        is_unsafe = directive.startswith(UNSAFE)
        directive = directive.removeprefix(UNSAFE)
        checked = tuple(_checked(directive, source.strip(), is_unsafe=is_unsafe) for source in sources)
        if directive not in _WITHOUT_VALUE and not checked:
            raise ValueError(f"{name} has no sources")
        added[directive] = added.get(directive, ()) + checked
    return added


def _checked(directive: str, source: str, *, is_unsafe: bool) -> str:
    if directive == "frame-ancestors":
        raise ValueError("frame-ancestors is decided by framed_by_same_site of a handler")
    if directive not in _SOURCES | _TOKENS:
        raise ValueError(f"{directive} is no directive that can be added to")
    if not _TOKEN.fullmatch(source) or set(source) & set(";,"):
        raise ValueError(f"{directive}: {source!r} is not one source")
    if directive in _TOKENS:
        return source
    if not is_source(source.lower()):
        raise ValueError(f"{directive}: {source} {_why_no_source(source)}")
    if directive in _RUN_SCRIPTS and not is_unsafe and _lets_scripts_in(directive, source.lower()):
        raise ValueError(
            f"{directive}: {source} would let any script in; if it must, write {UNSAFE}{directive}"
        )
    return source


def is_source(source: str) -> bool:
    """Whether it is a source expression (CSP Level 3 §2.3.1), in lower case, and adds something."""
    if source.startswith("'"):
        known = source[1:-1] in _KEYWORDS and source.endswith("'")
        return known or bool(_HASH.fullmatch(source) or _NONCE.fullmatch(source))
    return bool(
        _SCHEME.fullmatch(source) or (HOST_SOURCE.fullmatch(source) and source not in _KEYWORDS | {"none"})
    )


def _why_no_source(source: str) -> str:
    bare = source.lower().strip("'\"")
    if bare == "none":
        return "would add nothing: sources can be added only"
    if bare in _KEYWORDS or bare.startswith(("sha256-", "sha384-", "sha512-", "nonce-")):
        return f"is written in single quotes: '{bare}'"
    return "is no source: a keyword in single quotes, a hash, a scheme such as data:, or an origin"


def _lets_scripts_in(directive: str, source: str) -> bool:
    """Whether somebody else than the owner of a named host decides which scripts that are."""
    if source.startswith("'"):
        return source[1:-1] not in _HARMLESS_KEYWORDS and not _HASH.fullmatch(source)
    if _SCHEME.fullmatch(source):
        return not (
            directive in ("child-src", "worker-src") and source == "blob:"
        )  # only a script makes such a URL
    found = HOST_SOURCE.fullmatch(source)
    assert found  # see `is_source`
    host = found["host"]
    in_the_clear = found["scheme"] in ("http", "ws") and not is_loopback(
        urlsplit(f"http://{host}").hostname or ""
    )
    return "*" in host or in_the_clear
