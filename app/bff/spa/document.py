"""What an HTML file needs from its Content-Security-Policy: hashes, and what these cannot cover. Pure."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlsplit

from app.bff.web.csp import widened

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "font-src 'self' data:; media-src 'self' data: blob:; connect-src 'self'; "
    "manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri {base}; "
    "frame-src 'self'{frames}; frame-ancestors 'none'"
)
# https://html.spec.whatwg.org/#prepare-the-script-element: with another type it does not run.
_SCRIPT_TYPES = {"", "module", "importmap", "speculationrules"}
_JAVASCRIPT = re.compile(
    r"(?:text|application)/(?:x-)?(?:java|ecma)script|text/(?:livescript|jscript)|text/javascript1\.[0-5]"
)
_LINKS = {
    "stylesheet": "style-src", "modulepreload": "script-src", "manifest": "manifest-src",
    "icon": "img-src", "apple-touch-icon": "img-src",
}  # fmt: skip
_PRELOADS = {
    "script": "script-src", "style": "style-src", "font": "font-src", "image": "img-src",
    "fetch": "connect-src", "worker": "worker-src", "video": "media-src", "audio": "media-src",
    "track": "media-src",
}  # fmt: skip
_LOADED_BY = {
    ("script", "src"): "script-src", ("img", "src"): "img-src", ("iframe", "src"): "frame-src",
    ("video", "src"): "media-src", ("video", "poster"): "img-src", ("audio", "src"): "media-src",
    ("source", "src"): "media-src", ("track", "src"): "media-src", ("embed", "src"): "object-src",
    ("object", "data"): "object-src", ("form", "action"): "form-action",
}  # fmt: skip


@dataclass(frozen=True)
class Need:
    """What a build needs beyond its policy: `source` in `directive`; `what` says where it comes from.

    `url` is what is loaded, if it is something foreign: a policy may allow a part of its origin.
    """

    what: str
    directive: str
    source: str
    url: str = ""


@dataclass
class Document:
    """One HTML file, as far as a Content-Security-Policy is concerned."""

    scripts: list[str] = field(default_factory=list)  # hashes, of inline scripts and import maps too
    styles: list[str] = field(default_factory=list)
    code: str = ""  # of the inline scripts
    base: str | None = None
    local: list[str] = field(default_factory=list)  # URLs of its scripts and styles on this site
    needs: list[Need] = field(default_factory=list)

    def policy(self, login_page: str | None) -> str:
        """Return the policy with exactly the inline scripts and styles of the document.

        A frame may show this site and the origin of `login_page`, which a silent login navigates through.
        """
        return _policy(tuple(self.scripts), tuple(self.styles), self.base is not None, login_page)


@functools.lru_cache(maxsize=256)
def _policy(scripts: tuple[str, ...], styles: tuple[str, ...], has_base: bool, login_page: str | None) -> str:
    parts = urlsplit(login_page or "")
    frames = f" {parts.scheme}://{parts.netloc}" if login_page else ""
    policy = _POLICY.format(base="'self'" if has_base else "'none'", frames=frames)
    hashes = {"script-src": scripts, "style-src": styles}
    return widened(policy, {name: sources for name, sources in hashes.items() if sources})


def read_document(html: str) -> Document:
    """Return the hashes of inline scripts, styles and import maps, and what no hash covers."""
    reader = _Reader()
    reader.feed(html.replace("\r\n", "\n").replace("\r", "\n"))  # as browsers do before they hash
    reader.close()
    return reader.document


def hash_of(text: str) -> str:
    """Return the source expression for an inline script or style (CSP Level 3 §2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def is_foreign(url: str) -> bool:
    """Whether a URL names another host. What has another scheme, such as `data:`, is none."""
    return re.match(r"\s*(?:https?:)?[/\\]{2}", url, re.IGNORECASE) is not None


def origin_of(url: str) -> str:
    parts = urlsplit(absolute_url(url))
    return f"{parts.scheme}://{parts.netloc}"


def absolute_url(url: str) -> str:
    """Return a foreign URL with a scheme, as a browser reads it on a page of an https site."""
    parts = urlsplit(re.sub(r"[\t\n\r]", "", url.strip()).replace("\\", "/"))
    return parts._replace(scheme=parts.scheme or "https").geturl()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.document = Document()
        self._inline: list[str] | None = None  # of a script or style element that is being read
        self._inert = 0  # in how many <noscript> elements

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in reversed(attrs)}  # of a repeated one the first counts
        if tag == "noscript":
            self._inert += 1
        if tag == "style":  # in <noscript> it is for browsers whose scripts are off
            self._inline = []
        if self._inert:
            return
        if tag == "script" and "src" not in given and _runs(given.get("type", "")):
            self._inline = []
        if tag == "base" and self.document.base is None and "href" in given:
            self.document.base = given["href"]
            if is_foreign(given["href"]):
                self._needs(f"<base href={given['href']!r}>", "base-uri", origin_of(given["href"]))
        self._attributes(given)
        self._loads(tag, given)

    def handle_endtag(self, tag: str) -> None:
        if tag == "noscript":
            self._inert = max(0, self._inert - 1)
        if tag in ("script", "style") and self._inline is not None:
            hashes = self.document.scripts if tag == "script" else self.document.styles
            text = "".join(self._inline)
            hashes.append(hash_of(text))
            self.document.code += f"{text}\n" if tag == "script" else ""
            self._inline = None

    def handle_data(self, data: str) -> None:
        if self._inline is not None:
            self._inline.append(data)

    def _attributes(self, given: dict[str, str]) -> None:
        for name, value in given.items():
            if re.fullmatch("on[a-z]+", name):
                self._needs(f"the event handler {name}={value[:60]!r}", "script-src-attr", hash_of(value))
            elif name == "style":
                self._needs(f"the attribute style={value[:60]!r}", "style-src-attr", hash_of(value))
            elif name in ("href", "src", "action", "formaction") and _is_javascript(value):
                self._needs(f"the URL {value[:60]!r}", "script-src", "'unsafe-inline'")

    def _loads(self, tag: str, given: dict[str, str]) -> None:
        urls = [
            (given[name], directive)
            for (of, name), directive in _LOADED_BY.items()
            if of == tag and name in given
        ]
        if tag == "link" and "href" in given:
            kinds = given.get("rel", "").lower().split()
            urls += [(given["href"], _LINKS[kind]) for kind in kinds if kind in _LINKS]
            if "preload" in kinds and given.get("as", "").lower() in _PRELOADS:
                urls.append((given["href"], _PRELOADS[given["as"].lower()]))
        if tag in ("img", "source"):
            candidates = (each.split() for each in given.get("srcset", "").split(","))
            urls += [(each[0], "img-src") for each in candidates if each]
        for url, directive in urls:
            if is_foreign(url):
                self._needs(f"<{tag}> with {url[:200]}", directive, origin_of(url), url)
            elif directive in ("script-src", "style-src") and not re.match(
                r"\s*[a-z][a-z0-9+.-]*:", url, re.I
            ):
                self.document.local.append(url)

    def _needs(self, what: str, directive: str, source: str, url: str = "") -> None:
        self.document.needs.append(Need(what, directive, source, absolute_url(url) if url else ""))


def _runs(kind: str) -> bool:
    low = kind.strip().lower()
    return low in _SCRIPT_TYPES or _JAVASCRIPT.fullmatch(low) is not None


def _is_javascript(url: str) -> bool:
    return re.match(r"[\x00-\x20]*j\s*a\s*v\s*a\s*s\s*c\s*r\s*i\s*p\s*t\s*:", url, re.IGNORECASE) is not None
