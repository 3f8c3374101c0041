"""The React front end in Chromium: its build under the real policy, its development server."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.bff.axe import LOOKS, audits
from tests.bff.browser_users import BrowserUser, Site, browser_user
from tests.bff.subprocesses import AppProcess, is_listening, running_process, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

IN_MEMORY = {"BFF_SESSION_STORE": "memory:"}
PLACES = {
    "/": "Hello, Alice Adams",
    "/todos": "To-dos",
    "/account": "Your account",
    "/sessions": "Where you are signed in",
    "/nowhere": "There is nothing here",
}


@pytest.fixture(scope="module")
def built(react_project: Path) -> Path:
    if not (react_project / "frontend/dist").exists():  # test_react.py may have built it
        command = ["npm", "run", "--silent", "build"]
        subprocess.run(command, cwd=react_project / "frontend", check=True, capture_output=True)
    return react_project


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(built: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AppProcess]:
    """The built application, the development provider and the demo API."""
    spa = {"BFF_SPA": str(built / "frontend/dist")}
    folder = tmp_path_factory.mktemp("app")
    async with running_process("app.bff.dev", folder, root=built, ports=3, **IN_MEMORY, **spa) as app:
        await app.says("Stop with Ctrl-C")
        yield app


class ReactUser(BrowserUser):
    def __init__(self, app: AppProcess, page: Page) -> None:
        super().__init__(cast("Site", SimpleNamespace(url=app.url)), page)

    async def signs_in(self, start: str = "/account") -> None:
        await self.goes_to(start)
        await self.chooses()
        await self.sees_name("Alice Adams")

    async def signs_out(self) -> None:
        await self.clicks("Sign out", role="button")


@pytest_asyncio.fixture(loop_scope="module")
async def alice(chromium: Browser, app: AppProcess) -> AsyncIterator[ReactUser]:
    async with browser_user(chromium, cast("Site", SimpleNamespace(url=app.url))) as user:
        yield ReactUser(app, user.page)


async def test_no_page_breaks_the_policy_and_axe_finds_nothing_in_any_look(alice: ReactUser):
    await alice.signs_in()
    found: dict[str, Any] = {}
    for path, heading in PLACES.items():
        await alice.goes_to(path)
        await alice.sees(heading)
        await expect(alice.page.get_by_role("main")).not_to_be_empty()
        found[path] = [(audit.violations, audit.overflow) async for audit in audits(alice.page)]

    assert found == {path: [([], 0)] * len(LOOKS) for path in PLACES}
    assert [text for text in alice.console_errors if "401 (Unauthorized)" not in text] == []


async def test_signed_out_the_home_page_is_accessible_too(alice: ReactUser):
    await alice.goes_to("/")
    await alice.sees("This browser will never hold a token.")

    assert [(audit.violations, audit.overflow) async for audit in audits(alice.page)] == [([], 0)] * len(
        LOOKS
    )


async def test_an_end_elsewhere_empties_the_app_which_comes_back_to_its_route(
    chromium: Browser, app: AppProcess, alice: ReactUser
):
    async with browser_user(chromium, cast("Site", SimpleNamespace(url=app.url))) as other:
        elsewhere = ReactUser(app, other.page)
        await elsewhere.signs_in("/account?tab=2#claims")
        await alice.signs_in("/sessions")

        await alice.page.get_by_role("button", name="Sign out HeadlessChrome").first.click()

        await elsewhere.sees("You are signed out")
        await expect(
            elsewhere.page.get_by_text("You signed this browser out from another one.")
        ).to_be_visible()
        assert "Alice" not in await elsewhere.page.content()
        await elsewhere.clicks("Sign in again", role="button")
        await elsewhere.sees("Your account")
        assert elsewhere.page.url == f"{app.url}/account?tab=2#claims"


async def test_a_keyboard_is_enough_and_the_focus_follows_the_route(alice: ReactUser):
    await alice.signs_in()
    await alice.tabs_to("To-dos")
    await alice.page.keyboard.press("Enter")

    await alice.sees("To-dos")
    await expect(alice.page.get_by_role("main")).to_be_focused()
    await expect(alice.page).to_have_title(re.compile("^To-dos · "))
    await alice.tabs_to("", at_most=1)
    await alice.page.keyboard.type("Water the plants")
    await alice.page.keyboard.press("Enter")
    await expect(alice.page.get_by_text("Added “Water the plants”.")).to_be_visible()
    await alice.tabs_to("Delete “Water the plants”")
    await alice.page.keyboard.press("Space")
    await expect(alice.page.get_by_text("Deleted “Water the plants”.")).to_be_visible()


async def test_in_development_a_changed_component_shows_with_its_state_kept_until_ctrl_c(
    chromium: Browser, react_project: Path
):
    async with running_process("app.bff.dev", react_project, root=react_project, ports=4, **IN_MEMORY) as dev:
        await dev.says("Stop with Ctrl-C")
        async with browser_user(chromium, cast("Site", SimpleNamespace(url=dev.url))) as user:
            alice = ReactUser(dev, user.page)
            await alice.signs_in("/todos")
            await alice.page.get_by_label("New to-do").fill("Half a sentence")
            await changes(alice, react_project / "frontend/src/pages/Todos.tsx")
            await alice.clicks("Add", role="button")
            await expect(alice.page.get_by_text("Added “Half a sentence”.")).to_be_visible()
            window = ReactUser(dev, await alice.page.context.new_page())
            await window.goes_to("/account")
            await window.sees("Your account")

            await window.signs_out()

            await alice.sees("You are signed out")

        assert await dev.stops(signal.SIGINT) == 0
        await wait_until(lambda: is_free(dev.port + 3))
    for name in ("stdout", "stderr"):  # the process runs in the project's folder
        (react_project / name).unlink()


async def changes(alice: ReactUser, component: Path) -> None:
    """Edit the heading of a page: it shows without a load of the page."""
    loads: list[str] = []
    alice.page.on("load", lambda page: loads.append(page.url))
    replace(component, "<h1>To-dos</h1>", "<h1>What there is to do</h1>")
    await alice.sees("What there is to do")
    replace(component, "<h1>What there is to do</h1>", "<h1>To-dos</h1>")
    await alice.sees("To-dos")
    await expect(alice.page.get_by_label("New to-do")).to_have_value("Half a sentence")
    assert loads == []


def replace(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text().replace(old, new))


async def is_free(port: int) -> bool:
    return not is_listening(port)
