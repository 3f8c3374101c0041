"""A build that changes while it is served, who may load it, and what the settings add to its policy."""

from __future__ import annotations

import gzip
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.bff import url
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.spa.document import hash_of
from app.bff.web.csp import parsed
from tests.bff.application.handlers import Account
from tests.bff.harness import Browser, Clock, running_app
from tests.bff.spa_table import IMMUTABLE, copy_of_build

Serve = Callable[..., AbstractAsyncContextManager[Browser]]


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return copy_of_build(tmp_path)


@pytest.fixture
def serve(build: Path, provider: Provider, api: DemoApi, clock: Clock) -> Serve:
    @asynccontextmanager
    async def serve(**settings: Any) -> AsyncIterator[Browser]:
        chosen = {"routes": [url(r"/account", Account)], "spa": str(build), **settings}
        async with running_app(provider, api, clock=clock, **chosen) as app:
            browser = Browser(app)
            yield browser
            await browser.http.aclose()

    return serve


def policy_of(response: httpx2.Response) -> dict[str, list[str]]:
    return parsed(response.headers["Content-Security-Policy"])


# Changes


def rewrite(file: Path, text: str) -> None:
    """Write it as a deployment does: another file takes its place."""
    new = file.with_name("new")
    new.write_text(text)
    new.replace(file)


async def test_a_changed_page_has_its_new_policy_and_another_etag_at_once(serve: Serve, build: Path):
    async with serve() as browser:
        before = await browser.get("/")
        rewrite(build / "index.html", "<script>second()</script>")
        after = await browser.get("/", If_None_Match=before.headers["ETag"])

    assert (after.status_code, after.text) == (200, "<script>second()</script>")
    assert policy_of(after)["script-src"] == ["'self'", hash_of("second()")]
    assert hash_of("second()") not in policy_of(before)["script-src"]


async def test_a_change_of_the_same_length_at_the_same_second_is_one(serve: Serve, build: Path):
    page = build / "index.html"
    page.write_text("<script>a()</script>")
    times = page.stat()
    async with serve() as browser:
        await browser.get("/")
        rewrite(page, "<script>b()</script>")
        os.utime(page, ns=(times.st_atime_ns, times.st_mtime_ns))
        after = await browser.get("/")

    assert policy_of(after)["script-src"] == ["'self'", hash_of("b()")]


async def test_a_page_is_read_once_as_long_as_it_does_not_change(serve: Serve, build: Path):
    async with serve() as browser:
        pages = browser.app.tornado._app
        await browser.get("/")
        first = pages.page("index.html")
        await browser.get("/items/5")

        assert pages.page("index.html") is first


async def test_a_compressed_page_of_an_earlier_build_is_not_sent(serve: Serve, build: Path):
    (build / "index.html.gz").write_bytes(gzip.compress(b"<script>old()</script>"))
    os.utime(build / "index.html.gz", (1, 1))
    async with serve() as browser:
        response = await browser.get("/", Accept_Encoding="gzip")

    assert "Content-Encoding" not in response.headers
    assert response.content == (build / "index.html").read_bytes()


async def test_one_that_was_made_in_the_same_moment_is(serve: Serve, build: Path):
    for name in ("index.html", "index.html.gz"):  # as in an image whose times are all the same
        os.utime(build / name, (1, 1))
    async with serve() as browser:
        response = await browser.get("/", Accept_Encoding="gzip")

    assert response.headers["Content-Encoding"] == "gzip"


async def test_every_html_file_has_a_policy_of_its_own(serve: Serve):
    async with serve() as browser:
        about, old, docs = [await browser.get(path) for path in ("/about.html", "/OLD.HTM", "/docs/")]

    assert policy_of(about)["script-src"] == ["'self'", hash_of('document.title += "!"')]
    assert policy_of(old)["script-src"] == ["'self'", hash_of("old()")]
    assert policy_of(docs)["script-src"] == ["'self'"]


async def test_the_folder_may_be_a_link_that_a_deployment_switches(serve: Serve, build: Path, tmp_path: Path):
    (tmp_path / "next").mkdir()
    (tmp_path / "next/index.html").write_text("next")
    link = tmp_path / "current"
    link.symlink_to(build)
    async with serve(spa=str(link)) as browser:
        assert "A build" in (await browser.get("/")).text
        link.unlink()
        link.symlink_to(tmp_path / "next")
        assert (await browser.get("/")).text == "next"
        assert (await browser.fetch("/worker.mjs", csrf=False)).status_code == 404


