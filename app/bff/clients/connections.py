"""The connections of a named client, which all users share: none brings what an earlier request has left."""

from __future__ import annotations

import select
import socket
from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection


class InvalidBody(aiohttp.ClientPayloadError):
    """The chunks of an API's response are not valid HTTP."""


class Connector(aiohttp.TCPConnector):
    """aiohttp's connector, which reuses a connection only if nothing has arrived while it was idle.

    That could be a second response, or the body of one that has none: the next request, another user's
    perhaps, would get it as its response. If the API has closed the connection, a request would be lost, and
    one that changes something cannot be sent again (RFC 9110 §9.2.2).
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(resolver=_Resolver(), **options)
        self._factory = cast(partial[ResponseHandler], partial(_Protocol, loop=self._loop))

    async def _get(self, *args: Any) -> Connection | None:
        while (connection := await super()._get(*args)) is not None:
            protocol = connection.protocol
            if isinstance(protocol, _Protocol) and not (protocol.should_close or protocol.has_received):
                protocol.is_idle, protocol.awaits_head = False, True
                return connection
            connection.close()
        return None

    def _release(self, key: Any, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        if isinstance(protocol, _Protocol):
            protocol.is_idle = True
        super()._release(key, protocol, should_close=should_close)


class _Protocol(ResponseHandler):
    """aiohttp's, which would lose a head when what follows it in the packet is not valid HTTP, such as the
    body of a 204, and would wait for the end of a body that is not.
    """

    is_idle = False
    awaits_head = True

    def data_received(self, data: bytes) -> None:
        if not data:  # aiohttp may read on
            return super().data_received(data)
        if self.is_idle:
            return None if self.transport is None else self.transport.abort()
        if self.awaits_head:
            head, end, rest = data.partition(b"\r\n\r\n")
            if end and rest:
                super().data_received(head + end)
                data = rest
            self.awaits_head = not end
        super().data_received(data)
        if self.exception() is not None and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(InvalidBody())
        return None

    @property
    def has_received(self) -> bool:
        """Whether something has arrived that the event loop has not read yet: data, or the end."""
        connection = None if self.transport is None else self.transport.get_extra_info("socket")
        if connection is None or connection.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        return bool(poll.poll(0))


class _Resolver(aiohttp.DefaultResolver):  # type: ignore[misc, valid-type]
    async def resolve(self, host: str, *args: Any, **options: Any) -> Any:
        """Raise OSError also for a name that cannot be one, to which an API may redirect."""
        try:
            return await super().resolve(host, *args, **options)
        except UnicodeError as error:
            raise socket.gaierror(socket.EAI_NONAME, "not a host name") from error
