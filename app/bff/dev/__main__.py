"""`python -m app.bff.dev`: the application, and around it everything that it needs from outside.

The provider and the demo API run in this process, the database and the application in processes
of their own, so that the application can reload itself while everybody stays signed in.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2 as httpx

from app.bff.dev.api import DemoApi
from app.bff.dev.environment import (
    base_url_of,
    dev_client,
    given_settings,
    health_url_of,
    own_settings,
    port_of,
    stand_in_settings,
    taken_ports,
)
from app.bff.dev.mongod import Mongod, find_mongod
from app.bff.dev.provider import USERS, Provider

DRAIN_SECONDS = 15
MEMORY = "memory:"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def say(text: str) -> None:
    print(text, flush=True)


async def main() -> int:
    """Returns the application's exit code, or 0 when somebody has stopped us."""
    stop = asyncio.Event()
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    given = given_settings(Path.cwd())
    first = port_of(given)
    if taken := taken_ports([first] if "BFF_ISSUER" in given else [first, first + 1, first + 2]):
        say(f"Port {taken[0]} is taken. BFF_PORT chooses another one: BFF_PORT={first + 100} scripts/dev.sh")
        return 1
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(session_store(given))
        settings = own_settings(given, store)
        if "BFF_ISSUER" not in given:
            settings |= await stack.enter_async_context(stand_ins(given))
        missing = {name: value for name, value in settings.items() if name not in given}
        app = await stack.enter_async_context(application(missing))
        welcome = asyncio.create_task(say_when_healthy(health_url_of(given), banner(given, store)))
        stack.callback(welcome.cancel)
        return await watch(app, stop)


@asynccontextmanager
async def session_store(given: Mapping[str, str]) -> AsyncIterator[str]:
    """The first that is there: the one that is set, a mongod, our own memory."""
    binary = None if "BFF_SESSION_STORE" in given else find_mongod()
    if binary is None:
        yield given.get("BFF_SESSION_STORE", MEMORY)
        return
    with TemporaryDirectory(prefix="bff-mongod-") as folder:
        mongod = Mongod(binary, Path(folder))
        try:
            yield await started(mongod)
        finally:
            await asyncio.to_thread(mongod.stop)


async def started(mongod: Mongod) -> str:
    """Its address; or memory, since a database that cannot start is no reason not to."""
    try:
        await asyncio.to_thread(mongod.start)
    except RuntimeError as error:
        say(str(error))
        return MEMORY
    return f"{mongod.uri}/bff"


@asynccontextmanager
async def stand_ins(given: Mapping[str, str]) -> AsyncIterator[dict[str, str]]:
    """The development provider and the demo API, and the settings that point to them."""
    client = dev_client(given)
    provider = Provider([client])
    api = DemoApi(provider)
    try:
        await provider.start(port_of(given) + 1)
        await api.start(port_of(given) + 2)
        yield stand_in_settings(provider, client, api)
    finally:
        await api.stop()
        await provider.stop()


@asynccontextmanager
async def application(settings: Mapping[str, str]) -> AsyncIterator[Process]:
    # A session of its own: Ctrl-C is meant for us, who end everything in the right order.
    app = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", env={**os.environ, **settings}, start_new_session=True
    )
    try:
        yield app
    finally:
        await end(app)


async def end(app: Process) -> None:
    if app.returncode is not None:
        return
    app.terminate()
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            await app.wait()
    except TimeoutError:
        os.killpg(app.pid, signal.SIGKILL)
        await app.wait()


async def watch(app: Process, stop: asyncio.Event) -> int:
    """Return when the application has ended, or when it should."""
    ended = asyncio.create_task(app.wait())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not ended.done():
        say("\nStopping …")
        return 0
    return exit_code(ended.result())


def exit_code(returncode: int) -> int:
    """A process that a signal ended has a negative one; a shell says 128 + signal."""
    return returncode if returncode >= 0 else 128 - returncode


async def say_when_healthy(url: str, text: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        while not await answers(client, url):  # noqa: ASYNC110  another process sets no event here
            await asyncio.sleep(0.1)
    say(text)


async def answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).is_success
    except httpx.TransportError:
        return False


def banner(given: Mapping[str, str], store: str) -> str:
    names = " or ".join(user.name for user in USERS.values())
    who = f"at {given['BFF_ISSUER']}" if "BFF_ISSUER" in given else f"as {names} (no password)"
    return f"""
  Open      {base_url_of(given)}
  Sign in   {who}
  Sessions  {store_in_words(given, store)}

  Stop with Ctrl-C
"""


def store_in_words(given: Mapping[str, str], store: str) -> str:
    if store == MEMORY:
        return "in memory: lost at every restart and reload"
    if "BFF_SESSION_STORE" in given:
        return "in the database that BFF_SESSION_STORE names"  # its URL may contain a password
    return "in a MongoDB of our own: kept when the application reloads, gone when you stop"


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