async def test_while_a_build_is_written_anew_there_is_nothing(serve: Serve, build: Path):
    async with serve() as browser:
        (build / "index.html").unlink()
        response = await browser.get("/items/5")

    assert response.status_code == 404


async def test_a_pipe_is_no_file(serve: Serve, build: Path):
    os.mkfifo(build / "pipe.js")
    async with serve() as browser:
        assert (await browser.fetch("/pipe.js", csrf=False)).status_code == 404


@pytest.mark.parametrize(
    "path", ["/static/js/main.3f2a9c1d.js", "/static/media/logo.6ce24c58023cc2f8fd88.svg"]
)
async def test_a_folder_named_static_is_found_behind_that_of_the_engine(serve: Serve, build: Path, path: str):
    file = build / path[1:]
    file.parent.mkdir(parents=True)
    file.write_text("built")
    (build / "static/css").mkdir(exist_ok=True)
    (build / "static/css/app.css").write_text("built")
    async with serve() as browser:
        found = await browser.fetch(path, csrf=False)
        ours = await browser.fetch("/static/css/app.css", csrf=False)

    assert (found.text, found.headers["Cache-Control"]) == ("built", IMMUTABLE)
    assert ours.text != "built"


# Who may load it


async def test_signed_in_or_not_it_is_the_same(serve: Serve):
    async with serve() as browser:
        await browser.login("alice")
        signed_in = await browser.get("/items/5")
        browser.delete_cookie("bff")
        signed_out = await browser.get("/items/5")

    assert signed_in.content == signed_out.content
    assert signed_in.headers["ETag"] == signed_out.headers["ETag"]
    assert "Set-Cookie" not in signed_in.headers


@pytest.mark.parametrize("path", ["/", "/items/5?sort=date", "/about.html"])
async def test_with_bff_spa_signed_in_a_navigation_goes_to_the_login_first(serve: Serve, path: str):
    async with serve(spa_signed_in=True) as browser:
        start = await browser.get(path)
        assert start.status_code == 302
        assert httpx2.URL(start.headers["Location"]).params["returnUrl"] == path

        await browser.login("alice")
        assert (await browser.get(path)).status_code == 200


async def test_its_files_stay_public_and_other_requests_are_what_they_were(serve: Serve):
    async with serve(spa_signed_in=True) as browser:
        assert (await browser.fetch("/worker.mjs", csrf=False)).status_code == 200
        assert (await browser.fetch("/items/5", csrf=False)).status_code == 404
        assert (await browser.get("/missing.js")).status_code == 404
        assert (await browser.get("/account")).status_code == 302


async def test_a_link_of_another_site_arrives_with_its_session(serve: Serve):
    async with serve(spa_signed_in=True) as browser:
        await browser.login("alice")
        response = await browser.navigate_from_other_site("/items/5")

    assert response.status_code == 200
    assert 'content="0; url=/items/5"' in response.text


# What BFF_CSP adds


async def test_bff_csp_counts_for_the_app_and_for_every_page(serve: Serve):
    added = '{"img-src": ["https://tiles.example.com"], "style-src": ["\'unsafe-inline\'"]}'
    async with serve(csp=added) as browser:
        await browser.login("alice")
        app, page, missing = [await browser.get(path) for path in ("/", "/account", "/missing.png")]

    assert policy_of(app)["img-src"] == ["'self'", "data:", "blob:", "https://tiles.example.com"]
    assert policy_of(app)["style-src"] == ["'self'", "'unsafe-inline'"]  # hashes would switch it off
    assert (
        policy_of(page)["img-src"] == policy_of(missing)["img-src"] == ["'self'", "https://tiles.example.com"]
    )


async def test_another_policy_is_another_page_to_caches(serve: Serve):
    async with serve() as browser:
        before = (await browser.get("/")).headers["ETag"]
    async with serve(csp='{"img-src": ["https://tiles.example.com"]}') as browser:
        assert (await browser.get("/", If_None_Match=before)).status_code == 200
