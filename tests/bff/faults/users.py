"""Users who stay signed in and call an API all the time, and what they see."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2

from app.bff.testing.browsers import Browser

_PAUSE_SECONDS = 0.1
_PATIENCE_SECONDS = 10  # of a browser, in this load
_LOST = {"no_session", "session_ended", "reauthentication_required"}


@dataclass(frozen=True)
class Seen:
    """The answer to one call: its status, with the error code if there is one."""

    user: int
    sent_at: float
    answered_at: float
    answer: str

    @property
    def lost(self) -> bool:
        """Whether it says that the user has to sign in again."""
        return self.answer.startswith("401") and self.answer.split()[-1] in _LOST


class Users:
    """Each calls `/api/echo`, at one instance after the other, and signs in again after losing a session.

    Where nothing listens the other instance is called, as a load balancer does.
    """

    def __init__(self, urls: Sequence[str], count: int) -> None:
        self.seen: list[Seen] = []
        self._urls = urls
        self._browsers = [Browser(urls[0]) for _ in range(count)]
        for browser in self._browsers:
            browser.http.timeout = httpx2.Timeout(_PATIENCE_SECONDS)

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        for number, browser in enumerate(self._browsers):
            await self._sign_in(number, browser)
        tasks = [asyncio.create_task(self._call(number)) for number in range(len(self._browsers))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for browser in self._browsers:
                await browser.http.aclose()

    async def fine_again(self, *, for_seconds: float, at_most: float) -> bool:
        """Wait until all have seen nothing but 200 for so long; return whether that has happened."""
        began = time.monotonic()
        while time.monotonic() < began + at_most:
            await asyncio.sleep(0.1)
            start = max(began, time.monotonic() - for_seconds)
            recent = [seen for seen in self.seen if seen.answered_at >= start]
            happy = {seen.user for seen in recent if seen.answer == "200"}
            lasts = time.monotonic() - began >= for_seconds and all(seen.answer == "200" for seen in recent)
            if lasts and len(happy) == len(self._browsers):
                return True
        return False

    async def _call(self, number: int) -> None:
        browser, turn = self._browsers[number], number
        while True:
            turn += 1
            seen = await self._one_call(number, browser, turn)
            self.seen.append(seen)
            if seen.lost:
                await self._sign_in(number, browser)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _one_call(self, number: int, browser: Browser, turn: int) -> Seen:
        sent_at = time.monotonic()
        try:
            answer = described(await self._balanced(browser, turn))
        except httpx2.TimeoutException:
            answer = "no answer"
        except httpx2.ConnectError:
            answer = "no connection"
        except httpx2.TransportError:
            answer = "cut off"
        return Seen(number, sent_at, time.monotonic(), answer)

    async def _balanced(self, browser: Browser, turn: int) -> httpx2.Response:
        first, second = self._urls[turn % 2], self._urls[(turn + 1) % 2]
        try:
            return await browser.fetch(f"{first}/api/echo")
        except httpx2.ConnectError:
            return await browser.fetch(f"{second}/api/echo")

    async def _sign_in(self, number: int, browser: Browser) -> None:
        browser.http.cookies.clear()
        while True:
            try:
                await browser.login(("alice", "bob")[number % 2])
            except (AssertionError, httpx2.TransportError):
                await asyncio.sleep(0.5)
            else:
                return


def described(response: httpx2.Response) -> str:
    """Return the status, with the error code of a problem document."""
    is_problem = response.headers.get("Content-Type", "").startswith("application/problem")
    return f"{response.status_code} {response.json()['code']}" if is_problem else str(response.status_code)
