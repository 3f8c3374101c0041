"""Images, downloads and event streams of an API in a real browser."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import expect

from app.bff.dev.provider import Failure
from tests.bff.browser_users import BrowserUser, Site, running_site
from tests.bff.harness import Clock

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one loop, so that one Chromium serves all tests

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HTML = b"<!doctype html><title>theirs</title><h1>Report</h1><script>document.title = 'ran'</script>"
SHOWS = """path => new Promise((resolve, reject) => {
  const image = Object.assign(new Image(), {onload: () => resolve(image.naturalWidth), onerror: reject});
  image.src = path;
})"""
HEARS = """path => new Promise((resolve, reject) => {
  const source = new EventSource(path);
  source.onmessage = event => { source.close(); resolve(event.data) };
  source.onerror = reject;
})"""
LINKS = """([path, download]) => {
  const link = Object.assign(document.createElement("a"), {href: path, textContent: "The report"});
  if (download) link.download = "";
  document.querySelector("main").prepend(link);
}"""


@pytest_asyncio.fixture(loop_scope="module")
async def site(clock: Clock) -> AsyncIterator[Site]:
    apis = [{"path": "/api", "client": "apiClient", "csrf": "same-origin"}]
    async with running_site(clock, remote_apis=apis) as site:
        yield site


async def downloads(alice: BrowserUser, *, attribute: bool) -> tuple[str, bytes]:
    """Follow a link to the report; return the name and the content of the file that is saved."""
    await alice.goes_to("/")
    await alice.page.evaluate(LINKS, ["/api/echo/report.html", attribute])
    async with alice.page.expect_download() as started:
        await alice.clicks("The report")
    download = await started.value
    path = await download.path()
    return download.suggested_filename, path.read_bytes()


async def test_images_downloads_and_event_streams_come_from_an_api_and_no_page(
    site: Site, alice: BrowserUser
):
    await alice.signs_in()
    site.api.fails["echo"] = Failure(200, PNG, {"Content-Type": "image/png"})
    assert await alice.page.evaluate(SHOWS, "/api/echo/picture.png") == 1

    site.api.fails["echo"] = Failure(200, b"data: hello\n\n", {"Content-Type": "text/event-stream"})
    assert await alice.page.evaluate(HEARS, "/api/echo/events") == "hello"

    site.api.fails["echo"] = Failure(200, HTML, {"Content-Type": "text/html"})
    for attribute in (True, False):
        assert await downloads(alice, attribute=attribute) == ("report.html", HTML)
    await expect(alice.page).not_to_have_title("theirs")

    site.api.fails["echo"] = Failure(404, HTML, {"Content-Type": "text/html"})
    await alice.goes_to("/")
    await alice.page.evaluate(LINKS, ["/api/echo/report.html", False])
    await alice.clicks("The report")
    await alice.sees("Report")
    await expect(alice.page).to_have_title("theirs")  # its script has not run
    assert await alice.page.evaluate("origin") == "null"
