"""The faults: each is a block that fails something, lasts for a while, and makes it whole again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from app.bff.dev.server import Failure
from tests.bff.faults.world import GO, KILL, LEASE_SECONDS, STOP, TERMINATE, World

Fault = Callable[[World], Awaitable[None]]
_WHILE_SECONDS = 8


class Late(asyncio.Event):
    """Delays each answer by so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def wait(self) -> bool:  # type: ignore[override]
        await asyncio.sleep(self._seconds)
        return True


async def nothing_fails(world: World) -> None:
    await asyncio.sleep(_WHILE_SECONDS)


async def primary_killed(world: World) -> None:
    killed = await asyncio.to_thread(world.replica_set.kill_primary)
    await asyncio.sleep(_WHILE_SECONDS)
    await asyncio.to_thread(killed.start)


async def primary_steps_down(world: World) -> None:
    await asyncio.to_thread(world.replica_set.step_down)


async def primary_frozen(world: World) -> None:
    primary = await world.primary()
    primary.send_signal(STOP)
    await asyncio.sleep(15)
    primary.send_signal(GO)


async def _majority_frozen(world: World, seconds: float) -> None:
    primary = await world.primary()
    frozen = [primary, next(each for each in world.replica_set.members if each is not primary)]
    for member in frozen:
        member.send_signal(STOP)
    await asyncio.sleep(seconds)
    for member in frozen:
        member.send_signal(GO)


async def majority_frozen(world: World) -> None:
    await _majority_frozen(world, 10)


async def majority_frozen_longer_than_a_lease(world: World) -> None:
    """While refreshes are under way, whose answers can then not be saved."""
    world.provider.holds_answer["token"] = Late(1.5)
    await asyncio.sleep(4)
    await _majority_frozen(world, LEASE_SECONDS + 15)
    world.provider.holds_answer.clear()


async def all_members_restarted(world: World) -> None:
    for member in world.replica_set.members:
        member.kill()
    await asyncio.sleep(2)
    for member in world.replica_set.members:
        await asyncio.to_thread(member.start)


async def provider_down(world: World) -> None:
    await world.provider.stop()
    await asyncio.sleep(15)
    await world.restart_provider()


async def provider_silent(world: World) -> None:
    """It takes requests and never processes them."""
    for endpoint in ("metadata", "jwks", "token"):
        world.provider.holds[endpoint] = asyncio.Event()
    await asyncio.sleep(15)
    await world.provider.stop()
    world.provider.holds.clear()
    await world.restart_provider()


async def provider_slow(world: World) -> None:
    world.provider.holds_answer["token"] = Late(1.5)
    await asyncio.sleep(15)
    world.provider.holds_answer.clear()


async def provider_answers_500(world: World) -> None:
    world.provider.fails["token"] = Failure(500)
    await asyncio.sleep(15)
    world.provider.fails.clear()


async def provider_rotates_its_keys(world: World) -> None:
    for _ in range(3):
        world.provider.rotate_keys()
        await asyncio.sleep(4)


async def instance_killed(world: World) -> None:
    await world.one.end(KILL)
    await asyncio.sleep(2)
    await world.one.start()


async def rolling_restart(world: World) -> None:
    for instance in (world.one, world.two):
        await instance.end(TERMINATE)
        await instance.start()


async def instance_frozen_longer_than_a_lease(world: World) -> None:
    world.one.signal(STOP)
    await asyncio.sleep(LEASE_SECONDS + 5)
    world.one.signal(GO)


async def worker_killed(world: World) -> None:
    os.kill(world.two.pids[-1], KILL)
    await asyncio.sleep(3)


async def parent_killed(world: World) -> None:
    await world.two.end(KILL)
    await world.two.start()


async def _clock_wrong(world: World, seconds: float) -> None:
    with world.one.clock_ahead(seconds):
        await asyncio.sleep(15)


async def clock_90_s_behind(world: World) -> None:
    await _clock_wrong(world, -90)


async def clock_40_s_ahead(world: World) -> None:
    await _clock_wrong(world, 40)


async def clock_2_min_ahead(world: World) -> None:
    await _clock_wrong(world, 120)


async def clock_10_min_ahead(world: World) -> None:
    await _clock_wrong(world, 600)


FAULTS: tuple[Fault, ...] = (
    *(nothing_fails, primary_steps_down, primary_killed, primary_frozen),
    *(majority_frozen, majority_frozen_longer_than_a_lease, all_members_restarted),
    *(provider_down, provider_silent, provider_slow, provider_answers_500, provider_rotates_its_keys),
    *(instance_killed, rolling_restart, instance_frozen_longer_than_a_lease, worker_killed, parent_killed),
    *(clock_90_s_behind, clock_40_s_ahead, clock_2_min_ahead, clock_10_min_ahead),
)
