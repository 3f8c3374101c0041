"""Small JSON values of the application in a session: a basket, a wizard's step, messages for a page."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Callable, Collection, Coroutine
from typing import Any
from urllib.parse import quote

from app.bff.errors import NoSession
from app.bff.sessions.interfaces import SessionStore

_LONGEST_KEY = 64  # characters
FLASH = "flash"
_number = itertools.count()  # of messages in one millisecond


class SessionData:
    """JSON values of yours in the session: `self.session_data` in a handler.

    Each key is written by itself, so concurrent writes of several keys lose none, and of one key the last
    one counts. Values are sealed like tokens, keys are not. They end with the session, and no write brings
    one back. A key has 1 to 64 characters; all keys and values together may have 16 KB as JSON. There is one
    query for each call. A job has it by `services.session_data(ref)`.

    Its methods raise NoSession (401) once the session is over, or StoreUnavailable (503).

    Example::

        class Basket(ApiHandler):
            @authenticated
            async def post(self) -> None:
                basket = await self.session_data.get("basket", [])
                await self.session_data.set("basket", [*basket, "tulips"])
                self.flash("Tulips are in your basket.")
                self.finish_json(await self.session_data.get("basket"))
    """

    def __init__(self, sessions: SessionStore, ref: str, clock: Callable[[], float]) -> None:
        self._sessions = sessions
        self._ref = ref
        self._clock = clock

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or `default`; raises ValueError for what is no key.

        Example::

            class Step(ApiHandler):
                @authenticated
                async def get(self) -> None:
                    self.finish_json(await self.session_data.get("step", 1))
        """
        content = await self._sessions.data(self._ref, _field(key))
        return default if content is None else json.loads(content)

    async def set(self, key: str, value: Any) -> None:
        """Store a JSON value; raises TooLarge (413), or ValueError or TypeError for what is no JSON.

        Example::

            class NextStep(ApiHandler):
                @authenticated
                async def post(self) -> None:
                    await self.session_data.set("step", 2)
                    self.set_status(204)
        """
        await self._write(_field(key), value)

    async def delete(self, key: str) -> None:
        """Remove a key; no effect if it is not there.

        Example::

            class EmptyBasket(ApiHandler):
                @authenticated
                async def delete(self) -> None:
                    await self.session_data.delete("basket")
                    self.set_status(204)
        """
        await self._sessions.remove_data(self._ref, [_field(key)])

    def add_flash(self, message: str) -> Coroutine[Any, Any, None]:
        """Return the write of a message for the next page that the browser gets.

        What is no text raises at once: nothing would be left to answer when the write runs. A lone surrogate,
        which JSON of a browser may have brought, becomes a question mark.
        """
        in_order = f"{round(self._clock() * 1000):012x}{next(_number):08x}"
        text = message.encode(errors="replace").decode()
        return self._write(f"{FLASH}.{in_order}{secrets.token_hex(4)}", text)

    async def remove_flashes(self, ids: Collection[str]) -> None:
        """Remove messages that were shown, by their ids in `Session.flashes`."""
        await self._sessions.remove_data(self._ref, [f"{FLASH}.{each}" for each in ids])

    async def _write(self, field: str, value: Any) -> None:
        content = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        if not await self._sessions.set_data(self._ref, field, content):
            raise NoSession("the session is over")


def _field(key: str) -> str:
    """Return the name of the field: no dot and no `$`, which mean something to MongoDB."""
    if not 0 < len(key) <= _LONGEST_KEY:
        raise ValueError(f"a key of session data has 1 to {_LONGEST_KEY} characters")
    return f"data.{quote(key, safe='').replace('.', '%2E')}"
