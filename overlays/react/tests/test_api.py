"""What the app gets from an API. The demo's: delete this file together with it."""

from __future__ import annotations

from typing import Any

from app.bff.testing import Browser, Clock, Failure, Provider, StandInApi

TODOS: list[dict[str, Any]] = [
    {"id": 1, "title": "Sign in", "done": True},
    {"id": 2, "title": "Water the plants", "done": False},
]


async def test_the_user_s_to_dos_are_counted(alice: Browser, api: StandInApi) -> None:
    api.answers("GET", "todos", json=TODOS)

    assert (await alice.fetch("/data/todos")).json() == {"open": 1, "done": 1}
    assert {request.user for request in api.requests} == {"alice"}


async def test_the_to_dos_are_forwarded_with_the_user_s_token(alice: Browser, api: StandInApi) -> None:
    api.answers("GET", "todos", json=TODOS)

    assert (await alice.fetch("/api/todos")).json() == TODOS
    assert api.requests[-1].user == "alice"


async def test_an_api_that_is_down_is_a_problem_document(alice: Browser, api: StandInApi) -> None:
    await api.stop()

    assert (await alice.fetch("/data/todos")).json()["code"] == "api_unreachable"


async def test_an_expired_access_token_is_refreshed_once(
    alice: Browser, api: StandInApi, provider: Provider, clock: Clock
) -> None:
    api.answers("GET", "todos", json=TODOS)
    clock.advance(301)

    assert (await alice.fetch("/data/todos")).status_code == 200
    assert provider.counts["token:refresh_token"] == 1


async def test_an_outage_of_the_provider_ends_no_session(
    alice: Browser, provider: Provider, clock: Clock
) -> None:
    clock.advance(301)
    provider.fails["token"] = Failure()  # answers 503
    outage = await alice.fetch("/data/todos")
    del provider.fails["token"]

    assert outage.json()["code"] == "provider_unavailable"
    assert (await alice.fetch("/bff/user")).status_code == 200
