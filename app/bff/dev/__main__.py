"""`python -m app.bff.dev [module]`: the application, an OpenID provider, an API to call and a database.

The provider and the API run in this process, the database and the application in processes of their own:
when a file changes, the application restarts alone and sessions stay.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2 as httpx

from app.bff.dev import frontend
from app.bff.dev.api import DemoApi
from app.bff.dev.children import child, exit_code, first_of
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
from app.bff.dev.profiles import VARIABLE, apply_profile
from app.bff.dev.provider import USERS, Provider
from app.bff.paths import PROJECT

MEMORY = "memory:"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def say(text: str) -> None:
    print(text, flush=True)


async def main() -> int:
    """Return 0 after a signal, or the exit code of an application that does not start."""
    stop = asyncio.Event()
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    given = given_settings(Path.cwd())
    if VARIABLE in given and "BFF_ISSUER" in given:
        say(f"{VARIABLE} is for the development provider, which BFF_ISSUER replaces: unset one of the two.")
        return 1
    first, has_frontend = port_of(given), frontend.is_there() and "BFF_SPA" not in given
    ports = [first] if "BFF_ISSUER" in given else [first, first + 1, first + 2]
    if taken := taken_ports([*ports, first + 3] if has_frontend else ports):
        say(f"Port {taken[0]} is in use. Choose another one: BFF_PORT={first + 100} scripts/dev.sh")
        return 1
    if has_frontend:
        frontend.install()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(session_store(given))
        settings = own_settings(given, store)
        if "BFF_ISSUER" not in given:
            settings |= await stack.enter_async_context(stand_ins(given))
        if has_frontend:
            settings |= await stack.enter_async_context(frontend.development_server(first + 3))
        missing = {name: value for name, value in settings.items() if name not in given}
        welcome = asyncio.create_task(
            say_when_healthy(health_url_of(given), banner(given, store, has_frontend))
        )
        stack.callback(welcome.cancel)
        return await supervise(missing, stop, was_healthy=welcome.done)


@asynccontextmanager
async def session_store(given: Mapping[str, str]) -> AsyncIterator[str]:
    """Yield the session store: the one that is set, else a mongod of our own, else memory."""
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
    """Return the database's URL, or the memory store if the database does not start."""
    try:
        await asyncio.to_thread(mongod.start)
    except RuntimeError as error:
        say(str(error))
        return MEMORY
    return f"{mongod.uri}/bff"


@asynccontextmanager
async def stand_ins(given: Mapping[str, str]) -> AsyncIterator[dict[str, str]]:
    """Run the development provider and the demo API; yield the settings that point to them."""
    client = dev_client(given)
    provider = Provider([client])
    if VARIABLE in given:
        apply_profile(provider, given[VARIABLE])
    api = DemoApi(provider)
    try:
        await provider.start(port_of(given) + 1)
        await api.start(port_of(given) + 2)
        yield stand_in_settings(provider, client, api)
    finally:
        await api.stop()
        await provider.stop()


def application_module() -> str:
    """What `python -m` starts: the project's application, unless the command line names another one."""
    return sys.argv[1] if len(sys.argv) > 1 else "app"


async def supervise(settings: Mapping[str, str], stop: asyncio.Event, was_healthy: Callable[[], bool]) -> int:
    """Run the application until `stop`. After a crash, such as a syntax error, a change starts it again."""
    while True:
        async with child(sys.executable, "-m", application_module(), env=settings) as app:
            await first_of(app.wait(), stop.wait())
            if stop.is_set():
                say("\nStopping …")
                return 0
        code = exit_code(app.returncode or 0)
        if not was_healthy():
            return code
        say(f"The application ended with exit code {code}. It starts again when a file in app/ changes.")
        await first_of(source_changes(), stop.wait())


async def source_changes() -> None:
    before = source_times()
    while source_times() == before:  # noqa: ASYNC110  the file system sets no event
        await asyncio.sleep(0.2)


def source_times() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (PROJECT / "app").rglob("*.py")}


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


def banner(given: Mapping[str, str], store: str, has_frontend: bool) -> str:
    change = "component shows at once" if has_frontend else "file shows when you reload the page"
    names = " or ".join(user.name for user in USERS.values())
    sign_in = f"at {given['BFF_ISSUER']}" if "BFF_ISSUER" in given else f"as {names}, without a password"
    sign_in += f", at a provider like {given[VARIABLE]}" if VARIABLE in given else ""
    return f"""
  Open      {base_url_of(given)}
  Sign in   {sign_in}
  Sessions  {describe_store(given, store)}

  A changed {change}. Stop with Ctrl-C
"""


def describe_store(given: Mapping[str, str], store: str) -> str:
    if store == MEMORY:
        return "in memory: lost when the application restarts, as it does when Python code changes"
    if "BFF_SESSION_STORE" in given:
        return "in the database of BFF_SESSION_STORE"  # not shown: the URL may contain a password
    return "in a temporary MongoDB: they outlive a restart of the application, until you stop"


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
