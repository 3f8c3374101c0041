"""Forwards a path of ours to an API, with the token that its named client carries."""

from __future__ import annotations

from multidict import CIMultiDict
from tornado.web import HTTPError
from yarl import URL

from app.handlers.base import ApiHandler
from app.settings import RemoteApiSettings
from app.web.remote import Headers, downstream_headers, upstream_headers, upstream_path

_NOT_ADDED = ("Accept-Encoding", "Content-Type", "User-Agent")  # what the browser did not send, we do not add


class RemoteApi(ApiHandler):
    """One remote API. Bodies are buffered; what is decided about paths and headers is in `web.remote`."""

    def initialize(self, api: RemoteApiSettings) -> None:
        self.api = api

    async def forward(self, *_: str) -> None:
        if self.request.method not in self.api.methods:
            raise HTTPError(405)
        path = URL("./" + upstream_path(self.request.uri or "", self.api.path), encoded=True)
        options = {"timeout": self.api.timeout_seconds} if self.api.timeout_seconds else {}
        call = self.create_client(self.api.client).request(
            self.request.method,
            path,
            headers=CIMultiDict(upstream_headers(self.request.headers.get_all())),
            data=self.request.body or None,
            allow_redirects=False,
            auto_decompress=False,
            skip_auto_headers=_NOT_ADDED,
            **options,
        )
        async with call as response:
            body = await response.read()
        self.set_status(response.status)
        self._pass_on(downstream_headers(response.headers.items()))
        length = response.headers.get("Content-Length")
        if length and self.request.method == "HEAD":
            self.set_header("Content-Length", length)  # what GET would have (RFC 9110 §8.6); Tornado says 0
        self.finish(body or None)  # Tornado refuses even an empty body with 204 and 304

    def allowed_methods(self) -> list[str]:
        return sorted(self.api.methods)

    def _pass_on(self, headers: Headers) -> None:
        for name in ("Content-Type", *(name for name, _ in headers)):
            self.clear_header(name)  # what the API says takes the place of our defaults
        for name, value in headers:
            self.add_header(name, value)

    get = head = post = put = patch = delete = options = forward
