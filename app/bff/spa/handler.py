"""Serves a build (BFF_SPA): its files, and its index.html for every navigation that nothing else claims."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError

from app.bff.authorization import Rule
from app.bff.handlers.base import BaseHandler
from app.bff.handlers.web import NO_REQUIREMENTS
from app.bff.spa.document import Document
from app.bff.spa.files import NO_CACHE, cache_control, content_type, is_page, names_a_file, relative_path
from app.bff.spa.folder import INDEX, Build, Page
from app.bff.web.conditional import Validators, http_date, requested_range, unmet_condition
from app.bff.web.cross_origin import is_page_navigation
from app.bff.web.csp import widened

_CHUNK_BYTES = 65_536
_NO_DOCUMENT = Document()


class SpaFolder(BaseHandler):
    """Files of the build, and index.html for navigations. They are public; no session is read for them.

    With BFF_SPA_SIGNED_IN a navigation without a session goes to the login first; with a rule in it, the app
    is for sessions that meet it.
    """

    _unsatisfied: int | None = None  # the size of a file that has no byte of the requested range

    def initialize(self, build: Build) -> None:
        self._build = build

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if self._unsatisfied is not None:
            self.set_header("Content-Range", f"bytes */{self._unsatisfied}")
        super().write_error(status_code, **kwargs)

    async def prepare(self) -> None:
        path = relative_path(self.request.path)
        if path is None or path.partition("/")[0] == "bff":  # which is the engine's
            raise HTTPError(404)
        self._name = self._name_of(path)
        if self.request.method not in ("GET", "HEAD"):
            raise HTTPError(405 if self._build.has(self._name) else 404)
        if (
            self.services.settings.spa_signed_in
            and is_page(self._name)
            and is_page_navigation(self.request.headers)
        ):
            await super().prepare()
            rule = self.services.settings.spa_signed_in
            if not self._finished:
                self.require_authentication(NO_REQUIREMENTS, rule if isinstance(rule, Rule) else None)

    def check_trusted_origin(self, origin: str) -> bool:
        return True  # a 404 or 405 changes no state

    def allowed_methods(self) -> list[str]:
        return ["GET", "HEAD"]

    async def get(self) -> None:
        page = self._build.page(self._name) if is_page(self._name) else None
        if page is not None:
            return await self._send_page(page)
        with self._build.opened(self._name, self._accept_encoding) as found:
            if found is None:
                raise HTTPError(404)
            self._describe(_NO_DOCUMENT, cache_control(self._name), found.encoding)
            return await self._send(found.file, found.size, found.validators)

    head = get

    def _name_of(self, path: str) -> str:
        """Return the name of the file that answers for a path; it need not exist."""
        name = path + INDEX if path == "" or path.endswith("/") else path
        if self._build.has(name) or (names_a_file(name) and not path.endswith("/")):
            return name
        is_for_app = self.request.method in ("GET", "HEAD") and is_page_navigation(self.request.headers)
        return INDEX if is_for_app else name

    @property
    def _accept_encoding(self) -> str:
        return self.request.headers.get("Accept-Encoding", "")

    async def _send_page(self, page: Page) -> None:
        policy = self._policy(page.document)
        etag = page.etag(policy)
        with self._build.opened(self._name, self._accept_encoding) as beside:
            # One that is older is of an earlier build, whose scripts have other hashes.
            if beside is None or not beside.encoding or beside.version[0] < page.version[0]:
                self._describe(page.document, NO_CACHE, "")
                return await self._send(io.BytesIO(page.body), len(page.body), Validators(etag))
            self._describe(page.document, NO_CACHE, beside.encoding)
            validators = Validators(f'{etag[:-1]}-{beside.encoding}"')
            return await self._send(beside.file, beside.size, validators)

    def _policy(self, document: Document) -> str:
        policy, added = document.policy(self.services.provider.login_page), self.services.settings.csp
        return widened(policy, added) if added else policy

    def _describe(self, document: Document, cache: str, encoding: str) -> None:
        self.set_header("Content-Security-Policy", self._policy(document))
        self.set_header("Content-Type", content_type(self._name))
        self.set_header("Cache-Control", cache)
        self.set_header("Vary", "Accept-Encoding")
        self.set_header("Accept-Ranges", "bytes")
        if encoding:
            self.set_header("Content-Encoding", encoding)

    async def _send(self, file: BinaryIO, size: int, validators: Validators) -> None:
        self.set_header("ETag", validators.etag)
        if validators.modified is not None:
            self.set_header("Last-Modified", http_date(validators.modified))
        status = unmet_condition(self.request.headers, validators)
        if status == 304:
            return self.set_status(304)
        if status is not None:
            raise HTTPError(status)
        start, end = self._range(size, validators)
        self.set_header("Content-Length", str(end - start))
        if self.request.method == "HEAD":
            return None
        file.seek(start)
        try:
            while start < end and (chunk := file.read(min(_CHUNK_BYTES, end - start))):
                start += len(chunk)
                self.write(chunk)
                await self.flush()
        except StreamClosedError:
            return None
        return None

    def _range(self, size: int, validators: Validators) -> tuple[int, int]:
        try:
            found = requested_range(self.request.headers, size, validators)
        except ValueError:
            self._unsatisfied = size
            raise HTTPError(416) from None
        if found is None:
            return 0, size
        self.set_status(206)
        self.set_header("Content-Range", f"bytes {found[0]}-{found[1] - 1}/{size}")
        return found
