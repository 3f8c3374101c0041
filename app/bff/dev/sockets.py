"""An endpoint that is a WebSocket: it says back what it hears, until a test closes it."""

from __future__ import annotations

from typing import Any

from tornado.websocket import WebSocketHandler

from app.bff.dev.server import Answer, Endpoint

OPEN = Answer(101)


class EchoSocket(Endpoint, WebSocketHandler):
    """Opens when its work answers `OPEN`; any other answer refuses the handshake."""

    def initialize(self, sockets: list[EchoSocket], **options: Any) -> None:  # type: ignore[override]
        super().initialize(**options)
        self.sockets = sockets
        self.heard: list[str | bytes] = []
        self.speaks: str | None = None  # of the subprotocols it is offered, the last
        self.is_over = False

    def _send(self, answer: Answer) -> None:
        if answer.status != OPEN.status:
            super()._send(answer)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        self.speaks = subprotocols[-1] if subprotocols else None
        return self.speaks

    def open(self, *args: str, **kwargs: str) -> None:
        self.sockets.append(self)

    async def on_message(self, message: str | bytes) -> None:
        self.heard.append(message)
        if "message" in self.server.holds:
            await self.server.holds["message"].wait()
        await self.write_message(message, binary=isinstance(message, bytes))

    def on_close(self) -> None:
        self.is_over = True
