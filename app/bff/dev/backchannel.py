"""Notifies clients that a provider session has ended (OpenID Connect Back-Channel Logout 1.0)."""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPClientError

from app.bff.dev.grants import ProviderSession
from app.bff.dev.realm import Realm

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10


class BackChannel:
    """Notifies each client once; `answers` are pairs of client id and status."""

    def __init__(self, realm: Realm) -> None:
        self.answers: list[tuple[str, int]] = []
        self._realm = realm
        self._notifications: set[asyncio.Task[None]] = set()

    def announce(self, session: ProviderSession) -> None:
        """Start sending a logout token to each client with a grant from this session."""
        for client_id in self._realm.ledger.clients_of(session.sid):
            client = self._realm.clients.get(client_id)
            if client and client.backchannel_logout_uri:
                token = self._realm.logout_token(client_id, sub=session.sub, sid=session.sid)
                task = asyncio.create_task(self._notify(client_id, client.backchannel_logout_uri, token))
                self._notifications.add(task)
                task.add_done_callback(self._notifications.discard)

    async def settle(self) -> None:
        """Wait until each has answered, or cannot be reached."""
        await asyncio.gather(*self._notifications)

    def give_up(self) -> None:
        for task in self._notifications:
            task.cancel()

    async def _notify(self, client_id: str, uri: str, logout_token: str) -> None:
        body = urlencode({"logout_token": logout_token})
        try:
            answer = await AsyncHTTPClient().fetch(
                uri, method="POST", body=body, request_timeout=TIMEOUT_SECONDS, raise_error=False
            )
        except (OSError, HTTPClientError) as error:
            log.warning("%s did not receive a logout token: %s", client_id, error)
            return
        self.answers.append((client_id, answer.code))
