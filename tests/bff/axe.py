"""axe-core on a page, in every look; and the ways to the pages of the engine's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Page, expect

from tests.bff.browser_users import BrowserUser

AXE = Path(__file__).parents[2] / ".venv/node/node_modules/axe-core/axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = "tags => axe.run({runOnly: tags, resultTypes: ['violations', 'incomplete']})"
SCROLLED = "() => { scrollTo(9999, 0); const x = scrollX; scrollTo(0, 0); return x; }"
HEIGHT = 800


@dataclass(frozen=True)
class Look:
    scheme: Any
    width: int

    async def put_on(self, page: Page) -> None:
        await page.emulate_media(
            color_scheme=self.scheme, reduced_motion="reduce"
        )  # or colours are in between
        await page.set_viewport_size({"width": self.width, "height": HEIGHT})

    def __str__(self) -> str:
        return f"{self.scheme}, {self.width} px"


LOOKS = [Look(scheme, width) for scheme in ("light", "dark") for width in (1280, 360)]


@dataclass(frozen=True)
class Audit:
    """What axe-core found in one look: rules, and for each violation the elements."""

    look: Look
    violations: list[str]
    undecided: list[str]
    passed: int
    overflow: int  # CSS pixels by which the page scrolls sideways


async def audits(page: Page) -> AsyncIterator[Audit]:
    """Audit the page as it is now, in every look."""
    await page.evaluate(AXE.read_text())
    for look in LOOKS:
        await look.put_on(page)
        found = await page.evaluate(RUN, TAGS)
        yield Audit(
            look,
            [describe_rule(rule) for rule in found["violations"]],
            [describe_rule(rule) for rule in found["incomplete"]],
            len(found["passes"]),
            await page.evaluate(SCROLLED),
        )


def describe_rule(rule: dict[str, Any]) -> str:
    return f"{rule['id']}: {', '.join(str(node['target']) for node in rule['nodes'])}"


async def lost(alice: BrowserUser) -> None:
    await alice.goes_to("/nowhere")
    await alice.sees("Not Found")


async def back_from_the_provider_too_late(alice: BrowserUser) -> None:
    await alice.goes_to("/bff/callback?state=unknown")
    await alice.sees("Signing in did not work")


async def moving_on(alice: BrowserUser) -> None:
    """Between the provider and the requested page, which never loads here."""
    await alice.page.route(f"{alice.site.url}/account", lambda route: route.fulfill(status=204))
    await alice.goes_to("/bff/login?returnUrl=/account")
    await alice.chooses()
    await alice.page.wait_for_url("**/bff/callback?*")
    await alice.sees("One moment")
    await stays(alice)


async def silent_login(alice: BrowserUser) -> None:
    await alice.goes_to("/bff/silent-login")
    await alice.sees("You are not signed in")
    await stays(alice)


async def stays(alice: BrowserUser) -> None:
    """On a page that shows nothing at first, because it is there for a moment only."""
    await expect(alice.page.get_by_role("link", name="Continue")).to_be_visible()


PLACES = [
    lost,
    back_from_the_provider_too_late,
    moving_on,
    silent_login,
]
