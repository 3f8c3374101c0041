"""Content-Security-Policies: what is added to one never takes anything away. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

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
    """Whether the policy allows `source`: a keyword, a hash, or the URL or scheme of something foreign."""
    allowed = {each.lower() if each[:1] != "'" else each for each in effective(directives, name)}
    if source.startswith("'"):
        return source in allowed or (source.startswith("'sha") and UNSAFE_INLINE in allowed)
    scheme, _, rest = source.partition("://")
    host = rest.partition("/")[0].lower()
    spellings = {source.lower(), f"{scheme}:", "*", host, f"{scheme}://{host}", f"{scheme}://{host}/"}
    below = any(source.lower().startswith(each) for each in allowed if "://" in each and each.endswith("/"))
    parents = {f"{start}*.{parent}" for parent in _parents(host) for start in ("", f"{scheme}://")}
    return bool(allowed & (spellings | parents)) or below


def _parents(host: str) -> list[str]:
    labels = host.split(".")
    return [".".join(labels[number:]) for number in range(1, len(labels))]
