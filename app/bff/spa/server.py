"""Forwards to a development server what nothing else claims: requests, and the WebSocket of its client."""

from __future__ import annotations

from contextlib import AsyncExitStack

from aiohttp import ClientConnectionError, ClientResponse, ClientWebSocketResponse
from multidict import CIMultiDict

from app.bff.clients.api import ApiClient
from app.bff.errors import BadRequest, CsrfRejected, Forbidden, NotFound
from app.bff.proxy.rules import offered_subprotocols
from app.bff.proxy.streaming import StreamingDelegate
from app.bff.proxy.websocket import RemoteSocket
from app.bff.settings.apis import RemoteApiSettings
from app.bff.settings.spa import DEVELOPMENT_SERVER
from app.bff.spa.document import Document, read_document
from app.bff.spa.forwarding import Headers, browser_headers, development_policy, server_headers
from app.bff.web.cross_origin import CSRF_HEADER, is_page_navigation, socket_refusal
from app.bff.web.hosts import may_be_rebound

MAX_BODY_BYTES = 10_000_000
_NO_DOCUMENT = Document()
_CONDITIONS = ("If-None-Match", "If-Modified-Since")


class ServerRequest(StreamingDelegate):
    """One request to the development server, without our cookies; it answers for itself.

    HTML is read as a whole, since its policy depends on it.
    """

    async def answer(self) -> None:
        if CSRF_HEADER in self.request.headers:
            raise NotFound("There is nothing at this address.")  # data is never the server's
        base_url = self.services.settings.base_url
        if may_be_rebound(self.request.host, base_url):  # the server, which checks it, sees its own name
            raise Forbidden(f"The development server is used at {base_url}.")
        try:
            answered = await self._request()
        except ClientConnectionError:
            if is_page_navigation(self.request.headers):
                return self._send_waiting_page()
            raise
        async with answered as response:
            headers = browser_headers(response.headers.items(), server=self._server)
            is_whole = self.request.method != "HEAD" and "Content-Encoding" not in response.headers
            if is_whole and response.content_type == "text/html":
                return self._send_page(response.status, headers, await response.read())
            sent = self.start(response.status, [*headers, self._policy(_NO_DOCUMENT)])
            while not response.content.at_eof():
                await sent
                sent = self.write(await response.content.readany())
        return None

    @property
    def _server(self) -> str:
        return self.services.settings.spa_server or ""

    async def _request(self) -> ClientResponse:
        target, settings = self.request.uri or "", self.services.settings
        if not target.startswith("/") or "#" in target:
            raise BadRequest("the request target is no path")
        headers = CIMultiDict(
            server_headers(self.request.headers.get_all(), base_url=settings.base_url, server=self._server)
        )
        if is_page_navigation(self.request.headers):
            headers["Accept-Encoding"] = "identity"  # its inline scripts are hashed here
            for name in _CONDITIONS:  # a 304 would bring a policy without the hashes
                headers.popall(name, None)
        data = await self.body.read() if self.body else None
        client: ApiClient = self.services.clients.create(DEVELOPMENT_SERVER, None)
        return await client.forward(self.request.method or "", target, headers=headers, data=data)

    def _send_page(self, status: int, headers: Headers, body: bytes) -> None:
        document = read_document(body.decode("utf-8", "replace"))
        kept = [header for header in headers if header[0].lower() != "content-length"]
        self.send(status, [*kept, self._policy(document)], body)

    def _policy(self, document: Document) -> tuple[str, str]:
        settings, login_page = self.services.settings, self.services.provider.login_page
        return "Content-Security-Policy", development_policy(
            document, base_url=settings.base_url, login_page=login_page, added=settings.csp
        )

    def _send_waiting_page(self) -> None:
        page = self.services.pages.get_template("bff/development_server.html").render(server=self._server)
        headers = [("Content-Type", "text/html; charset=utf-8"), ("Retry-After", "1")]
        self.send(503, headers, page.encode())


class ServerSocket(RemoteSocket):
    """The WebSocket of the development server's client, by which modules are replaced; without a session."""

    max_message_size = 64 * 1024 * 1024

    def initialize(self) -> None:  # type: ignore[override]
        super().initialize(RemoteApiSettings(path="/any", client=DEVELOPMENT_SERVER))

    async def prepare(self) -> None:
        refusal = socket_refusal(self.request.headers, self.services.settings.base_url)
        if refusal:
            raise CsrfRejected(refusal)

    async def _open_api_socket(self, stack: AsyncExitStack) -> ClientWebSocketResponse:
        settings, client = self.services.settings, self.create_client(DEVELOPMENT_SERVER)
        headers = server_headers(
            self.request.headers.get_all(), base_url=settings.base_url, server=settings.spa_server or ""
        )
        socket = client.websocket(
            client.url_for(self.request.uri or "/"),
            headers=CIMultiDict(
                (name, value) for name, value in headers if not name.lower().startswith("sec-web")
            ),
            protocols=offered_subprotocols(self.request.headers),
            max_msg_size=self.max_message_size,
        )
        return await stack.enter_async_context(socket)
