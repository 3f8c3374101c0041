"""A page's end of GET /bff/events: read with `fetch()` and a stream reader."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from tests.bff.harness import FETCH_HEADERS, Browser

_PATIENCE_SECONDS = 10


class EventStream:
    """The lines of one answer, put together to events: name and data."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.comments = 0
        self._lines = response.aiter_lines()

    async def next(self) -> tuple[str, Any] | None:
        """The next event, or None at the end of the stream; comments are counted on the way."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await self._next()

    async def _next(self) -> tuple[str, Any] | None:
        event: dict[str, str] = {}
        async for line in self._lines:
            name, _, value = line.partition(":")
            if line == ":":
                self.comments += 1
            elif line:
                event[name] = value.strip()
            elif event:
                return event["event"], json.loads(event["data"])
        return None

    async def says_nothing(self, *, comments: int) -> None:
        """Wait for so many comments, between which there must be no event."""
        heard = self.comments + comments
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while self.comments < heard:
                line = await anext(self._lines)
                assert line in ("", ":")
                self.comments += line == ":"

    async def rest(self) -> list[tuple[str, Any]]:
        events = []
        while event := await self.next():
            events.append(event)
        return events


@asynccontextmanager
async def listening(browser: Browser, path: str = "/bff/events") -> AsyncIterator[EventStream]:
    """The stream, once its first byte is there."""
    answer = browser.http.stream(
        "GET", path, headers={**FETCH_HEADERS, "X-CSRF": "1"}, timeout=_PATIENCE_SECONDS
    )
    async with answer as response:
        assert response.status_code == 200
        stream = EventStream(response)
        await stream.says_nothing(comments=1)
        yield stream
