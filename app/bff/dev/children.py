"""Processes that this one starts, and ends before it ends itself."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

DRAIN_SECONDS = 15
_NOTHING: Mapping[str, str] = {}


@asynccontextmanager
async def child(*command: str, env: Mapping[str, str] = _NOTHING, **options: Any) -> AsyncIterator[Process]:
    """Run a command until the block is left; `options` are those of asyncio.create_subprocess_exec."""
    # A session of its own: Ctrl-C reaches this process alone, which stops everything in the right order.
    options |= {"env": {**os.environ, **env}, "start_new_session": True}
    process = await asyncio.create_subprocess_exec(*command, **options)
    try:
        yield process
    finally:
        await _end(process)


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what it has left running, as npm may
    await process.wait()


async def first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Wait until one of them is done, and cancel the others."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def exit_code(returncode: int) -> int:
    """Return the code as a shell has it: 128 + signal for a process that a signal ended."""
    return returncode if returncode >= 0 else 128 - returncode
