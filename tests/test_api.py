"""What the pages get from an API. The demo's: delete this file together with it."""

from __future__ import annotations

from typing import Any

from app.bff.testing import Browser, Clock, Failure, Provider, StandInApi

TODO: dict[str, Any] = {"id": 1, "title": "Water the plants", "done": False}


async def test_the_page_lists_the_user_s_to_dos(alice: Browser, api: StandInApi) -> None:
    api.answers("GET", "echo", json={})
    api.answers("GET", "todos", json=[TODO])

    assert TODO["title"] in (await alice.get("/todos")).text
    assert {request.user for request in api.requests} == {"alice"}


async def test_the_page_is_there_when_the_api_is_down(alice: Browser, api: StandInApi) -> None:
    await api.stop()

    assert (await alice.get("/todos")).status_code == 200


async def test_an_expired_access_token_is_refreshed_once(
    alice: Browser, api: StandInApi, provider: Provider, clock: Clock
) -> None:
    clock.advance(301)
    await alice.get("/todos")

    assert provider.counts["token:refresh_token"] == 1
    assert {request.user for request in api.requests} == {"alice"}


async def test_an_outage_of_the_provider_ends_no_session(
    alice: Browser, provider: Provider, clock: Clock
) -> None:
    clock.advance(301)
    provider.fails["token"] = Failure()  # answers 503
    await alice.get("/todos")
    del provider.fails["token"]

    assert (await alice.get("/todos")).status_code == 200


async def test_only_an_admin_sees_and_deletes_the_to_dos_of_all_users(
    alice: Browser, bob: Browser, api: StandInApi
) -> None:
    api.answers("GET", "todos", json={"alice": 3}, client="apiClientForAdmins")
    api.answers("DELETE", "todos", status=204, client="apiClientForAdmins")

    assert (await alice.get("/todos/everyone")).status_code == 200
    assert (await alice.fetch("/api/admin/todos", "DELETE")).status_code == 204
    assert (await bob.get("/todos/everyone")).status_code == 403
    assert (await bob.fetch("/api/admin/todos", "DELETE")).status_code == 403
