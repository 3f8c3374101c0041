"""Reads the folder of a build: files that lie in it, and its HTML files with their policies."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from app.bff.spa.document import Document, read_document
from app.bff.spa.files import ENCODINGS, best_encoding, is_page, relative_path
from app.bff.web.conditional import Validators

INDEX = "index.html"
_MOST_FILES, _MOST_BYTES = 10_000, 10_000_000  # that are examined
_MOST_PAGES = 1_000  # that are kept
_Version = tuple[int, int, int]  # of a file: when it was modified in nanoseconds, its size, its inode


@dataclass(frozen=True)
class OpenFile:
    """A file of the build that is open for reading; `encoding` is that of its bytes, "" for none."""

    file: BinaryIO
    size: int
    validators: Validators
    encoding: str
    version: _Version


@dataclass(frozen=True)
class Page:
    """An HTML file of the build, as it was when it was read."""

    body: bytes
    document: Document
    version: _Version

    def etag(self, policy: str) -> str:
        """The policy counts too: with a 304 a browser keeps the one that it has stored."""
        return f'"{hashlib.sha256(self.body + policy.encode()).hexdigest()[:32]}"'


class Build:
    """The folder that BFF_SPA names. It may be a link to the current one of several builds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pages: dict[str, Page] = {}

    def has(self, name: str) -> bool:
        """Whether there is a file of that name; `name` is a path that `relative_path` returned."""
        if not os.path.isfile(os.path.join(self.folder, name)):  # cheaper than to resolve links
            return False
        return self._resolved(name) is not None

    @contextmanager
    def opened(self, name: str, accept_encoding: str = "") -> Iterator[OpenFile | None]:
        """Open the file `name`, or the compressed one beside it; yield None if there is no such file."""
        beside = {
            encoding for encoding, suffix in ENCODINGS.items() if accept_encoding and self.has(name + suffix)
        }
        encoding = best_encoding(accept_encoding, beside)
        is_there = not encoding or self.has(name)
        file = self._open(name + ENCODINGS.get(encoding, ""), encoding) if is_there else None
        try:
            yield file
        finally:
            if file:
                file.file.close()

    def page(self, name: str) -> Page | None:
        """Return the HTML file `name`, read again if it has changed; None if there is none."""
        with self.opened(name) as file:
            if file is None:
                self._pages.pop(name, None)
                return None
            page = self._pages.get(name)
            if page is None or page.version != file.version:
                body = file.file.read()
                if len(self._pages) >= _MOST_PAGES:  # a link within the folder gives one any number of names
                    self._pages.clear()
                page = Page(body, read_document(body.decode("utf-8", "replace")), file.version)
                self._pages[name] = page
            return page

    def names(self) -> list[str]:
        """Return the names of all files that may be sent, at most _MOST_FILES."""
        found = []
        for folder, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if relative_path(f"/{name}") or name == ".well-known"]
            below = os.path.relpath(folder, self.folder)
            names = (name if below == "." else f"{below}/{name}" for name in files)
            found += [name for name in names if self.has(relative_path(f"/{quote(name)}") or ".")]
            if len(found) > _MOST_FILES:
                break
        return found[:_MOST_FILES]

    def texts(self, names: Sequence[str]) -> dict[str, str]:
        """Return the contents of those files that are HTML, CSS or JavaScript; not of huge ones."""
        texts = {}
        for name in names:
            if not (is_page(name) or name.endswith((".css", ".js", ".mjs"))):
                continue
            with self.opened(name) as file:
                if file and file.size <= _MOST_BYTES:
                    texts[name] = file.file.read().decode("utf-8", "replace")
        return texts

    def _resolved(self, name: str) -> str | None:
        """Return the path of a file without links, or None if it is not in the folder."""
        root = os.path.realpath(self.folder)
        try:
            path = os.path.realpath(os.path.join(root, name), strict=True)
        except (OSError, ValueError):
            return None
        return path if path.startswith(root.rstrip("/") + "/") else None

    def _open(self, name: str, encoding: str) -> OpenFile | None:
        path = self._resolved(name)
        try:
            # Without O_NONBLOCK a named pipe would be waited for.
            descriptor = os.open(path or "", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            return None
        suffix = f"-{encoding}" if encoding else ""
        etag = f'"{found.st_mtime_ns:x}-{found.st_size:x}{suffix}"'
        version = (found.st_mtime_ns, found.st_size, found.st_ino)
        validators = Validators(etag, int(found.st_mtime))
        return OpenFile(os.fdopen(descriptor, "rb"), found.st_size, validators, encoding, version)
