"""Several operating system processes and a certified provider, whose refresh tokens are valid once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tornado.httputil import HTTPServerRequest

from app.bff.dev.mongod import Mongod
from app.bff.dev.server import Answer, Endpoint, LocalServer, credentials
from tests.bff.certified_provider import CertifiedProvider, FormBrowser, certified_provider
from tests.bff.cluster import Cluster, cluster_settings, parallel_requests, running_cluster

ROUNDS = 3


class Listener(LocalServer):
    """An API that accepts any access token, and records it."""

    def __init__(self) -> None:
        super().__init__()
        self.received: set[str] = set()

    def routes(self) -> list[Any]:
        return [("/.*", Endpoint, {"server": self, "name": "any", "work": lambda request: Answer()})]

    def record(self, endpoint: str, request: HTTPServerRequest) -> None:
        super().record(endpoint, request)
        self.received.add(credentials(request)[1])


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listener = Listener()
    await listener.start()
    yield listener
    await listener.stop()


@pytest.fixture
async def meeting(
    listener: Listener, mongod: Mongod, tmp_path: Path
) -> AsyncIterator[tuple[Cluster, CertifiedProvider]]:
    settings = cluster_settings(mongod, api=f"http://127.0.0.1:{listener.port}/")
    async with certified_provider(settings["BFF_BASE_URL"]) as certified:
        settings["BFF_ISSUER"] = certified.issuer
        async with running_cluster(tmp_path, settings, browser=FormBrowser) as cluster:
            yield cluster, certified


async def test_300_requests_to_both_with_an_expired_token_cause_one_refresh_and_all_succeed(
    meeting: tuple[Cluster, CertifiedProvider], listener: Listener
):
    cluster, certified = meeting
    await cluster.browser.signs_in()
    async with parallel_requests(cluster) as clients:
        for round_ in range(1, ROUNDS + 1):
            await cluster.record.age_access_token()
            listener.received.clear()

            assert await clients.calls(300) == {200: 300}
            assert await certified.refreshes() == round_
            [token] = listener.received
            assert await certified.is_active(token)
        assert await clients.calls(2, "/bff/user") == {200: 2}
