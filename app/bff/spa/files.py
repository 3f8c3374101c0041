"""How a file of a build is named, sent and stored by caches. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote_to_bytes

IMMUTABLE = "public, max-age=31536000, immutable"  # a year
NO_CACHE = "no-cache"  # stored, and used after asking only
_PATH_MAX, _NAME_MAX = 4096, 255  # of Linux, in bytes
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f\\]")
# Digits alone are a version or a part of a name: `/orders/1.5` is a route of the app.
_EXTENSION = re.compile(r".\.(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,12}$")

# With `nosniff` a browser uses nothing whose type is wrong; the system's tables differ.
_TEXT = {
    "html": "text/html", "htm": "text/html", "js": "text/javascript", "mjs": "text/javascript",
    "cjs": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "txt": "text/plain",
    "md": "text/markdown", "xml": "application/xml", "csv": "text/csv", "vtt": "text/vtt",
}  # fmt: skip
_BINARY = {
    "json": "application/json", "map": "application/json", "webmanifest": "application/manifest+json",
    "wasm": "application/wasm", "woff2": "font/woff2", "woff": "font/woff", "ttf": "font/ttf",
    "otf": "font/otf", "eot": "application/vnd.ms-fontobject", "png": "image/png", "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif", "webp": "image/webp", "avif": "image/avif", "ico": "image/x-icon", "bmp": "image/bmp",
    "mp3": "audio/mpeg", "wav": "audio/wav", "ogg": "audio/ogg", "flac": "audio/flac", "m4a": "audio/mp4",
    "mp4": "video/mp4", "webm": "video/webm", "mov": "video/quicktime", "pdf": "application/pdf",
    "zip": "application/zip", "geojson": "application/geo+json", "jsonld": "application/ld+json",
    "gltf": "model/gltf+json", "glb": "model/gltf-binary",
}  # fmt: skip
CONTENT_TYPES = {**{name: f"{value}; charset=utf-8" for name, value in _TEXT.items()}, **_BINARY}

ENCODINGS = {"br": ".br", "gzip": ".gz"}  # preferred first, and what their files are named


def content_type(path: str) -> str:
    """Return the media type of a file, by its name."""
    return CONTENT_TYPES.get(path.rpartition(".")[2].lower(), "application/octet-stream")


def is_page(path: str) -> bool:
    """Whether a file is HTML, whose policy depends on what is in it."""
    return path.lower().endswith((".html", ".htm"))


def relative_path(path: str) -> str | None:
    """Return the path below the folder that a request path names, or None if no file of a build has it.

    That is what leads out of the folder, what another server might read differently, and dot files, but for
    those of `/.well-known/` (RFC 8615).
    """
    segments = path[1:].split("/")
    if not path.startswith("/") or len(path) > _PATH_MAX:
        return None
    try:
        names = [unquote_to_bytes(segment).decode() for segment in segments]
    except UnicodeDecodeError:
        return None
    if any(_UNUSABLE.search(name) or "/" in name or len(name.encode()) > _NAME_MAX for name in names):
        return None
    if any(not name for name in names[:-1]) or any(
        name.startswith(".") and (position, name) != (0, ".well-known") for position, name in enumerate(names)
    ):
        return None
    return "/".join(names)


def names_a_file(path: str) -> bool:
    """Whether the last segment of a decoded path has an extension, or is a name that only a file can have."""
    return path.startswith(".well-known/") or _EXTENSION.search(path.rpartition("/")[2]) is not None


def cache_control(path: str) -> str:
    """Return for how long a browser may use a file without asking, by its path."""
    return IMMUTABLE if has_content_hash(path) else NO_CACHE


# Content hashes. What looks like a word, a date, a version or a size is none: a file that is wrongly taken
# for one that never changes would be stale for a year, one that is not recognised costs a question.
_SUFFIXES = (
    r"(?:\.(?:chunk|bundle|min|module|async|lazy|worker))?(?:\.[a-z0-9]{1,12}){1,2}(?:\.LICENSE\.txt)?"
)
# webpack, Parcel, Rspack: `main.3f2a9c1d.js`, `787.28cb0dcd.chunk.css`, `6ce24c58023cc2f8fd88.svg`.
_HEX = re.compile(rf"(?:^|.*?[._-])([0-9a-f]{{8,64}}){_SUFFIXES}", re.DOTALL)
# Vite, Rollup: `index-BfN3kZ9x.js`; esbuild, Angular: `main-4K6QJ3XZ.js`; Astro: `page.BfN3kZ9x.css`.
_EIGHT = re.compile(rf".+[.-]([A-Za-z0-9_-]{{8}}){_SUFFIXES}", re.DOTALL)
_ONLY_EIGHT = re.compile(rf"([A-Za-z0-9_-]{{8}}){_SUFFIXES}", re.DOTALL)  # Nuxt: `_nuxt/BfN3kZ9x.js`
_HASHED_FOLDERS = ("_app/immutable/", "_next/static/chunks/")  # of SvelteKit, Next.js
_NAMED_BY_HASH = frozenset({"_nuxt", "chunks", "entry", "nodes"})
_CODE = frozenset({"js", "mjs", "css", "map"})
_WORD = re.compile(
    r"[A-Z]?[a-z]*[0-9]*|[A-Z]+|[A-Z]{2,}[0-9]{1,2}|[0-9]+x[0-9]+|[A-Za-z][a-z]{3}[A-Z][a-z]{3}"
)
_BASE32 = re.compile("[A-Z2-7]{8}")


def has_content_hash(path: str) -> bool:
    """Whether the name of a file has a hash of its content: Vite's, webpack's, Angular's, esbuild's …"""
    folder, _, name = path.rpartition("/")
    if is_page(path):
        return False
    if path.startswith(_HASHED_FOLDERS):
        return True
    if (found := _HEX.fullmatch(name)) and _is_hexadecimal_hash(found[1], alone=found.start(1) == 0):
        return True
    shape = _ONLY_EIGHT if folder.rpartition("/")[2] in _NAMED_BY_HASH and name.count(".") else _EIGHT
    found = _EIGHT.fullmatch(name) or shape.fullmatch(name)
    return found is not None and _is_base64_hash(found[1], is_code=path.rpartition(".")[2] in _CODE)


def _is_hexadecimal_hash(token: str, *, alone: bool) -> bool:
    is_mixed = re.search("[0-9]", token) is not None and re.search("[a-f]", token) is not None
    return is_mixed and (len(token) >= 16 if alone else True)


def _is_base64_hash(token: str, *, is_code: bool) -> bool:
    if is_code and _BASE32.fullmatch(token):
        return not token.isdigit()
    return not all(_WORD.fullmatch(part) for part in re.split("[_-]", token))


# Encodings.

_ELEMENT = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:;\s*[Qq]\s*=\s*([01](?:\.[0-9]{0,3})?)\s*)?")


def best_encoding(accept: str, available: Collection[str]) -> str:
    """Return which of the `available` encodings to send, "" for none (RFC 9110 §12.5.3).

    Of those that a browser likes equally, the first of ENCODINGS is the smallest.
    """
    weights: dict[str, float] = {}
    for element in accept.split(","):
        if found := _ELEMENT.fullmatch(element):
            weights.setdefault(found[1].lower().replace("x-gzip", "gzip"), float(found[2] or 1))
    others = weights.get("*", 0.0)
    candidates = {name: weights.get(name, others) for name in ENCODINGS if name in available}
    best = max(candidates, key=lambda name: candidates[name], default="")
    plain = weights.get("identity", weights["*"] if weights.get("*") else 0.0)
    return best if best and candidates[best] > 0 and candidates[best] >= plain else ""
