"""Finds in a build what its Content-Security-Policy would block, and what no file is there for. Pure."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from app.bff.settings.csp import UNSAFE, csp_additions
from app.bff.spa.document import Document, Need, absolute_url, is_foreign, origin_of, read_document
from app.bff.spa.files import is_page
from app.bff.web.csp import Sources, is_allowed, parsed, widened

_DEEP = "https://app.invalid/a/deep/link"  # where a navigation may have begun
# Without those by which libraries find the global object, or Node, if nothing else does.
_EVAL = re.compile(
    r"""(?<![\w$.])(?:eval\s*\(|\(0,\s*eval\)\s*\(|"""
    r"""(?:new\s+)?Function\s*\((?!\s*["'`]return (?:this|require)))"""
)
_DATA_IMPORT = re.compile(r"""(?<![\w$.])(?:import|from)\s*\(?\s*["']data:""")
_BLOB_WORKER = re.compile(r"new\s+(?:Shared)?Worker\s*\([^;]{0,120}?createObjectURL")
_CSS_IMPORT = re.compile(r"""@import\s+(?:url\(\s*)?["']?([^"')\s;]+)""", re.IGNORECASE)
_CSS_URL = re.compile(r"""url\(\s*["']?([^"')\s]+)""", re.IGNORECASE)
_FONT_FACE = re.compile(r"@font-face\s*\{[^}]*\}", re.IGNORECASE)
# By what their code is recognised: their styles come in elements that scripts insert, without a hash.
_STYLE_ELEMENTS = {
    "ng-app-id": "Angular",
    "data-emotion": "Emotion",
    "data-styled": "styled-components",
    "_goober": "goober",
    "find a style target": "style-loader",
    "rc-util-key": "Ant Design",
    "vuetify-theme-stylesheet": "Vuetify",
    "data-primevue-style-id": "PrimeVue",
}
_CRITICAL_CSS = "or set `inlineCritical` of `optimization.styles` to false in angular.json"
_GOOGLE_FONTS = ("https://fonts.googleapis.com", "https://fonts.gstatic.com")


@dataclass(frozen=True)
class Problem:
    """Something in a file of the build that will not work, and what to change."""

    file: str
    what: str
    advice: str


def problems_of(texts: Mapping[str, str], names: Collection[str], added: Sources) -> list[Problem]:
    """Return what does not work in the files of a build; `added` are the sources of BFF_CSP.

    `texts` are the contents of its HTML, CSS and JavaScript files, `names` those of all files. Scripts are
    searched for what is likely, not understood.
    """
    found: list[Problem] = []
    for name, text in sorted(texts.items()):
        document = read_document(text) if is_page(name) else Document()
        policy = parsed(widened(document.policy(None), added))
        needs = [*document.needs, *_needs_of_file(name, text, document)]
        found += [_problem(name, need) for need in dict.fromkeys(needs) if not _is_met(need, policy)]
        found += [_missing(name, url) for url in document.local if not _is_there(url, document, names)]
    if any(name.endswith(".wasm") for name in names):
        need = Need("WebAssembly", "script-src", "'wasm-unsafe-eval'")
        if not _is_met(need, parsed(widened(Document().policy(None), added))):
            found.append(_problem(next(name for name in names if name.endswith(".wasm")), need))
    return found


def _needs_of_file(name: str, text: str, document: Document) -> Iterator[Need]:
    if is_page(name):
        yield from _needs_of_script(document.code)
    elif name.endswith((".js", ".mjs")):
        yield from _needs_of_script(text)
    elif name.endswith(".css"):
        yield from _needs_of_styles(text)


def _needs_of_script(text: str) -> Iterator[Need]:
    if found := _EVAL.search(text):
        yield Need(f"{found[0].strip()}…) runs text as code", "script-src", "'unsafe-eval'")
    if _DATA_IMPORT.search(text):
        yield Need("a module is imported from a data: URL", "script-src", "data:")
    if _BLOB_WORKER.search(text):
        yield Need("a worker from a blob: URL", "worker-src", "blob:")
    for mark, library in _STYLE_ELEMENTS.items():
        if mark in text:
            yield Need(f"{library} inserts style elements", "style-src", "'unsafe-inline'")


def _needs_of_styles(text: str) -> Iterator[Need]:
    faces = "".join(_FONT_FACE.findall(text))
    others = _CSS_IMPORT.sub("", _FONT_FACE.sub("", text))
    for directive, urls in {
        "style-src": _CSS_IMPORT.findall(text),
        "font-src": _CSS_URL.findall(faces),
        "img-src": _CSS_URL.findall(others),
    }.items():
        yield from (_foreign(url, directive) for url in urls if is_foreign(url))


def _foreign(url: str, directive: str) -> Need:
    return Need(url[:200], directive, origin_of(url), absolute_url(url))


def _is_met(need: Need, policy: Sources) -> bool:
    if need.directive.endswith("-attr") and need.source.startswith("'sha"):
        if is_allowed(policy, need.directive, "'unsafe-inline'"):
            return True
        return all(is_allowed(policy, need.directive, source) for source in _sources(need))
    return is_allowed(policy, need.directive, need.url or need.source)


def _sources(need: Need) -> list[str]:
    """A hash of an attribute counts with `'unsafe-hashes'` only (CSP Level 3 §6.7.3.3)."""
    is_attribute = need.directive.endswith("-attr") and need.source.startswith("'sha")
    return [*(["'unsafe-hashes'"] if is_attribute else []), need.source]


def _problem(name: str, need: Need) -> Problem:
    directives: dict[str, Sequence[str]] = {need.directive: _sources(need)}
    try:
        csp_additions(directives)
    except ValueError:
        directives = {UNSAFE + need.directive: _sources(need)}
    if need.directive == "style-src" and need.source == _GOOGLE_FONTS[0]:
        directives["font-src"] = [_GOOGLE_FONTS[1]]
    others = f", {_CRITICAL_CSS}" if "this.media=" in need.what else ""
    return Problem(name, need.what, f"remove it, or add to BFF_CSP: {json.dumps(directives)}{others}")


def _missing(name: str, url: str) -> Problem:
    advice = "let `base` (Vite), `publicPath` (webpack) or `baseHref` (Angular) be `/`, or add the file"
    return Problem(name, f"a page below the root finds no file at {url}", advice)


def _is_there(url: str, document: Document, names: Collection[str]) -> bool:
    """Whether a deep link finds the file that a document names."""
    path = urlsplit(urljoin(urljoin(_DEEP, document.base or ""), url)).path
    return posixpath.normpath(path).lstrip("/") in names or path.startswith(("/static/", "/bff/"))
