"""Content-Security-Policies: what is added to one never takes anything away. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from app.bff.settings.csp import HOST_SOURCE

Sources = Mapping[str, Sequence[str]]  # by directive

UNSAFE_INLINE = "'unsafe-inline'"
_FALLBACKS = {
    "script-src-elem": ("script-src",),
    "script-src-attr": ("script-src",),
    "style-src-elem": ("style-src",),
    "style-src-attr": ("style-src",),
    "worker-src": ("child-src", "script-src"),
    "frame-src": ("child-src",),
}
_HASH_OR_NONCE = re.compile(r"'(?:nonce|sha(?:256|384|512))-", re.IGNORECASE)
_NONCE = re.compile(r"'nonce-", re.IGNORECASE)


def parsed(policy: str) -> dict[str, list[str]]:
    """Return the sources of a policy by directive; of a repeated directive the first counts (CSP3 §2.2.1)."""
    directives: dict[str, list[str]] = {}
    for directive in policy.split(";"):
        name, *sources = directive.split() or [""]
        if name:
            directives.setdefault(name.lower(), sources)
    return directives


def widened(policy: str, added: Sources) -> str:
    """Return `policy` with the sources of `added`: what it allowed stays allowed.

    A directive that it lacks begins with the sources of the one that browsers fall back to (CSP3 §6.8.3).
    """
    directives = parsed(policy)
    for name in sorted(added, key=lambda name: (name != "default-src", name)):
        sources = [*effective(directives, name), *added[name]]
        directives[name] = _consistent(list(dict.fromkeys(sources)))
    return "; ".join(" ".join([name, *sources]) for name, sources in directives.items())


def effective(directives: Sources, name: str) -> Sequence[str]:
    """Return the sources that decide about `name`: its own, or those of what it falls back to."""
    fallback = (*_FALLBACKS.get(name, ()), "default-src") if name.endswith(("-src", "-elem", "-attr")) else ()
    return next((directives[each] for each in (name, *fallback) if each in directives), [])


def _consistent(sources: list[str]) -> list[str]:
    """`'none'` counts alone only, and `'unsafe-inline'` without hashes and nonces only (CSP3 §6.7.3.2)."""
    others = [source for source in sources if source.lower() != "'none'"]
    if UNSAFE_INLINE not in map(str.lower, others):
        return others or sources
    own = ["'self'"] if any(map(_NONCE.match, others)) and "'self'" not in others else []
    return [*own, *(source for source in others if not _HASH_OR_NONCE.match(source))]


def is_allowed(directives: Sources, name: str, source: str) -> bool:
    """Whether the policy allows `source`: a keyword, a hash, a scheme such as `data:`, or an http(s) URL."""
    allowed = effective(directives, name)
    if source.startswith("'"):
        return source in allowed or (source.startswith("'sha") and UNSAFE_INLINE in allowed)
    if "://" not in source:
        return source in allowed
    return any(_matches(each, source) for each in allowed)


def _matches(allowed: str, url: str) -> bool:
    """Whether a source expression matches a URL of another origin (CSP Level 3 §6.7.2.8)."""
    parts = urlsplit(url)
    if allowed in ("*", f"{parts.scheme}:"):
        return True
    source = HOST_SOURCE.fullmatch(allowed.lower())
    if source is None or source["scheme"] not in (None, parts.scheme):
        return False
    host, path = source["host"], allowed[source.start("path") :] if source["path"] else ""
    is_host = parts.hostname == host or (host[:2] == "*." and (parts.hostname or "").endswith(host[1:]))
    is_path = parts.path.startswith(path) if path[-1:] in ("", "/") else parts.path == path
    return is_host and is_path and source["port"] in ("*", str(parts.port) if parts.port else None)
