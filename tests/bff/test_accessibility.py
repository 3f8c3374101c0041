"""The engine's own pages, in the engine's own layout, pass axe-core in every look."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from tests.bff.application.settings import Settings
from tests.bff.axe import LOOKS, PLACES, audits
from tests.bff.browser_users import BrowserUser, Site, running_site
from tests.bff.harness import Clock

pytestmark = pytest.mark.asyncio(loop_scope="module")


class PlainSettings(Settings):
    page_layout = "bff/layout.html"


@pytest_asyncio.fixture(loop_scope="module")
async def site(clock: Clock) -> AsyncIterator[Site]:
    async with running_site(clock, settings_class=PlainSettings) as site:
        yield site


Place = Callable[[BrowserUser], Awaitable[None]]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_axe_finds_nothing_in_any_look_and_nothing_is_too_wide(alice: BrowserUser, place: Place):
    await place(alice)

    found = [audit async for audit in audits(alice.page)]

    assert [audit.look for audit in found] == LOOKS
    assert [audit.violations for audit in found] == [[]] * len(LOOKS)
    assert min(audit.passed for audit in found) >= 10
    assert [audit.overflow for audit in found] == [0] * len(LOOKS)
