"""`app.bff.testing` in a project of its own: its fixtures, and its messages where something is missing."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from _pytest.fixtures import FixtureFunctionDefinition

import app.bff.testing as plugin
from app.bff.testing import fixtures

ROOT = Path(__file__).parents[2]

INI = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
addopts = -q --strict-markers --strict-config
filterwarnings =
    error
bff_settings = shop:Settings
bff_routes = shop:ROUTES
bff_lifespan = shop:lifespan
"""
SHOP = """
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.bff import ApiHandler, BaseHandler, BffSettings, HttpClientSettings, Services, authenticated, url


class Settings(BffSettings):
    default_http_clients = {"orders": HttpClientSettings(base_url="https://orders.example", token="user")}
    orders_page_size: int = 20


class Account(BaseHandler):
    @authenticated
    async def get(self) -> None:
        self.write(f"<h1>{self.current_user['name']}</h1>")


class Orders(ApiHandler):
    @authenticated
    async def get(self) -> None:
        async with self.create_client("orders").get("orders", params={"page": "1"}) as response:
            self.set_status(response.status)
            self.finish(await response.read())


class Words(BaseHandler):
    def get(self) -> None:
        self.write(f"{self.state} {self.services.settings.orders_page_size}")


ROUTES = [url("/", Account), url("/account", Account), url("/orders", Orders), url("/words", Words)]


@asynccontextmanager
async def lifespan(services: Services) -> AsyncIterator[str]:
    yield "open"
"""
TYPED = """
from app.bff import TypedClient


class Wrong(TypedClient):
    name = "odrers"
"""
IMPORTS = """
from typing import Any

import pytest

from app.bff.testing import Browser, Clock, Failure, Provider, RunningApp, StandInApi, checks, sign_in
"""


async def run_pytest(
    folder: Path, tests: str, *, ini: str = INI, shop: str = SHOP, **environment: str
) -> str:
    """Return what pytest prints in a project with these tests."""
    files = {"pytest.ini": ini, "shop.py": shop, "conftest.py": 'pytest_plugins = ["app.bff.testing"]\n'}
    for name, text in {**files, "test_shop.py": IMPORTS + dedent(tests)}.items():
        (folder / name).write_text(text)
    command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return output.decode()


def examples() -> str:
    """The code in the plugin's docstring, without what is no test."""
    blocks = re.findall(r"^(?:    .*\n|\n)+", plugin.__doc__ or "", re.MULTILINE)
    return "\n".join(dedent(block) for block in blocks if "async def test" in block)


async def test_the_examples_of_the_docstring_pass(tmp_path: Path):
    output = await run_pytest(tmp_path, examples())

    assert output.startswith("." * len(re.findall("^async def test", examples(), re.MULTILINE))), output


async def test_the_application_is_the_one_of_the_ini_file_with_the_settings_of_the_test(tmp_path: Path):
    output = await run_pytest(
        tmp_path,
        """
        @pytest.fixture
        def settings() -> dict[str, Any]:
            return {"orders_page_size": 10}

        async def test_words(browser: Browser) -> None:
            assert (await browser.get("/words")).text == "open 10"
        """,
        BFF_ORDERS_PAGE_SIZE="99",
        BFF_ISSUER="https://elsewhere.example",
    )

    assert output.startswith("."), output


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(
            {"ini": INI.replace("bff_routes = shop:ROUTES\n", "")},
            "needs bff_routes in",
            id="no ini",
        ),
        pytest.param(
            {"ini": INI.replace("shop:ROUTES", "shop:ROADS")},
            "pytest.ini: bff_routes = shop:ROADS cannot be imported",
            id="a wrong name",
        ),
        pytest.param(
            {"shop": SHOP.replace("orders_page_size: int = 20", "orders_page_size: int")},
            "orders_page_size: Field required",
            id="a setting without a default",
        ),
        pytest.param(
            {
                "shop": SHOP
                + "\nfrom app.bff import TypedClient\nclass Typed(TypedClient):\n    name = 'odrers'\n"
            },
            "no HTTP client named 'odrers'",
            id="a typed client without settings",
        ),
    ],
)
async def test_what_is_missing_is_reported(change: dict[str, str], says: str, tmp_path: Path):
    output = await run_pytest(tmp_path, "async def test_app(app: RunningApp) -> None: ...\n", **change)

    assert says in output, output


async def test_a_setting_that_does_not_exist_is_reported(tmp_path: Path):
    tests = """
        @pytest.fixture
        def settings() -> dict[str, Any]:
            return {"order_page_size": 10}

        async def test_app(app: RunningApp) -> None: ...
        """

    assert "Settings has no setting named order_page_size" in await run_pytest(tmp_path, tests)


async def test_a_request_without_an_answer_says_how_to_give_it_one(tmp_path: Path):
    tests = """
        async def test_orders(alice: Browser, api: StandInApi) -> None:
            api.answers("POST", "orders", json={})
            assert (await alice.fetch("/orders")).status_code == 200
        """
    output = await run_pytest(tmp_path, tests)

    assert "The stand-in has no answer to GET orders of the client 'orders'" in output
    assert 'api.answers("GET", "orders", json=...). Answers so far: POST orders.' in output


async def test_without_a_chromium_journeys_are_skipped_and_pytest_says_so(tmp_path: Path):
    tests = """
        async def test_one(page: Any) -> None: ...
        async def test_two(page: Any) -> None: ...
        """
    output = await run_pytest(tmp_path, tests, CHROMIUM=str(tmp_path / "nowhere"))

    assert output.startswith("ss"), output
    assert "Skipped for want of a browser: 2. There is no Chromium: run scripts/test.sh" in output


async def test_sessions_are_in_a_mongodb_of_the_run_if_a_driver_is_named(tmp_path: Path):
    tests = """
        async def test_one(app: RunningApp, alice: Browser) -> None:
            assert app.settings.session_store.startswith("mongodb://127.0.0.1:")
            assert app.settings.mongodb_driver == "pymongo"
            assert await app.session_of(alice)
        """
    output = await run_pytest(tmp_path, tests, PYTEST_ADDOPTS="--bff-mongodb-driver=pymongo")

    assert output.startswith("."), output


def test_all_of_the_fixtures_are_described():
    table = "\n".join(re.findall(r"^\| (`.*?) \|", plugin.__doc__ or "", re.MULTILINE))

    assert set(re.findall(r"`(\w+)`", table)) == {name for name in dir(fixtures) if _is_fixture(name)}


def _is_fixture(name: str) -> bool:
    return isinstance(getattr(fixtures, name), FixtureFunctionDefinition)
